#include <banach/engine/grad.hpp>
#include <banach/engine/memory.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/ops.hpp>
#include <banach/solvers/newton.hpp>
#include <tests/tensors.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <optional>

using namespace banach;
using namespace banach::test;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

// softmax(q k^T / sqrt(d) + mask) v, with all scores in memory.
Var plain(const Vars& x) {
  Var scores = matmul(x[0], transpose(x[1])) / std::sqrt(static_cast<double>(x[0].size(-1)));
  if (x.size() > 3) scores = scores + x[3];
  return matmul(softmax(scores), x[2]);
}

Tensor causal_mask(std::int64_t l, std::int64_t m) {
  Tensor mask = Tensor::zeros({l, m}, DType::f64);
  for (std::int64_t i = 0; i < l; ++i)
    for (std::int64_t j = i + 1; j < m; ++j) mask.mutable_data<double>()[i * m + j] = -inf;
  return mask;
}

// Heads as an axis of their own, (..., h, l, d).
Var split_heads(const Var& x, std::int64_t h) {
  return permute(reshape(x, {x.size(0), x.size(1), h, x.size(2) / h}), {0, 2, 1, 3});
}

// Relative attention of (n, l, h d) with a row of r looked up for each score, and all of them in memory.
Var plain_relative(const Vars& x, std::int64_t h, std::optional<double> scale = {}) {
  const std::int64_t l = x[0].size(1), m = x[1].size(1), d = x[0].size(2) / h, e = x[2].size(2) / h;
  Tensor distances = Tensor::zeros({l * m}, DType::i64), hidden = Tensor::zeros({l, m}, DType::f64);
  for (std::int64_t i = 0; i < l; ++i)
    for (std::int64_t j = 0; j < m; ++j) {
      const std::int64_t distance = m - l + i - j;
      distances.mutable_data<std::int64_t>()[i * m + j] = std::max<std::int64_t>(distance, 0);
      if (distance < 0) hidden.mutable_data<double>()[i * m + j] = -inf;
    }
  const Var q = split_heads(x[0] + x[4], h), k = split_heads(x[1], h), v = split_heads(x[2], h),
            at_position = split_heads(x[0] + x[5], h);
  const Var r = permute(reshape(take(x[3], 0, distances), {l, m, h, d}), {2, 0, 1, 3});  // (h, l, m, d)
  const Var by_distance = sum(reshape(at_position, {q.size(0), h, l, 1, d}) * r, {-1});
  const Var scores = (matmul(q, transpose(k)) + by_distance) * scale.value_or(1.0 / std::sqrt(double(d)));
  const Var y = matmul(softmax(scores + Var(hidden.to(scores.dtype()))), v);
  return reshape(permute(y, {0, 2, 1, 3}), {x[0].size(0), l, h * e});
}

Vars relative_operands(SampleGen& g, std::int64_t n, std::int64_t l, std::int64_t m, std::int64_t d,
                       std::int64_t e, std::int64_t h) {
  return {g.normal({n, l, h * d}), g.normal({n, m, h * d}), g.normal({n, m, h * e}),
          g.normal({m, h * d}),    g.normal({h * d}),       g.normal({h * d})};
}

Var relative(const Vars& x, const RelativeAttentionOptions& options = {}) {
  return relative_attention(x[0], x[1], x[2], x[3], x[4], x[5], options);
}

void check_alike(const Vars& x, const Var& u, FunctionRef<Vars(const Vars&)> ours,
                 FunctionRef<Vars(const Vars&)> theirs) {
  const VjpResult got = vjp(ours, x, {u}), expected = vjp(theirs, x, {u});
  CHECK(largest_difference(got.outputs[0].value(), expected.outputs[0].value()) < 1e-12);
  for (std::size_t i = 0; i < x.size(); ++i)
    CHECK(largest_difference(got.cotangents[i].value(), expected.cotangents[i].value()) < 1e-11);
}

}  // namespace

