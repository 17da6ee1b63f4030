#include <banach/ops/elementwise.hpp>
#include <banach/ops/entries.hpp>
#include <banach/ops/isotonic.hpp>
#include <banach/ops/rows.hpp>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <string>

namespace banach {
namespace {

using namespace entries;

// ---- Sums over blocks -------------------------------------------------------------------------------------

// A sum, and what its rounding left over (Knuth 1997, "The art of computer programming", volume 2, section
// 4.2.2, theorem B).
struct Sum {
  double high = 0.0, low = 0.0;

  void add(double x) {
    const double sum = high + x, part = sum - high;
    low += (high - (sum - part)) + (x - part);
    high = sum;
  }
  void add(const Sum& other) {
    add(other.high);
    low += other.low;
  }
  // The same number, with `high` its rounding.
  Sum rounded() const {
    Sum result{high};
    if (std::isfinite(high)) result.add(low);  // else low is NaN
    return result;
  }
};

// a / b to the last digit, or nearly: equal fractions are equal in double.
double quotient(const Sum& a, const Sum& b) {
  const Sum top = a.rounded(), bottom = b.rounded();
  const double q = top.high / bottom.high;
  const double left = std::fma(-q, bottom.high, top.high) + (top.low - q * bottom.low);
  return std::isfinite(left) && left != 0.0 ? q + left / bottom.high : q;
}

// ---- Pooling ----------------------------------------------------------------------------------------------

struct Block {
  std::int64_t first;
  Sum values, weights;  // sums of w y and of w
  double mean;
};

// With a block that ended where `next` begins in front of it.
Block pooled(const Block& before, const Block& next) {
  Block both = before;
  both.values.add(next.values);
  both.weights.add(next.weights);
  both.mean = quotient(both.values, both.weights);
  return both;
}

// A power of two by which neither numbers up to `largest` nor their sums overflow, and sums of small ones
// keep their digits. It is 1 unless it has to be another: scaled down, entries beside a large one could
// vanish.
double unit_of(double largest) { return largest > 0x1p900 ? 0x1p-64 : largest < 0x1p-900 ? 0x1p900 : 1.0; }

// A power of two that takes the heaviest weight near 1: products with weights are no larger than numbers.
double weight_unit_of(double heaviest) {
  return heaviest > 0.0 ? std::ldexp(1.0, -std::clamp(std::ilogb(heaviest), -1000, 1000)) : 1.0;
}

template <class T>
void regress(const T* y, const T* w, std::int64_t n, T* z, std::int64_t* blocks) {
  double largest = 0.0, heaviest = 0.0;
  bool fits = true;
  for (std::int64_t i = 0; i < n; ++i) {
    fits = fits && std::isfinite(y[i]) && w[i] > 0 && std::isfinite(w[i]);
    largest = std::max(largest, std::abs(static_cast<double>(y[i])));
    heaviest = std::max(heaviest, static_cast<double>(w[i]));
  }
  if (!fits) {
    std::fill_n(z, n, static_cast<T>(nan));
    std::fill_n(blocks, n, -1);
    return;
  }
  const double unit = unit_of(largest), weight_unit = weight_unit_of(heaviest);
  PoolVector<Block> found;  // their means rise
  found.reserve(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const double value = unit * static_cast<double>(y[i]),
                 weight = std::max(weight_unit * static_cast<double>(w[i]), DBL_MIN),
                 product = value * weight;
    Block next{i, {product, std::fma(value, weight, -product)}, {weight}, value};
    while (!found.empty() && found.back().mean >= next.mean) {
      next = pooled(found.back(), next);
      found.pop_back();
    }
    found.push_back(next);
  }
  std::int64_t end = n;
  for (; !found.empty(); found.pop_back()) {
    const Block& block = found.back();
    const std::int64_t count = end - block.first;
    std::fill_n(z + block.first, count, count == 1 ? y[block.first] : static_cast<T>(block.mean / unit));
    std::fill_n(blocks + block.first, count, block.first);
    end = block.first;
  }
}

// The sum of x[first] ... x[end - 1], times `unit`.
template <class T>
Sum sum_of(const T* x, std::int64_t first, std::int64_t end, double& unit) {
  double largest = 0.0;
  for (std::int64_t i = first; i < end; ++i) largest = std::max(largest, std::abs(static_cast<double>(x[i])));
  unit = unit_of(largest);
  Sum sum;
  for (std::int64_t i = first; i < end; ++i) sum.add(unit * static_cast<double>(x[i]));
  return sum;
}

template <class T>
void divide_sums(const T* x, const T* w, const std::int64_t* blocks, std::int64_t n, T* out) {
  for (std::int64_t first = 0, end = 0; first < n; first = end) {
    while (end < n && blocks[end] == blocks[first]) ++end;
    T ratio = static_cast<T>(nan);
    if (blocks[first] >= 0 && end == first + 1) {
      ratio = x[first] / w[first];
    } else if (blocks[first] >= 0) {
      double unit, weight_unit;
      const Sum top = sum_of(x, first, end, unit), bottom = sum_of(w, first, end, weight_unit);
      ratio = static_cast<T>(quotient(top, bottom) * (weight_unit / unit));
    }
    std::fill_n(out + first, end - first, ratio);
  }
}

// ---- Entries ----------------------------------------------------------------------------------------------

// y whose blocks stay what they are under small changes: means rise by 1/2 at least, and inside a block the
// multipliers lambda_i of z_i <= z_(i+1) are at least 1/2; y_i = z_i + (lambda_i - lambda_(i-1)) / w_i.
Sample clear_of_ties(SampleGen& g, const Shape& shape) {
  const Tensor w = g.uniform(shape, 1.0, 3.0), u = g.uniform(shape, 0.5, 1.5);
  Tensor y = Tensor::empty(shape, DType::f64);
  const std::int64_t n = shape[shape.rank() - 1];
  double mean = 0.0, before = 0.0;
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const bool last = i % n == n - 1, ends = last || g.integer(0, 1) == 0;
    const double lambda = ends ? 0.0 : u.at(i);
    y.mutable_data<double>()[i] = mean + (lambda - before) / w.at(i);
    before = lambda;
    mean = last ? 0.0 : ends ? mean + u.at(i) : mean;
  }
  return {{y, w}};
}

const Shape shapes_of_rows[] = {{3, 4}, {2, 3, 5}, {7}, {1}, {4, 1}, {2, 40}, {0, 3}, {3, 0}};

Tensor places(std::initializer_list<std::int64_t> values, const Shape& shape) {
  return tensor<std::int64_t>(values, shape);
}

void expect_like(const ShapeContext& c, int i, const char* what) {
  if (!(c.shape(i) == c.shape()))
    fail<ShapeError>(c.op, std::string(what) + " must have the shape of the first input: " +
                               c.shape(i).to_string() + " with " + c.shape().to_string());
}

const Op isotonic_regression_op{{
    .name = "isotonic_regression",
    .doc = "The nearest rising row to each row of y, in squares weighted by w, and where its blocks begin; "
           "inputs y, w.",
    .kernel =
        [](const KernelContext& c) {
          const Rows rows = rows_of(c.in().shape(), "isotonic_regression");
          std::int64_t* blocks = c.out(1).mutable_data<std::int64_t>();
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T *y = c.in(0).data<T>(), *w = c.in(1).data<T>();
            T* z = c.out().mutable_data<T>();
            for_rows(rows, [&](std::int64_t row) {
              const std::int64_t at = row * rows.length;
              regress(y + at, w + at, rows.length, z + at, blocks + at);
            });
          });
        },
    .vjp =
        [](const VjpContext& c) {
          const Var &y = c.in(0), &w = c.in(1);
          const Var& blocks = c.outputs[1];
          // With weights in units of their block's mean, as g / W may overflow where w g / W does not.
          const Var unit = block_ratio(w, ones_like(w), blocks), parts = w / unit,
                    each = block_ratio(c.cotangent, parts, blocks);
          return Vars{c.needs(0) ? parts * each : Var(), c.needs(1) ? (y - c.out) * each / unit : Var()};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const Shape& shape : shapes_of_rows) samples.push_back(clear_of_ties(g, shape));
          samples.push_back(clear_of_ties(g, {g.integer(1, 5), g.integer(1, 30)}));
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({}), Tensor::zeros({})}, {}, "expects at least one axis: got ()"},
              {{Tensor::zeros({2, 3}), Tensor::zeros({2})},
               {},
               "weights must have the shape of the first input: (2) with (2,3)"},
              {{Tensor::zeros({2}), Tensor::zeros({2}, DType::f64)},
               {},
               "dtypes must agree (cast one): f32 with f64"},
              {{Tensor::arange(3), Tensor::arange(3)}, {}, "expects f32 or f64"}};
        },
    .shapes =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          rows_of(c.shape(), c.op);
          expect_like(c, 1, "weights");
          return Specs{{c.shape(), dtype}, {c.shape(), DType::i64}};
        },
    .edges =
        [] {
          const Tensor ones = Tensor::ones({5}, DType::f64), none = numbers({});
          return Edges{// Equal entries are one block.
                       {{numbers({1, 1, 4, 2, 3}), ones},
                        {},
                        {numbers({1, 1, 3, 3, 3}), places({0, 0, 2, 2, 2}, {5})},
                        {ones, numbers({0, 0, 1, -1, 0})}},
                       // NaN, infinity and useless weights in a row spoil that row.
                       {{tensor({nan, 1.0, -inf, 1.0, 1.0, 2.0, 1.0, 2.0, 2.0, 1.0}, {5, 2}),
                         tensor({1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, inf, 1.0, 3.0}, {5, 2})},
                        {},
                        {tensor({nan, nan, nan, nan, nan, nan, nan, nan, 1.25, 1.25}, {5, 2}),
                         places({-1, -1, -1, -1, -1, -1, -1, -1, 0, 0}, {5, 2})},
                        {tensor({nan, nan, nan, nan, nan, nan, nan, nan, 0.5, 1.5}, {5, 2}),
                         tensor({nan, nan, nan, nan, nan, nan, nan, nan, 0.375, -0.125}, {5, 2})}},
                       {{numbers({-0.0, 0.0, -0.0}), numbers({1, 1, 1})},
                        {},
                        {numbers({0, 0, 0}), places({0, 0, 0}, {3})},
                        {numbers({1, 1, 1}), numbers({0, 0, 0})}},
                       {{numbers({-0.0}), numbers({2})}, {}, {numbers({-0.0}), places({0}, {1})}},
                       {{none, none}, {}, {none, places({}, {0})}, {none, none}}};
        },
    .nan = NanRule::somewhere,
    .rows = last_axis_rows,
}};

