#include <banach/engine/grad.hpp>
#include <banach/engine/memory.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

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
  const auto split = [&](const Var& x) {
    return permute(reshape(x, {x.size(0), x.size(1), h, x.size(2) / h}), {0, 2, 1, 3});
  };
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
