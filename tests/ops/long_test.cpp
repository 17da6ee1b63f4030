// Work on many elements is cut into pieces, tiles and blocks. None of them may show: an operation on a long
// array or a large batch does what it does to each part alone.
#include <banach/engine/grad.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

using namespace banach;
using namespace banach::test;

namespace {

double rounding(DType dtype) {
  return dtype == DType::f32 ? std::numeric_limits<float>::epsilon() : std::numeric_limits<double>::epsilon();
}

/// max |a - b| / max(1, |b|); a NaN agrees with a NaN.
double relative_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0.0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    const double x = a.at(i), y = b.at(i);
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    const double difference = std::abs(x - y) / std::max(1.0, std::abs(y));
    largest =
        std::max(largest, std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference);
  }
  return largest;
}

/// Copies of `parts` in turn, one below the other: (copies, shape of a part).
Tensor stacked(const Tensors& parts, std::int64_t copies) {
  Ints extents{copies};
  for (int i = 0; i < parts[0].rank(); ++i) extents.push_back(parts[0].shape()[i]);
  Tensor result = Tensor::empty(Shape(extents), parts[0].dtype());
  dispatch_any(result.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* to = result.mutable_data<T>();
    for (std::int64_t k = 0; k < copies; ++k, to += parts[0].size())
      std::copy_n(parts[static_cast<std::size_t>(k) % parts.size()].data<T>(), parts[0].size(), to);
  });
  return result;
}

Tensor to_dtype(const Tensor& x, DType dtype) { return is_floating(x.dtype()) ? x.to(dtype) : x; }

}  // namespace

TEST_CASE("elementwise operations do to every element of a long array what they do to it alone", "[long]") {
  const DType dtype = GENERATE(DType::f64, DType::f32);
  const std::size_t kinds = 7;  // different parts in turn, so that one cannot stand for its neighbour
  const std::int64_t length = 140000;
  int covered = 0;
  for (const Op* op : ops()) {
    if (op->def().kind != OpKind::elementwise || !op->def().samples) continue;
    std::vector<Samples> seeds;
    for (std::size_t seed = 0; seed < kinds; ++seed) {
      SampleGen gen(seed);
      seeds.push_back(op->def().samples(gen));
    }
    for (std::size_t i = 0; i < seeds[0].size(); ++i) {
      const Sample& first = seeds[0][i];
      const Shape shape = apply(*op, Vars(first.inputs.begin(), first.inputs.end()), first.attrs).shape();
      bool alike = shape.size() > 0 && shape.rank() < 8, any_full = false;
      for (const Samples& samples : seeds)
        for (std::size_t k = 0; k < first.inputs.size(); ++k)
          alike = alike && samples[i].inputs[k].shape() == first.inputs[k].shape();
      for (const Tensor& input : first.inputs) any_full = any_full || input.shape() == shape;
      if (!alike || !any_full) continue;
      INFO(op->name() << ", sample " << i << ", " << name(dtype));
      const std::int64_t copies = length / shape.size() + 1;
      // An input that broadcasts stays as it is.
      const auto inputs_of = [&](std::size_t seed, bool whole) {
        Tensors inputs;
        for (std::size_t k = 0; k < first.inputs.size(); ++k) {
          const bool full = first.inputs[k].shape() == shape;
          Tensors parts;
          for (std::size_t s = 0; s < kinds; ++s) parts.push_back(to_dtype(seeds[s][i].inputs[k], dtype));
          inputs.push_back(full && whole ? stacked(parts, copies) : parts[full ? seed : 0]);
        }
        return inputs;
      };
      const auto run = [&](const Tensors& inputs, const Tensor& cotangent) {
        const Tape tape;
        Vars at, wrt;
        for (const Tensor& input : inputs) {
          at.push_back(is_floating(input.dtype()) ? leaf(input) : Var(input));
          if (is_floating(input.dtype())) wrt.push_back(at.back());
        }
        const Var y = apply(*op, at, first.attrs);
        Tensors results{y.value()};
        if (!y.recorded()) return results;
        for (const Var& g : grad(y, wrt, {.cotangent = Var(cotangent)})) results.push_back(g.value());
        return results;
      };
      const Tensor u = normal({copies * shape.size()}, 91).to(dtype);
      Ints extents{copies};
      for (int a = 0; a < shape.rank(); ++a) extents.push_back(shape[a]);
      const Tensors whole = run(inputs_of(0, true), u.reshape(Shape(extents)));
      ++covered;
      for (std::int64_t at :
           {std::int64_t{0}, (1 << 15) / shape.size(), (1 << 15) / shape.size() + 1, (1 << 16) / shape.size(),
            (3 << 15) / shape.size() + 2, copies - 2, copies - 1}) {
        const Tensors part = run(inputs_of(static_cast<std::size_t>(at) % kinds, false),
                                 u.rows(at * shape.size(), (at + 1) * shape.size()).clone().reshape(shape));
        REQUIRE(part.size() == whole.size());
        for (std::size_t k = 0; k < part.size(); ++k) {
          if (!(part[k].shape() == shape)) continue;  // of an input that broadcasts
          INFO("part " << at << ", result " << k);
          CHECK(relative_difference(whole[k].rows(at, at + 1), part[k]) <= 16 * rounding(dtype));
        }
      }
    }
  }
  CHECK(covered >= 100);
}