TEST_CASE("attention is softmax(q k^T / sqrt(d)) v, with its derivatives", "[attention]") {
  struct Case {
    Ints lead;
    std::int64_t l, m, d, e;
  };
  SampleGen g(21);
  for (const Case& c : {Case{{2, 3}, 70, 50, 8, 5}, Case{{}, 300, 300, 4, 4}, Case{{4}, 1, 900, 3, 7},
                        Case{{2}, 20, 5000, 2, 2}}) {
    const auto shape = [&](std::int64_t rows, std::int64_t columns) {
      Ints extents = c.lead;
      extents.push_back(rows);
      extents.push_back(columns);
      return Shape(extents);
    };
    const Var q = g.normal(shape(c.l, c.d)), k = g.normal(shape(c.m, c.d)), v = g.normal(shape(c.m, c.e));
    const Var u = g.normal(shape(c.l, c.e));
    INFO(q.shape().to_string() << " " << k.shape().to_string());
    check_alike(
        {q, k, v}, u, [](const Vars& x) { return Vars{scaled_dot_product_attention(x[0], x[1], x[2])}; },
        [](const Vars& x) { return Vars{plain(x)}; });
    const Var hidden = causal_mask(c.l, c.m);
    check_alike(
        {q, k, v}, u,
        [](const Vars& x) { return Vars{scaled_dot_product_attention(x[0], x[1], x[2], {.causal = true})}; },
        [&](const Vars& x) {
          return Vars{plain({x[0], x[1], x[2], hidden})};
        });
    // Masks of all scores, shared ones, of keys alone, of queries alone.
    std::vector<Shape> masks{shape(c.l, c.m), {c.l, c.m}, {1, c.m}, {c.l, 1}};
    if (c.lead.count() == 2) masks.push_back({2, 1, c.l, c.m}), masks.push_back({3, 1, c.m});
    for (const Shape& mask : masks) {
      INFO("mask " << mask.to_string());
      check_alike(
          {q, k, v, g.normal(mask)}, u,
          [](const Vars& x) { return Vars{scaled_dot_product_attention(x[0], x[1], x[2], x[3])}; },
          [](const Vars& x) { return Vars{plain(x)}; });
    }
  }
}

TEST_CASE("attention keeps no scores", "[attention]") {
  SampleGen g(22);
  const std::int64_t length = 2048;
  const Tensor x = g.normal({1, length, 4}).to(DType::f32);
  Tape tape;
  const Var q = leaf(x);
  const std::int64_t before = memory::stats().live_bytes;
  memory::reset_peak();
  const Var y = scaled_dot_product_attention(q, q, q, {.causal = true});
  grad(y, {q}, {.cotangent = Var(Tensor::ones(y.shape()))});
  CHECK(memory::stats().peak_bytes - before < length * length * 4 / 4);
}

TEST_CASE("hidden keys have no influence in any block, whatever they hold", "[attention]") {
  SampleGen g(23);
  const std::int64_t length = 400;
  Tensor k = g.normal({length, 3}), v = g.normal({length, 2});
  const Tensor q = g.normal({length, 3});
  const Tensor clean = scaled_dot_product_attention(q, k, v, {.causal = true}).value();
  const std::int64_t at = 250;
  k.mutable_data<double>()[at * 3] = NAN;
  v.mutable_data<double>()[at * 2 + 1] = inf;
  const Tensor y = scaled_dot_product_attention(q, k, v, {.causal = true}).value();
  for (std::int64_t i = 0; i < 2 * length; ++i) {
    if (i < 2 * at)
      CHECK(y.at(i) == Approx(clean.at(i)).margin(1e-14));
    else
      CHECK(std::isnan(y.at(i)));
  }
}

TEST_CASE("attention is the same for any number of threads", "[attention]") {
  SampleGen g(24);
  const Vars x{g.normal({2, 3, 90, 16}).to(DType::f32), g.normal({2, 3, 110, 16}).to(DType::f32),
               g.normal({2, 3, 110, 16}).to(DType::f32), g.normal({3, 90, 110}).to(DType::f32)};
  const Var u = g.normal({2, 3, 90, 16}).to(DType::f32);
  check_threads([&] {
    VjpResult result =
        vjp([](const Vars& at) { return Vars{scaled_dot_product_attention(at[0], at[1], at[2], at[3])}; }, x,
            {u});
    result.cotangents.push_back(result.outputs[0]);
    return result.cotangents;
  });
}

