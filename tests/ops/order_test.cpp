#include <banach/engine/grad.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/ops.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

using namespace banach;
using namespace banach::test;

namespace {

/// Many ties, some NaN and infinities.
Tensor rough(const Shape& shape, std::uint64_t seed) {
  SampleGen gen(seed);
  Tensor x = gen.indices(shape, 20).to(DType::f64);
  double* values = x.mutable_data<double>();
  for (std::int64_t i = 0; i < x.size(); ++i) {
    if (values[i] == 7) values[i] = std::numeric_limits<double>::quiet_NaN();
    if (values[i] == 8) values[i] = std::numeric_limits<double>::infinity();
    if (values[i] == 9) values[i] = -0.0;
  }
  return x;
}

std::vector<std::int64_t> by_definition(const Tensor& x, bool falling) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(x.size()));
  std::iota(order.begin(), order.end(), 0);
  // NaN takes the place of something above infinity.
  const auto rank = [&](std::int64_t i) {
    return std::isnan(x.at(i)) ? std::pair(1, 0.0) : std::pair(0, x.at(i));
  };
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return falling ? rank(a) > rank(b) : rank(a) < rank(b);
  });
  return order;
}

}  // namespace

TEST_CASE("sort and topk keep equals in order and NaN at the large end") {
  const Tensor x = rough({5000}, 71);
  for (const bool falling : {false, true}) {
    INFO("falling: " << falling);
    const std::vector<std::int64_t> expected = by_definition(x, falling);
    const Ordered all = sort(Var(x), 0, falling);
    for (const std::int64_t k : {std::int64_t{0}, std::int64_t{1}, std::int64_t{137}, std::int64_t{5000}}) {
      const Ordered some = topk(Var(x), k, 0, falling);
      REQUIRE(some.values.size() == k);
      bool same = true;
      for (std::int64_t i = 0; i < k; ++i) {
        const auto index = static_cast<double>(expected[static_cast<std::size_t>(i)]);
        same = same && some.indices.value().at(i) == index && all.indices.value().at(i) == index;
        const double value = x.at(expected[static_cast<std::size_t>(i)]), got = some.values.value().at(i);
        same = same && (got == value || (std::isnan(got) && std::isnan(value)));
      }
      CHECK(same);
    }
  }
  CHECK(argmax(Var(x)).item() == static_cast<double>(by_definition(x, true)[0]));
  CHECK(std::isnan(x.at(static_cast<std::int64_t>(argmin(Var(x)).item()))));
}

TEST_CASE("orders have the same result with one thread and two") {
  const Var x(rough({40, 300, 7}, 72));
  check_threads([&] { return Vars{sort(x, 1).indices, argmax(x, 1)}; });
}

TEST_CASE("argmax without an axis counts through the whole tensor") {
  const Var x(tensor({1.0, 5.0, 2.0, 5.0, 0.0, 3.0}, {2, 3}));
  CHECK(argmax(x).item() == 1.0);
  CHECK(argmin(x).item() == 4.0);
  CHECK(argmax(x).dtype() == DType::i64);
  CHECK(argmax(x, {}, true).shape() == Shape{1, 1});
  CHECK(argmax(x, 0).shape() == Shape{3});
  CHECK(argmax(x, 0, true).shape() == Shape{1, 3});
  CHECK(argmax(x, 0).value().at(0) == 1.0);
  CHECK_THROWS_AS(argmax(Var(Tensor::zeros({0}))), ShapeError);
  CHECK_THROWS_WITH(topk(x, -1), "[topk] k must not be negative: got -1");
}

TEST_CASE("the derivative of a sorted value goes to where it came from") {
  Tape tape;
  const Var x = leaf(tensor({3.0, 1.0, 2.0}));
  const Var weights(tensor({1.0, 10.0, 100.0}));
  const Var g = grad(sum(sort(x).values * weights), {x})[0];
  CHECK(g.value().at(0) == 100.0);
  CHECK(g.value().at(1) == 1.0);
  CHECK(g.value().at(2) == 10.0);
}