TEST_CASE("the entries of a large batch are worked on as if each were alone", "[long]") {
  struct Case {
    const char* what;
    std::int64_t batch;
    Shape one;
    std::function<Var(const Var&)> f;  // of (n, shape of one), for any n
  };
  const DType dtype = GENERATE(DType::f64, DType::f32);
  const auto constant = [&](const Shape& shape, std::uint64_t seed) {
    return Var(normal(shape, seed, 0.5).to(dtype));
  };
  const auto integers = [](std::initializer_list<std::int64_t> values) {
    Tensor t = Tensor::empty({static_cast<std::int64_t>(values.size())}, DType::i64);
    std::copy(values.begin(), values.end(), t.mutable_data<std::int64_t>());
    return Var(t);
  };
  const Var w35 = constant({3, 5}, 1), filter = constant({4, 3, 3, 2}, 2),
            grouped = constant({4, 1, 2, 3}, 3), point = constant({5, 3, 1, 1}, 4),
            spread = constant({3, 2, 3, 2}, 5), line = constant({4, 3, 3}, 6), gamma = constant({6}, 7),
            beta = constant({6}, 8), mean6 = constant({6}, 9), variance6 = square(constant({6}, 10)) + 0.5,
            identity = Var(Tensor::eye(4, dtype)), row = constant({7}, 11), distances = constant({33, 4}, 12),
            bias = constant({4}, 13);
  const auto positive = [&](const Var& x) { return matmul(x, x, {.transpose_b = true}) + identity; };
  const std::vector<Case> cases{
      {"softmax", 4000, {37}, [](const Var& x) { return softmax(x); }},
      {"softmax of columns", 300, {37, 20}, [](const Var& x) { return softmax(x, 1); }},
      {"log_softmax", 4000, {37}, [](const Var& x) { return log_softmax(x); }},
      {"logsumexp", 4000, {37}, [](const Var& x) { return logsumexp(x, {-1}); }},
      {"logsumexp of columns", 300, {37, 20}, [](const Var& x) { return logsumexp(x, {1}); }},
      {"normalize", 4000, {37}, [](const Var& x) { return normalize(x); }},
      {"layer_norm", 9000, {6}, [&](const Var& x) { return layer_norm(x, gamma, beta); }},
      {"group_norm", 900, {6, 11}, [&](const Var& x) { return group_norm(x, 3, gamma, beta); }},
      {"batch_norm_by",
       900,
       {6, 11},
       [&](const Var& x) { return batch_norm_by(x, mean6, variance6, gamma, beta); }},
      {"sum", 4000, {37}, [](const Var& x) { return sum(x * x, {1}); }},
      {"sum of columns", 300, {37, 20}, [](const Var& x) { return sum(x * x, {1}); }},
      {"mean", 4000, {37}, [](const Var& x) { return mean(x * x, {1}); }},
      {"max", 4000, {37}, [](const Var& x) { return max(x, {1}); }},
      {"min of columns", 300, {37, 20}, [](const Var& x) { return min(x, {1}); }},
      {"var", 4000, {37}, [](const Var& x) { return var(x, {1}); }},
      {"var of columns", 300, {37, 20}, [](const Var& x) { return var(x, {1}); }},
      {"norm", 4000, {37}, [](const Var& x) { return norm(x, {1}); }},
      {"norm of columns", 300, {37, 20}, [](const Var& x) { return norm(x, {1}, 1.0); }},
      {"cumsum", 4000, {37}, [](const Var& x) { return cumsum(x, 1); }},
      {"cumsum of columns", 300, {11, 20}, [](const Var& x) { return cumsum(x, 1, true); }},
      {"sort", 4000, {17}, [](const Var& x) { return sort(x).values; }},
      {"sort of columns", 300, {17, 20}, [](const Var& x) { return sort(x, 1, true).values; }},
      {"topk", 4000, {17}, [](const Var& x) { return topk(x, 5).values; }},
      {"matmul", 9000, {3}, [&](const Var& x) { return matmul(x, w35); }},
      {"matmul, shared", 700, {4, 3}, [&](const Var& x) { return matmul(x, w35); }},
      {"matmul, batched", 900, {4, 3}, [](const Var& x) { return matmul(x, x, {.transpose_a = true}); }},
      {"conv2d", 90, {3, 12, 11}, [&](const Var& x) { return conv2d(x, filter, {.padding = 1}); }},
      {"conv2d, strides",
       90,
       {3, 12, 11},
       [&](const Var& x) {
         return conv2d(x, filter, {.stride = {2, 1}, .dilation = {1, 2}});
       }},
      {"conv2d, groups",
       90,
       {4, 12, 11},
       [&](const Var& x) {
         return conv2d(x, grouped, {.padding = {0, 1}, .groups = 4});
       }},
      {"conv2d, one pixel", 300, {3, 5, 5}, [&](const Var& x) { return conv2d(x, point); }},
      {"conv2d, small images",
       700,
       {3, 3, 2},
       [&](const Var& x) { return conv2d(x, filter, {.padding = 1}); }},
      {"conv_transpose2d",
       90,
       {3, 7, 6},
       [&](const Var& x) { return conv_transpose2d(x, spread, {.stride = 2}); }},
      {"conv1d",
       300,
       {3, 40},
       [&](const Var& x) { return conv1d(x, line, {.dilation = 2, .causal = true}); }},
      {"max_pool2d",
       300,
       {2, 9, 10},
       [](const Var& x) { return max_pool2d(x, {.kernel = 3, .stride = Pair(2), .padding = 1}); }},
      {"avg_pool2d",
       300,
       {2, 9, 10},
       [](const Var& x) { return avg_pool2d(x, {.kernel = 3, .stride = Pair(2), .padding = 1}); }},
      {"adaptive_avg_pool2d",
       300,
       {2, 9, 10},
       [](const Var& x) {
         return adaptive_avg_pool2d(x, {4, 3});
       }},
      {"adaptive_max_pool2d",
       300,
       {2, 9, 10},
       [](const Var& x) {
         return adaptive_max_pool2d(x, {4, 3});
       }},
      {"upsample_nearest",
       300,
       {2, 5, 7},
       [](const Var& x) {
         return upsample_nearest(x, {2, 3});
       }},
      {"upsample_bilinear",
       300,
       {2, 5, 7},
       [](const Var& x) {
         return upsample_bilinear(x, {9, 11});
       }},
      {"attention", 40, {2, 33, 4}, [](const Var& x) { return scaled_dot_product_attention(x, x, tanh(x)); }},
      {"causal attention",
       40,
       {2, 33, 4},
       [](const Var& x) { return scaled_dot_product_attention(x, x, tanh(x), {.causal = true}); }},
      {"relative attention",
       40,
       {2, 33, 4},
       [&](const Var& x) { return relative_attention(x, x, tanh(x), distances, bias, bias); }},
      {"inverse", 900, {4, 4}, [&](const Var& x) { return inverse(positive(x)); }},
      {"slogdet", 900, {4, 4}, [&](const Var& x) { return slogdet(positive(x)).log_abs; }},
      {"solve", 900, {4, 4}, [&](const Var& x) { return solve(positive(x), x); }},
      {"solve_spd", 900, {4, 4}, [&](const Var& x) { return solve_spd(positive(x), x); }},
      {"cholesky", 900, {4, 4}, [&](const Var& x) { return cholesky(positive(x)); }},
      {"triangles", 900, {4, 4}, [](const Var& x) { return tril(x) - 2.0 * triu(x, 1); }},
      {"diagonal", 900, {5, 4}, [](const Var& x) { return diagonal_matrix(diagonal(x)); }},
      {"trace", 900, {4, 4}, [](const Var& x) { return trace(matmul(x, x)); }},
      {"take",
       900,
       {9, 11},
       [&](const Var& x) {
         return take(x, 1, integers({8, 0, 0, 3}));
       }},
      {"take of the last axis",
       900,
       {9, 11},
       [&](const Var& x) {
         return take(x, 2, integers({8, 0, 0, 3}));
       }},
      {"flip", 900, {9, 11}, [](const Var& x) { return flip(x, {1}); }},
      {"flip of the last axis", 900, {9, 11}, [](const Var& x) { return flip(x, {2}); }},
      {"permute",
       900,
       {9, 11},
       [](const Var& x) {
         return permute(x, {0, 2, 1});
       }},
      {"slice", 900, {9, 11}, [](const Var& x) { return slice(x, 2, 1, 10, 3); }},
      {"concat",
       900,
       {9, 11},
       [](const Var& x) {
         return concat({x, tanh(x)}, 1);
       }},
      {"stack",
       900,
       {9, 11},
       [](const Var& x) {
         return stack({x, tanh(x)}, -1);
       }},
      {"repeat",
       900,
       {9, 11},
       [](const Var& x) {
         return repeat(x, {1, 2, 3});
       }},
      {"pad",
       900,
       {9, 11},
       [](const Var& x) {
         return pad(x, {0, 1, 2}, {0, 0, 1}, 0.5);
       }},
      {"broadcasting",
       900,
       {9, 7},
       [&](const Var& x) { return x * row + sum(x, {2}, true) / (2.0 + row * row); }},
      {"cast", 4000, {37}, [&](const Var& x) { return cast(cast(x, DType::f32), dtype); }},
  };
  for (const Case& c : cases) {
    INFO(c.what << ", " << name(dtype));
    Ints extents{c.batch};
    for (int a = 0; a < c.one.rank(); ++a) extents.push_back(c.one[a]);
    const Tensor x = normal(Shape(extents), 51).to(dtype);
    Tensor u;
    const auto both = [&](std::int64_t begin, std::int64_t end) {
      const Tape tape;
      const Var at = leaf(x.rows(begin, end).clone());
      const Var y = c.f(at);
      if (!u.defined()) u = normal(y.shape(), 52).to(dtype);
      const Var cotangent(u.rows(begin, end).clone());
      return Tensors{y.value(), grad(y, {at}, {.cotangent = cotangent})[0].value()};
    };
    const Tensors whole = both(0, c.batch);
    for (const std::int64_t begin : {std::int64_t{0}, std::int64_t{1}, c.batch / 5, c.batch / 3, c.batch / 2,
                                     c.batch - c.batch / 5, c.batch - 2}) {
      const std::int64_t end = begin + 1 + begin % 2;
      const Tensors part = both(begin, end);
      for (std::size_t k = 0; k < 2; ++k) {
        INFO((k ? "gradient" : "value") << " of " << begin << " to " << end);
        CHECK(relative_difference(whole[k].rows(begin, end), part[k]) <= 2000 * rounding(dtype));
      }
    }
  }
}