TEST_CASE("heads side by side are attention of each head alone", "[attention]") {
  SampleGen g(25);
  const std::int64_t n = 2, h = 3, l = 70, m = 40, d = 5, e = 4;
  const Var q = g.normal({n, l, h * d}), k = g.normal({n, m, h * d}), v = g.normal({n, m, h * e}),
            u = g.normal({n, l, h * e});
  const auto split = [&](const Var& x) { return split_heads(x, h); };
  const auto join = [&](const Var& y) { return reshape(permute(y, {0, 2, 1, 3}), {n, l, h * e}); };
  for (const bool causal : {false, true}) {
    check_alike(
        {q, k, v}, u,
        [&](const Vars& x) {
          return Vars{scaled_dot_product_attention(x[0], x[1], x[2], {.causal = causal, .heads = h})};
        },
        [&](const Vars& x) {
          return Vars{
              join(scaled_dot_product_attention(split(x[0]), split(x[1]), split(x[2]), {.causal = causal}))};
        });
    for (const Shape& mask : {Shape{n, h, l, m}, Shape{h, l, m}, Shape{n, 1, 1, m}, Shape{l, m}})
      check_alike(
          {q, k, v, g.normal(mask)}, u,
          [&](const Vars& x) {
            return Vars{scaled_dot_product_attention(x[0], x[1], x[2], x[3], {.causal = causal, .heads = h})};
          },
          [&](const Vars& x) {
            return Vars{join(scaled_dot_product_attention(split(x[0]), split(x[1]), split(x[2]), x[3],
                                                          {.causal = causal}))};
          });
  }
}

TEST_CASE("queries get gradients from what they see only, whatever hidden keys hold", "[attention]") {
  SampleGen g(26);
  const std::int64_t length = 70, at = 40, width = 6;
  const Tensor q = g.normal({1, length, width}), u = g.normal({1, length, 4});
  Tensor k = g.normal({1, length, width}), v = g.normal({1, length, 4});
  const auto cotangent = [&] {
    return vjp(
               [](const Vars& x) {
                 return Vars{scaled_dot_product_attention(x[0], x[1], x[2], {.causal = true, .heads = 2})};
               },
               {Var(q), Var(k), Var(v)}, {Var(u)})
        .cotangents[0]
        .value();
  };
  const Tensor clean = cotangent();
  k.mutable_data<double>()[at * width] = NAN;  // in the first head
  v.mutable_data<double>()[at * 4 + 3] = inf;  // in the second one
  const Tensor dirty = cotangent();
  for (std::int64_t j = 0; j < at * width; ++j) CHECK(dirty.at(j) == Approx(clean.at(j)).margin(1e-14));
  for (std::int64_t j = at * width; j < length * width; ++j) CHECK(std::isnan(dirty.at(j)));
}

TEST_CASE("relative attention is its formula, with its derivatives", "[attention]") {
  struct Case {
    std::int64_t n, l, m, d, e, h;
  };
  SampleGen g(31);
  for (const Case& c : {Case{2, 5, 5, 3, 2, 1}, Case{3, 16, 16, 4, 4, 2}, Case{6, 33, 50, 2, 3, 3},
                        Case{1, 64, 64, 8, 8, 2}, Case{2, 1, 40, 3, 3, 2}, Case{1, 140, 201, 2, 2, 1},
                        Case{2, 15, 16, 1, 1, 2}, Case{1, 17, 300, 2, 2, 1}}) {
    INFO(c.n << " " << c.l << " " << c.m << " " << c.d << " " << c.e << " " << c.h);
    const Vars x = relative_operands(g, c.n, c.l, c.m, c.d, c.e, c.h);
    const Var u = g.normal({c.n, c.l, c.h * c.e});
    for (const std::optional<double> scale : {std::optional<double>(), std::optional<double>(-0.3)})
      check_alike(
          x, u, [&](const Vars& at) { return Vars{relative(at, {.heads = c.h, .scale = scale})}; },
          [&](const Vars& at) { return Vars{plain_relative(at, c.h, scale)}; });
  }
}

TEST_CASE("relative attention without r and biases is causal attention", "[attention]") {
  SampleGen g(32);
  Vars x = relative_operands(g, 2, 37, 37, 4, 3, 2);
  for (const std::size_t i : {3, 4, 5}) x[i] = zeros_like(x[i]);
  const Var expected = scaled_dot_product_attention(x[0], x[1], x[2], {.causal = true, .heads = 2});
  CHECK(largest_difference(relative(x, {.heads = 2}).value(), expected.value()) < 1e-14);
}

