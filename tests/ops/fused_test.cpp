// Operations with a kernel of their own for value and vjp, against the same written with other operations: on
// every instruction set, in f32 and f64, at sizes that fill vectors and tiles and at sizes that do not.
#include <banach/engine/grad.hpp>
#include <banach/engine/samples.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/ops.hpp>
#include <tests/isa.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <functional>
#include <limits>

using namespace banach;
using namespace banach::test;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

using Map = std::function<Vars(const Vars&)>;

/// Values, cotangents, and cotangents of these for a random direction. `composed` is taken in f64.
void check_fused(const Map& fused, const Map& composed, const Tensors& at, const Shape& result,
                 double scale = 1.0) {
  SampleGen g(5);
  const Tensor u = g.normal(result);
  Tensors directions;
  for (const Tensor& x : at) directions.push_back(g.normal(x.shape()));
  const auto evaluate = [&](const Map& f, DType dtype) {
    Vars x, w;
    for (const Tensor& t : at) x.push_back(Var(t.to(dtype)));
    for (const Tensor& t : directions) w.push_back(Var(t.to(dtype)));
    Vars all = x;
    all.push_back(Var(u.to(dtype)));
    const Map pulled = [&](const Vars& v) {
      const VjpResult first = vjp(f, Vars(v.begin(), v.end() - 1), {v.back()});
      return first.cotangents;
    };
    Vars results = f(x);
    const VjpResult second = vjp(pulled, all, w);
    results.insert(results.end(), second.outputs.begin(), second.outputs.end());
    results.insert(results.end(), second.cotangents.begin(), second.cotangents.end());
    return results;
  };
  const KeepIsa keep;
  const Vars expected = evaluate(composed, DType::f64);
  for (const auto isa : {simd::Isa::sse2, simd::Isa::avx2, simd::Isa::avx512}) {
    if (!simd::supported(isa)) continue;
    simd::select(isa);
    for (const DType dtype : {DType::f32, DType::f64}) {
      const double eps = dtype == DType::f32 ? 6e-8 : 1.1e-16;
      const Vars got = evaluate(fused, dtype);
      REQUIRE(got.size() == expected.size());
      for (std::size_t i = 0; i < got.size(); ++i) {
        INFO(simd::name(isa) << ", " << name(dtype) << ", result " << i << ", "
                             << expected[i].shape().to_string());
        double size = 1.0;
        for (std::int64_t j = 0; j < expected[i].size(); ++j)
          size = std::max(size, std::abs(expected[i].value().at(j)));
        CHECK(largest_difference(got[i], expected[i]) <= 60 * eps * scale * size);
      }
    }
  }
}

}  // namespace

TEST_CASE("softmax and log_softmax are their formulas on every instruction set", "[fused]") {
  SampleGen g(1);
  for (const std::int64_t n : {0, 1, 2, 7, 16, 33, 64, 150}) {
    const Shape shape{5, n};
    INFO(n);
    const auto e = [](const Var& x) { return exp(x - max(x, {-1}, true).detach()); };
    const Tensor x = g.normal(shape, 0.0, 2.0);
    const Map soft = [](const Vars& v) { return Vars{softmax(v[0])}; };
    const Map log_soft = [](const Vars& v) { return Vars{log_softmax(v[0])}; };
    if (n == 0) {
      CHECK(vjp(soft, {Var(x)}, {Var(x)}).cotangents[0].shape() == shape);
      continue;
    }
    check_fused(
        soft, [&](const Vars& v) { return Vars{e(v[0]) / sum(e(v[0]), {-1}, true)}; }, {x}, shape);
    check_fused(
        log_soft, [&](const Vars& v) { return Vars{v[0] - log(sum(exp(v[0]), {-1}, true))}; }, {x}, shape);
  }
}

TEST_CASE("layer_norm is its formula on every instruction set", "[fused]") {
  SampleGen g(2);
  const double eps = 1e-2;
  const Map fused = [&](const Vars& v) { return Vars{layer_norm(v[0], v[1], v[2], eps)}; };
  const Map composed = [&](const Vars& v) {
    const Var centred = v[0] - mean(v[0], {-1}, true);
    return Vars{centred * rsqrt(mean(square(centred), {-1}, true) + eps) * v[1] + v[2]};
  };
  for (const Shape& shape : {Shape{4, 128}, Shape{3, 2, 33}, Shape{2, 1}, Shape{70}, Shape{0, 5}}) {
    INFO(shape.to_string());
    const std::int64_t n = shape[shape.rank() - 1];
    check_fused(fused, composed, {g.normal(shape, 1.0, 2.0), g.normal({n}), g.normal({n})}, shape, 10.0);
  }
}

TEST_CASE("elu is its formula on every instruction set", "[fused]") {
  SampleGen g(6);
  const double alpha = 0.7;
  const Map fused = [&](const Vars& v) { return Vars{elu(v[0], alpha)}; };
  const Map composed = [&](const Vars& v) {
    return Vars{where(greater(v[0], 0.0), v[0], alpha * expm1(minimum(v[0], 0.0)))};
  };
  for (const Shape& shape : {Shape{4, 128}, Shape{3, 33}, Shape{1}, Shape{0, 5}})
    check_fused(fused, composed, {g.away_from_zero(shape, 1e-3, 8.0)}, shape);
}