TEST_CASE("rows longer than any piece follow their definitions", "[long]") {
  const std::int64_t n = 150001;
  const Tensor x = normal({n}, 61), u = normal({n}, 62);
  const Tape tape;
  const Var at = leaf(x);
  const auto pulled = [&](const Var& y) {
    return grad(y, {at}, {.cotangent = Var(u.rows(0, y.size()).clone().reshape(y.shape()))})[0].value();
  };
  long double total = 0, squares = 0, exponentials = 0, weighted = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    total += x.at(i);
    squares += static_cast<long double>(x.at(i)) * x.at(i);
    exponentials += std::exp(static_cast<long double>(x.at(i)));
    weighted += static_cast<long double>(u.at(i)) * std::exp(static_cast<long double>(x.at(i)));
  }
  const auto mean_of = static_cast<double>(total / n), u0 = u.at(0);
  const auto check = [&](const char* what, const Var& y, const std::function<double(std::int64_t)>& value,
                         const std::function<double(std::int64_t)>& slope) {
    INFO(what);
    double worst_value = 0.0, worst_slope = 0.0;
    const Tensor g = pulled(y);
    for (std::int64_t i = 0; i < y.size(); ++i)
      worst_value =
          std::max(worst_value, std::abs(y.value().at(i) - value(i)) / std::max(1.0, std::abs(value(i))));
    for (std::int64_t i = 0; i < n; ++i) worst_slope = std::max(worst_slope, std::abs(g.at(i) - slope(i)));
    CHECK(worst_value < 1e-11);
    CHECK(worst_slope < 1e-11);
  };
  const auto share = [&](std::int64_t i) {
    return static_cast<double>(std::exp(static_cast<long double>(x.at(i))) / exponentials);
  };
  const auto average = static_cast<double>(weighted / exponentials);
  check("softmax", softmax(at), share, [&](std::int64_t i) { return share(i) * (u.at(i) - average); });
  check(
      "logsumexp", logsumexp(at), [&](std::int64_t) { return static_cast<double>(std::log(exponentials)); },
      [&](std::int64_t i) { return u0 * share(i); });
  check(
      "mean", mean(at), [&](std::int64_t) { return mean_of; },
      [&](std::int64_t) { return u0 / static_cast<double>(n); });
  const auto length = static_cast<double>(std::sqrt(squares));
  check(
      "norm", norm(at), [&](std::int64_t) { return length; },
      [&](std::int64_t i) { return u0 * x.at(i) / length; });
  check(
      "var", var(at),
      [&](std::int64_t) { return static_cast<double>((squares - total * total / n) / (n - 1)); },
      [&](std::int64_t i) { return u0 * 2.0 * (x.at(i) - mean_of) / static_cast<double>(n - 1); });
  std::vector<double> running(static_cast<std::size_t>(n)), behind(static_cast<std::size_t>(n));
  std::partial_sum(x.values<double>().begin(), x.values<double>().end(), running.begin());
  long double rest = 0;
  for (std::int64_t i = n - 1; i >= 0; --i)
    behind[static_cast<std::size_t>(i)] = static_cast<double>(rest += static_cast<long double>(u.at(i)));
  check(
      "cumsum", cumsum(at, 0), [&](std::int64_t i) { return running[static_cast<std::size_t>(i)]; },
      [&](std::int64_t i) { return behind[static_cast<std::size_t>(i)]; });
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return x.at(a) < x.at(b); });
  std::vector<double> back(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i)
    back[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = u.at(i);
  check(
      "sort", sort(at).values, [&](std::int64_t i) { return x.at(order[static_cast<std::size_t>(i)]); },
      [&](std::int64_t i) { return back[static_cast<std::size_t>(i)]; });
  CHECK(argmax(at).value().at(0) == static_cast<double>(order.back()));
  CHECK(argmin(at).value().at(0) == static_cast<double>(order.front()));
}