const Op block_ratio_op{{
    .name = "block_ratio",
    .doc =
        "The sum of x over each run of equal entries in a row of blocks, divided by that of w; inputs x, w, "
        "blocks.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating({c.op, c.inputs.first(2), c.attrs});
          if (c.dtype(2) != DType::i64)
            fail<DTypeError>(c.op, "blocks must be i64: got " + std::string(name(c.dtype(2))));
          rows_of(c.shape(), c.op);
          expect_like(c, 1, "w");
          expect_like(c, 2, "blocks");
          return Spec{c.shape(), dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          const Rows rows = rows_of(c.in().shape(), "block_ratio");
          const std::int64_t* blocks = c.in(2).data<std::int64_t>();
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T *x = c.in(0).data<T>(), *w = c.in(1).data<T>();
            T* out = c.out().mutable_data<T>();
            for_rows(rows, [&](std::int64_t row) {
              const std::int64_t at = row * rows.length;
              divide_sums(x + at, w + at, blocks + at, rows.length, out + at);
            });
          });
        },
    .vjp =
        [](const VjpContext& c) {
          const Var each = block_ratio(c.cotangent, c.in(1), c.in(2));
          return Vars{each, c.needs(1) ? -(c.out * each) : Var(), Var()};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const Shape& shape : shapes_of_rows)
            samples.push_back({{g.normal(shape), g.uniform(shape, 0.5, 2.0), g.indices(shape, 2)}});
          return samples;
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3}), blocks = Tensor::zeros({2, 3}, DType::i64);
          return ErrorSamples{
              {{Tensor::zeros({}), Tensor::zeros({}), Tensor::zeros({}, DType::i64)},
               {},
               "expects at least one axis: got ()"},
              {{x, Tensor::zeros({3}), blocks},
               {},
               "w must have the shape of the first input: (3) with (2,3)"},
              {{x, x, Tensor::zeros({3}, DType::i64)}, {}, "blocks must have the shape of the first input"},
              {{x, x, x}, {}, "blocks must be i64: got f32"},
              {{blocks, blocks, blocks}, {}, "expects f32 or f64"}};
        },
    .edges =
        [] {
          const Tensor none = numbers({});
          return Edges{{{numbers({1, 2, 5, 7}), numbers({1, 3, 2, 2}), places({0, 0, 2, 2}, {4})},
                        {},
                        {numbers({0.75, 0.75, 3, 3})},
                        {numbers({0.5, 0.5, 0.5, 0.5}), numbers({-0.375, -0.375, -1.5, -1.5})}},
                       {{numbers({nan, 1, inf, 1, inf, -inf, 1, -1, -0.0}),
                         numbers({1, 1, 1, 1, 1, 1, 0, 0, 2}), places({0, 0, 2, 2, 4, 4, 6, 7, 8}, {9})},
                        {},
                        {numbers({nan, nan, inf, inf, nan, nan, inf, -inf, -0.0})}},
                       {{numbers({1, 2, 3}), numbers({1, 1, 2}), places({-1, -1, 2}, {3})},
                        {},
                        {numbers({nan, nan, 1.5})},
                        {numbers({nan, nan, 0.5}), numbers({nan, nan, -0.75})}},
                       {{none, none, places({}, {0})}, {}, {none}, {none, none}}};
        },
    .nan = NanRule::somewhere,
    .rows = last_axis_rows,
}};

}  // namespace

Isotonic isotonic_regression(const Var& y, const Var& weights) {
  const bool shared = weights.defined() && y.rank() > 1 && weights.shape() == Shape{y.size(-1)};
  const Var w = !weights.defined() ? ones_like(y) : shared ? broadcast_to(weights, y.shape()) : weights;
  const Vars found = apply_all(isotonic_regression_op, Vars{y, w});
  return {found[0], found[1]};
}

Var block_ratio(const Var& x, const Var& w, const Var& blocks) {
  return apply(block_ratio_op, {x, w, blocks});
}

}  // namespace banach