TEST_CASE("attention is its formula on every instruction set", "[fused]") {
  SampleGen g(3);
  struct Case {
    std::int64_t n, l, m, d, e, h;
    bool causal;
  };
  for (const Case& c :
       {Case{2, 37, 37, 5, 3, 2, true}, Case{1, 64, 64, 32, 32, 1, true}, Case{2, 70, 20, 4, 4, 1, false},
        Case{1, 20, 70, 3, 9, 3, true}, Case{3, 1, 1, 1, 1, 1, true}, Case{2, 5, 0, 2, 2, 2, false},
        Case{2, 0, 5, 2, 2, 1, true}, Case{0, 5, 5, 2, 2, 1, false}}) {
    INFO(c.n << " " << c.l << " " << c.m << " " << c.d << " " << c.e << " " << c.h << " " << c.causal);
    const AttentionOptions options{.causal = c.causal, .heads = c.h};
    const auto split = [&](const Var& x) {
      return permute(reshape(x, {x.size(0), x.size(1), c.h, x.size(2) / c.h}), {0, 2, 1, 3});
    };
    // Query 3 of every product is blind, key 1 hidden from query 2.
    Tensor mask = g.normal({c.l, c.m});
    for (std::int64_t i = 0; i < c.l; ++i)
      for (std::int64_t j = 0; j < c.m; ++j)
        if (i == 3 || (i == 2 && j == 1)) mask.mutable_data<double>()[i * c.m + j] = -inf;
    Tensor hidden = mask.clone();
    for (std::int64_t i = 0; i < c.l; ++i)
      for (std::int64_t j = i + 1; c.causal && j < c.m; ++j)
        hidden.mutable_data<double>()[i * c.m + j] = -inf;
    const Map fused = [&](const Vars& v) {
      return Vars{scaled_dot_product_attention(v[0], v[1], v[2], Var(mask.to(v[0].dtype())), options)};
    };
    const Map composed = [&](const Vars& v) {
      const Var scores =
          matmul(split(v[0]), split(v[1]), {.transpose_b = true}) / std::sqrt(static_cast<double>(c.d)) +
          Var(hidden);
      const Shape result{c.n, c.l, c.h * c.e};
      const auto join = [&](const Var& y) { return reshape(permute(y, {0, 2, 1, 3}), result); };
      if (scores.size() == 0) return Vars{join(matmul(scores, split(v[2])))};
      const Var blind = equal(max(scores, {-1}, true), -inf);
      return Vars{join(matmul(where(blind, 0.0, softmax(where(blind, 0.0, scores))), split(v[2])))};
    };
    check_fused(
        fused, composed,
        {g.normal({c.n, c.l, c.h * c.d}), g.normal({c.n, c.m, c.h * c.d}), g.normal({c.n, c.m, c.h * c.e})},
        {c.n, c.l, c.h * c.e}, 10.0);
  }
}

TEST_CASE("relative attention is its formula on every instruction set", "[fused]") {
  SampleGen g(4);
  struct Case {
    std::int64_t n, l, m, d, e, h;
  };
  for (const Case& c : {Case{2, 37, 37, 5, 3, 2}, Case{1, 64, 64, 32, 32, 1}, Case{5, 20, 51, 4, 4, 2},
                        Case{1, 1, 33, 3, 9, 3}, Case{3, 1, 1, 1, 1, 1}}) {
    INFO(c.n << " " << c.l << " " << c.m << " " << c.d << " " << c.e << " " << c.h);
    // Which distance a score has, as numbers 0 and 1: (l, m, m).
    Tensor at_distance = Tensor::zeros({c.l * c.m, c.m}, DType::f64),
           hidden = Tensor::zeros({c.l, c.m}, DType::f64);
    for (std::int64_t i = 0; i < c.l; ++i)
      for (std::int64_t j = 0; j < c.m; ++j) {
        const std::int64_t distance = c.m - c.l + i - j;
        if (distance < 0)
          hidden.mutable_data<double>()[i * c.m + j] = -inf;
        else
          at_distance.mutable_data<double>()[(i * c.m + j) * c.m + distance] = 1.0;
      }
    const auto heads = [&](const Var& x) {
      return permute(reshape(x, {x.size(0), x.size(1), c.h, x.size(2) / c.h}), {0, 2, 1, 3});
    };
    const Map fused = [&](const Vars& x) {
      return Vars{relative_attention(x[0], x[1], x[2], x[3], x[4], x[5], {.heads = c.h})};
    };
    const Map composed = [&](const Vars& x) {
      const Var r = permute(reshape(matmul(Var(at_distance), x[3]), {c.l, c.m, c.h, c.d}), {2, 0, 3, 1});
      const Var q = reshape(heads(x[0] + x[5]), {c.n, c.h, c.l, 1, c.d});
      const Var scores = matmul(heads(x[0] + x[4]), heads(x[1]), {.transpose_b = true}) +
                         reshape(matmul(q, r), {c.n, c.h, c.l, c.m});
      const Var p = softmax(scores / std::sqrt(static_cast<double>(c.d)) + Var(hidden));
      return Vars{reshape(permute(matmul(p, heads(x[2])), {0, 2, 1, 3}), {c.n, c.l, c.h * c.e})};
    };
    check_fused(
        fused, composed,
        {g.normal({c.n, c.l, c.h * c.d}), g.normal({c.n, c.m, c.h * c.d}), g.normal({c.n, c.m, c.h * c.e}),
         g.normal({c.m, c.h * c.d}), g.normal({c.h * c.d}), g.normal({c.h * c.d})},
        {c.n, c.l, c.h * c.e}, 20.0);
  }
}