TEST_CASE("planes of any width are moved whole, in any order of axes", "[long]") {
  // Widths on either side of where tiles hold one row alone, and of where a row is a piece by itself.
  for (const Shape& shape :
       {Shape{5, 2500}, Shape{2500, 5}, Shape{40, 2049}, Shape{3, 20, 2500}, Shape{3, 2500, 20},
        Shape{2, 40000, 3}, Shape{3, 2, 40000}, Shape{4, 5, 6, 700}}) {
    const Tensor x = Tensor::arange(shape.size()).reshape(shape).to(DType::f64);
    Axes axes;
    for (int i = 0; i < shape.rank(); ++i) axes.push_back(i);
    do {
      const Tensor y = permute(Var(x), axes).value();
      Ints strides;  // of x, along the axes of y
      for (const std::int64_t axis : axes) {
        std::int64_t stride = 1;
        for (int later = static_cast<int>(axis) + 1; later < shape.rank(); ++later) stride *= shape[later];
        strides.push_back(stride);
      }
      std::int64_t wrong = 0;
      for (std::int64_t i = 0; i < y.size(); ++i) {
        std::int64_t rest = i, from = 0;
        for (int a = shape.rank() - 1; a >= 0; --a) {
          from += rest % y.shape()[a] * strides[a];
          rest /= y.shape()[a];
        }
        wrong += y.at(i) != static_cast<double>(from);
      }
      INFO(shape.to_string() << " to " << y.shape().to_string());
      CHECK(wrong == 0);
    } while (std::next_permutation(axes.begin(), axes.end()));
  }
}