TEST_CASE("memory in front of relative attention is the beginning of a longer segment", "[attention]") {
  SampleGen g(33);
  const std::int64_t m = 45;
  Vars x = relative_operands(g, 2, m, m, 3, 2, 2);
  const Var whole = relative(x, {.heads = 2}), q = x[0];
  for (const std::int64_t l : {1, 13, 16, 32, 44}) {
    INFO(l);
    x[0] = slice(q, 1, m - l, m);
    CHECK(largest_difference(relative(x, {.heads = 2}).value(), slice(whole, 1, m - l, m).value()) < 1e-13);
  }
}

TEST_CASE("relative attention keeps no scores", "[attention]") {
  SampleGen g(34);
  const std::int64_t length = 2048;
  const auto f32 = [&](const Shape& shape) { return g.normal(shape).to(DType::f32); };
  const Tensor x = f32({1, length, 4}), r = f32({length, 4}), bias = f32({4});
  Tape tape;
  const Vars at{leaf(x), leaf(x), leaf(x), leaf(r), leaf(bias), leaf(bias)};
  const std::int64_t before = memory::stats().live_bytes;
  memory::reset_peak();
  const Var y = relative(at);
  grad(y, at, {.cotangent = Var(Tensor::ones(y.shape()))});
  CHECK(memory::stats().peak_bytes - before < length * length * 4 / 4);
}

TEST_CASE("a key hidden from relative attention has no influence, whatever it holds", "[attention]") {
  SampleGen g(35);
  const std::int64_t l = 70, m = 90, at = 55;  // the key of query 35
  const Vars clean = relative_operands(g, 1, l, m, 3, 2, 2);
  Vars dirty = clean;
  Tensor k = clean[1].value(), v = clean[2].value();
  k.mutable_data<double>()[at * 6] = NAN;      // in the first head
  v.mutable_data<double>()[at * 4 + 3] = inf;  // in the second one
  dirty[1] = Var(k), dirty[2] = Var(v);
  const Var u = g.normal({1, l, 4});
  const auto pulled = [&](const Vars& x) {
    return vjp([](const Vars& y) { return Vars{relative(y, {.heads = 2})}; }, x, {u});
  };
  const VjpResult expected = pulled(clean), got = pulled(dirty);
  const auto check = [&](const Tensor& a, const Tensor& b, std::int64_t width) {
    for (std::int64_t i = 0; i < l - m + at; ++i)
      for (std::int64_t j = 0; j < width; ++j)
        CHECK(a.at(i * width + j) == Approx(b.at(i * width + j)).margin(1e-13));
    for (std::int64_t i = l - m + at; i < l; ++i) CHECK(std::isnan(a.at(i * width)));
  };
  check(got.outputs[0].value(), expected.outputs[0].value(), 4);
  check(got.cotangents[0].value(), expected.cotangents[0].value(), 6);
}

TEST_CASE("relative attention is the same for any number of threads", "[attention]") {
  SampleGen g(36);
  Vars x = relative_operands(g, 9, 40, 60, 8, 8, 2);
  for (Var& v : x) v = Var(v.value().to(DType::f32));
  const Var u = g.normal({9, 40, 16}).to(DType::f32);
  check_threads([&] {
    VjpResult result = vjp([](const Vars& at) { return Vars{relative(at, {.heads = 2})}; }, x, {u});
    result.cotangents.push_back(result.outputs[0]);
    return result.cotangents;
  });
}

// A solver's J v is the sweep of a recorded sweep, whose tape has closed.
TEST_CASE("solvers that linearise their body go through attention", "[attention]") {
  const Var u(normal({2, 5, 4}, 31)), r(normal({5, 4}, 32)), bias(normal({4}, 33));
  const auto check = [&](const std::function<Var(const Var&)>& f) {
    const Var z0(Tensor::zeros({2, 5, 4}, DType::f64));
    const auto solve = [&](const Solver& solver) {
      const FixedPoint solved = fixed_point(f, z0, {.solver = solver, .tolerance = 1e-12});
      CHECK(solved.report.converged());
      return solved.z;
    };
    CHECK(largest_difference(solve(NewtonKrylov{}), solve(Anderson{})) < 1e-9);
  };
  check([&](const Var& z) { return 0.3 * scaled_dot_product_attention(z + u, z, z + u, {.causal = true}); });
  check([&](const Var& z) { return 0.3 * relative_attention(z + u, z, z + u, r, bias, bias, {.heads = 2}); });
}