TEST_CASE("losses of large batches follow their definitions", "[long]") {
  const std::int64_t n = 70001, classes = 3;
  const double count = static_cast<double>(n * classes);
  const Tensor x = normal({n, classes}, 71), t = normal({n, classes}, 72);
  Tensor chances = Tensor::empty({n, classes}, DType::f64), labels = Tensor::empty({n}, DType::i64);
  for (std::int64_t i = 0; i < chances.size(); ++i)
    chances.mutable_data<double>()[i] = 1.0 / (1.0 + std::exp(-t.at(i)));
  for (std::int64_t i = 0; i < n; ++i) labels.mutable_data<std::int64_t>()[i] = (i * i + i / 7) % classes;
  const Tape tape;
  const Var at = leaf(x);
  const auto check = [&](const char* what, const Var& loss, const std::function<double(std::int64_t)>& term,
                         const std::function<double(std::int64_t)>& slope) {
    INFO(what);
    long double total = 0;
    for (std::int64_t i = 0; i < x.size(); ++i) total += term(i);
    CHECK(loss.item() == Approx(static_cast<double>(total)).epsilon(1e-12));
    const Tensor g = grad(loss, {at})[0].value();
    double worst = 0.0;
    for (std::int64_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(g.at(i) - slope(i)));
    CHECK(worst < 1e-17);
  };
  check(
      "mse", mse(at, Var(t)), [&](std::int64_t i) { return std::pow(x.at(i) - t.at(i), 2) / count; },
      [&](std::int64_t i) { return 2.0 * (x.at(i) - t.at(i)) / count; });
  check(
      "huber", huber(at, Var(t), 0.7),
      [&](std::int64_t i) {
        const double d = std::abs(x.at(i) - t.at(i));
        return (d <= 0.7 ? 0.5 * d * d : 0.7 * (d - 0.35)) / count;
      },
      [&](std::int64_t i) { return std::clamp(x.at(i) - t.at(i), -0.7, 0.7) / count; });
  check(
      "bce_with_logits", bce_with_logits(at, Var(chances)),
      [&](std::int64_t i) { return (std::log1p(std::exp(x.at(i))) - chances.at(i) * x.at(i)) / count; },
      [&](std::int64_t i) { return (1.0 / (1.0 + std::exp(-x.at(i))) - chances.at(i)) / count; });
  check(
      "kl_div", kl_div(at, Var(chances)),
      [&](std::int64_t i) {
        return chances.at(i) * (std::log(chances.at(i)) - x.at(i)) / static_cast<double>(n);
      },
      [&](std::int64_t i) { return -chances.at(i) / static_cast<double>(n); });
  const auto share = [&](std::int64_t i) {
    double all = 0.0;
    for (std::int64_t k = i / classes * classes; k < (i / classes + 1) * classes; ++k)
      all += std::exp(x.at(k));
    return std::exp(x.at(i)) / all;
  };
  const auto chosen = [&](std::int64_t i) {
    return labels.at(i / classes) == static_cast<double>(i % classes);
  };
  check(
      "cross_entropy", cross_entropy(at, Var(labels)),
      [&](std::int64_t i) { return chosen(i) ? -std::log(share(i)) / static_cast<double>(n) : 0.0; },
      [&](std::int64_t i) { return (share(i) - (chosen(i) ? 1.0 : 0.0)) / static_cast<double>(n); });
}

TEST_CASE("many indices pick and add up as few do", "[long]") {
  const std::int64_t rows = 60, width = 7, picks = 30011;
  const Tensor table = normal({rows, width}, 81), u = normal({picks, width}, 82);
  Tensor index = Tensor::empty({picks}, DType::i64);
  for (std::int64_t i = 0; i < picks; ++i) index.mutable_data<std::int64_t>()[i] = (i * i + i / 11) % rows;
  const auto row = [&](std::int64_t i) { return static_cast<std::int64_t>(index.at(i)); };
  std::vector<double> added(static_cast<std::size_t>(rows * width), 0.0);
  for (std::int64_t i = 0; i < picks; ++i)
    for (std::int64_t j = 0; j < width; ++j)
      added[static_cast<std::size_t>(row(i) * width + j)] += u.at(i * width + j);
  const Tensor sums = Tensor::from(std::span<const double>(added), {rows, width});
  const Tape tape;
  const Var at = leaf(table);
  const auto check = [&](const Var& y, const Tensor& g) {
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < picks; ++i)
      for (std::int64_t j = 0; j < width; ++j)
        wrong += y.value().at(i * width + j) != table.at(row(i) * width + j);
    CHECK(wrong == 0);
    CHECK(relative_difference(g, sums) < 1e-12);
  };
  const Var rows_of = embedding(at, Var(index)), taken = take(at, 0, Var(index));
  check(rows_of, grad(rows_of, {at}, {.cotangent = Var(u)})[0].value());
  check(taken, grad(taken, {at}, {.cotangent = Var(u)})[0].value());
  // Along the last axis, each row with indices of its own.
  const Tensor wide = transpose(Var(table)).value(), back = transpose(Var(u)).value();
  Tensor indices = Tensor::empty({width, picks}, DType::i64);
  for (std::int64_t i = 0; i < indices.size(); ++i)
    indices.mutable_data<std::int64_t>()[i] = static_cast<std::int64_t>(index.at(i % picks));
  const Var wide_at = leaf(wide), gathered = gather(wide_at, 1, Var(indices));
  check(transpose(gathered), transpose(grad(gathered, {wide_at}, {.cotangent = Var(back)})[0]).value());
  const Tensor scattered = scatter_add({width, rows}, 1, Var(indices), Var(back)).value();
  CHECK(relative_difference(transpose(Var(scattered)).value(), sums) < 1e-12);
  const Tensor hot = one_hot(Var(index), rows, DType::f64).value();
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < hot.size(); ++i) wrong += hot.at(i) != (row(i / rows) == i % rows ? 1.0 : 0.0);
  CHECK(wrong == 0);
}

TEST_CASE("sizes whose products would overflow are refused, whichever axis is long", "[long]") {
  // Without samples, so that nothing has to be held; what just fits is not refused.
  const std::int64_t k12 = 1 << 12, k18 = 1 << 18, k20 = 1 << 20, huge = (std::int64_t{1} << 31) + 1;
  const auto image = [](std::int64_t h, std::int64_t w) { return Var(Tensor::zeros({0, 1, h, w})); };
  const Var filter(Tensor::zeros({1, 1, 2, 2})), small = image(9, 9);
  for (const bool turned : {false, true}) {
    const auto pair = [&](std::int64_t a, std::int64_t b) { return turned ? Pair(b, a) : Pair(a, b); };
    const auto sized = [&](std::int64_t a, std::int64_t b) { return turned ? image(b, a) : image(a, b); };
    CHECK_THROWS_AS(max_pool2d(sized(k12, k20)), ShapeError);
    CHECK_THROWS_AS(avg_pool2d(sized(k12, k20)), ShapeError);
    CHECK_THROWS_AS(adaptive_avg_pool2d(sized(k12, k20), 2), ShapeError);
    CHECK_THROWS_AS(adaptive_max_pool2d(sized(k12, k20), 2), ShapeError);
    CHECK_NOTHROW(max_pool2d(sized(k12, k18)));
    CHECK_NOTHROW(avg_pool2d(sized(k12, k18)));
    CHECK_NOTHROW(adaptive_avg_pool2d(sized(k12, k18), 2));
    CHECK_NOTHROW(adaptive_max_pool2d(sized(k12, k18), 2));
    CHECK_THROWS_AS(max_pool2d(small, {.kernel = pair(1, huge)}), ValueError);
    CHECK_THROWS_AS(max_pool2d(small, {.stride = pair(1, huge)}), ValueError);
    CHECK_THROWS_AS(max_pool2d(small, {.kernel = 2, .padding = pair(2, 0)}), ValueError);
    CHECK_THROWS_AS(avg_pool2d(small, {.kernel = 2, .padding = pair(0, 2)}), ValueError);
    CHECK_THROWS_AS(max_pool2d(small, {.kernel = 2, .padding = pair(-1, 0)}), ValueError);
    CHECK_THROWS_AS(adaptive_avg_pool2d(sized(3, 0), 1), ShapeError);
    CHECK_THROWS_AS(adaptive_max_pool2d(sized(3, 0), 1), ShapeError);
    CHECK_THROWS_AS(adaptive_avg_pool2d(small, pair(1, huge)), ValueError);
    CHECK_THROWS_AS(adaptive_max_pool2d(small, pair(huge, 1)), ValueError);
    CHECK_THROWS_AS(upsample_nearest(small, pair(1, huge)), ValueError);
    CHECK_THROWS_AS(upsample_bilinear(small, pair(1, huge)), ValueError);
    CHECK_THROWS_AS(upsample_nearest(sized(1, huge), 2), ShapeError);
    CHECK_THROWS_AS(upsample_bilinear(sized(1, huge), 2), ShapeError);
    CHECK_THROWS_AS(conv2d(small, filter, {.stride = pair(1, huge)}), ValueError);
    CHECK_THROWS_AS(conv2d(small, filter, {.padding = pair(1, huge)}), ValueError);
    CHECK_THROWS_AS(conv2d(small, filter, {.dilation = pair(1, huge)}), ValueError);
    CHECK_THROWS_AS(conv2d(sized(9, huge), filter), ValueError);
    CHECK_THROWS_AS(conv_transpose2d(small, filter, {.stride = pair(1, huge)}), ValueError);
    CHECK_THROWS_AS(conv_transpose2d(small, filter, {.padding = pair(1, huge)}), ValueError);
    CHECK_THROWS_AS(conv_transpose2d(small, filter, {.dilation = pair(1, huge)}), ValueError);
    CHECK_THROWS_AS(conv_transpose2d(small, filter, {.stride = 2, .output_padding = pair(0, 2)}), ValueError);
    CHECK_THROWS_AS(conv_transpose2d(sized(9, huge), filter), ValueError);
  }
  const Var signal(Tensor::zeros({0, 1, 9})), line(Tensor::zeros({1, 1, 2}));
  CHECK_THROWS_AS(conv1d(signal, Var(Tensor::zeros({1, 1, 0}))), ValueError);
  CHECK_THROWS_AS(conv1d(Var(Tensor::zeros({0, 1, huge})), line), ValueError);
  CHECK_THROWS_AS(conv1d(signal, line, {.stride = huge}), ValueError);
  CHECK_THROWS_AS(conv1d(signal, line, {.padding = huge}), ValueError);
  CHECK_THROWS_AS(conv1d(signal, line, {.dilation = huge}), ValueError);
  CHECK_THROWS_AS(repeat(small, {1, 1, std::int64_t{1} << 62, 1}), ShapeError);
  for (const Ints& margin : {Ints{0, 0, 0, std::int64_t{1} << 47}, Ints{0, 0, std::int64_t{1} << 47, 0}}) {
    CHECK_THROWS_AS(pad(small, margin, {0, 0, 0, 0}), ShapeError);
    CHECK_THROWS_AS(pad(small, {0, 0, 0, 0}, margin), ShapeError);
  }
}

TEST_CASE("the columns of a wide array are worked on as if each were alone", "[long]") {
  const DType dtype = GENERATE(DType::f64, DType::f32);
  const std::int64_t outer = 2, n = 12, width = 20011;
  Tensor chosen = Tensor::empty({4}, DType::i64);
  for (int i = 0; i < 4; ++i) chosen.mutable_data<std::int64_t>()[i] = (7 * i + 11) % n;
  const Var index(chosen);
  const std::vector<std::pair<const char*, std::function<Var(const Var&)>>> cases{
      {"softmax", [](const Var& x) { return softmax(x, 1); }},
      {"log_softmax", [](const Var& x) { return log_softmax(x, 1); }},
      {"logsumexp", [](const Var& x) { return logsumexp(x, {1}, true); }},
      {"sum", [](const Var& x) { return sum(x * x, {1}, true); }},
      {"mean", [](const Var& x) { return mean(x * x, {1}, true); }},
      {"max", [](const Var& x) { return max(x, {1}, true); }},
      {"min", [](const Var& x) { return min(x, {1}, true); }},
      {"var", [](const Var& x) { return var(x, {1}, 1, true); }},
      {"norm", [](const Var& x) { return norm(x, {1}, 2.0, true); }},
      {"sum_to",
       [](const Var& x) {
         return sum_to(x * x, {x.shape()[0], 1, x.shape()[2]});
       }},
      {"cumsum", [](const Var& x) { return cumsum(x, 1); }},
      {"cumsum from behind", [](const Var& x) { return cumsum(x, 1, true); }},
      {"sort", [](const Var& x) { return sort(x, 1).values; }},
      {"topk", [](const Var& x) { return topk(x, 3, 1).values; }},
      {"take", [&](const Var& x) { return take(x, 1, index); }},
      {"flip", [](const Var& x) { return flip(x, {1}); }},
      {"slice", [](const Var& x) { return slice(x, 1, 2, 11, 4); }},
      {"concat",
       [](const Var& x) {
         return concat({x, tanh(x)}, 1);
       }},
      {"repeat",
       [](const Var& x) {
         return repeat(x, {1, 2, 1});
       }},
  };
  const Tensor x = normal({outer, n, width}, 55).to(dtype);
  for (const auto& [what, f] : cases) {
    INFO(what << ", " << name(dtype));
    Var u;
    const auto both = [&](std::int64_t begin, std::int64_t end) {
      const Tape tape;
      const Var at = leaf(slice(Var(x), 2, begin, end).value());
      const Var y = f(at);
      if (!u.defined()) u = Var(normal(y.shape(), 56).to(dtype));
      return Vars{y.detach(), grad(y, {at}, {.cotangent = slice(u, 2, begin, end)})[0]};
    };
    const Vars whole = both(0, width);
    for (const std::int64_t begin :
         {std::int64_t{0}, std::int64_t{250}, std::int64_t{1020}, std::int64_t{4090}, width / 2, width - 9}) {
      const Vars part = both(begin, begin + 9);
      for (std::size_t k = 0; k < 2; ++k) {
        INFO((k ? "gradient" : "value") << " from column " << begin);
        CHECK(relative_difference(slice(whole[k], 2, begin, begin + 9).value(), part[k].value()) <=
              100 * rounding(dtype));
      }
    }
  }
}
