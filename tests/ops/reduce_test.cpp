#include <banach/engine/grad.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/scan.hpp>
#include <banach/ops/shape_ops.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

using namespace banach;
using namespace banach::test;

namespace {

std::vector<double> list(const Var& x) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < x.size(); ++i) values.push_back(x.value().at(i));
  return values;
}

struct Reference {
  std::vector<double> sum, max, magnitude;
};

/// By definition, in double: every element goes to the entry that it shares its kept indices with.
Reference by_definition(const Tensor& x, const Axes& axes) {
  const Shape kept = reduced(x.shape(), axes, true);
  const auto entries = static_cast<std::size_t>(kept.size());
  Reference result{std::vector<double>(entries),
                   std::vector<double>(entries, -std::numeric_limits<double>::infinity()),
                   std::vector<double>(entries)};
  for (std::int64_t i = 0; i < x.size(); ++i) {
    std::int64_t rest = i, at = 0, stride = 1;
    for (int axis = x.rank() - 1; axis >= 0; --axis) {
      if (kept[axis] != 1) at += rest % x.shape()[axis] * stride;
      rest /= x.shape()[axis];
      stride *= kept[axis];
    }
    const auto entry = static_cast<std::size_t>(at);
    result.sum[entry] += x.at(i);
    result.max[entry] = std::max(result.max[entry], x.at(i));
    result.magnitude[entry] += std::abs(x.at(i));
  }
  return result;
}

/// Sums within `tolerance` of the sum of magnitudes; maxima exactly.
void check_against_definition(const Tensor& x, const Axes& axes, double tolerance) {
  INFO(x.shape().to_string() << " over " << axes.to_string());
  const Axes all = normalize_axes(axes, x.rank(), "test");
  const Reference expected = by_definition(x, all);
  const Var total = sum(Var(x), axes), largest = max(Var(x), axes, true);
  REQUIRE(total.shape() == reduced(x.shape(), all, false));
  REQUIRE(largest.shape() == reduced(x.shape(), all, true));
  bool right = true;
  for (std::size_t i = 0; i < expected.sum.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    right = right && std::abs(total.value().at(at) - expected.sum[i]) <= tolerance * expected.magnitude[i];
    right = right && largest.value().at(at) == expected.max[i];
  }
  CHECK(right);
}

}  // namespace

TEST_CASE("reductions agree with their definition for random shapes and axes up to rank 8") {
  SampleGen gen(21);
  for (int trial = 0; trial < 400; ++trial) {
    Ints extents;
    Axes axes;
    const std::int64_t rank = gen.integer(0, 8);
    for (int axis = 0; axis < rank; ++axis) {
      extents.push_back(gen.integer(1, 4));
      if (gen.integer(0, 1)) axes.push_back(gen.integer(0, 1) ? axis : axis - rank);
    }
    check_against_definition(gen.normal(Shape(extents)), axes, 1e-14);
  }
}

TEST_CASE("long axes: rows and columns that are cut into pieces") {
  SampleGen gen(22);
  const std::vector<std::pair<Shape, Axes>> cases = {{{300007}, {}},
                                                     {{3, 70001}, {1}},
                                                     {{70001, 3}, {0}},
                                                     {{2000, 70}, {0}},
                                                     {{2000, 70}, {1}},
                                                     {{5, 3000}, {0}},
                                                     {{700, 2, 90}, {0, 2}},
                                                     {{6, 700, 5}, {1}},
                                                     {{3, 300, 4, 50}, {1, 3}},
                                                     {{40, 3, 30, 20}, {0, 2, 3}},
                                                     {{257, 1100}, {0}},
                                                     {{513, 1}, {0}}};
  for (const auto& [shape, axes] : cases) {
    const Tensor x = gen.normal(shape);
    check_against_definition(x, axes, 1e-14);
    check_against_definition(x.to(DType::f32), axes, 5e-7);
  }
}

TEST_CASE("sums have the same bits with one thread and two") {
  SampleGen gen(23);
  for (const auto& [shape, axes] : std::vector<std::pair<Shape, Axes>>{{{300007}, {}},
                                                                       {{70001, 3}, {0}},
                                                                       {{2000, 70}, {0}},
                                                                       {{700, 2, 90}, {0, 2}},
                                                                       {{6, 700, 50}, {1}}}) {
    INFO(shape.to_string());
    const Var x(gen.normal(shape).to(DType::f32));
    check_threads([&, &over = axes] { return Vars{sum(x, over)}; });
  }
}

TEST_CASE("sums of many f32 keep their digits") {  // added one by one in f32, the first one is off by 0.8 %
  const Var x(Tensor::full({3000000}, 0.1f));
  const double exact = 3000000 * static_cast<double>(0.1f);
  CHECK(sum(x).item() == Approx(exact).epsilon(1e-6));
  CHECK(sum(Var(Tensor::full({1000000, 2}, 0.1f)), {0}).value().at(1) == Approx(exact / 3).epsilon(1e-6));
  CHECK(mean(x).item() == Approx(static_cast<double>(0.1f)).epsilon(1e-6));
}

TEST_CASE("reductions over nothing") {
  const Var none(Tensor::zeros({0, 3}));
  CHECK(list(sum(none, {0})) == std::vector<double>{0, 0, 0});
  CHECK(sum(none).item() == 0.0);
  CHECK(sum(none, {1}).shape() == Shape{0});
  CHECK(mean(none, {1}).shape() == Shape{0});
  CHECK(max(none, {1}, true).shape() == Shape{0, 1});
  CHECK_THROWS_WITH(mean(none), "[mean] must have elements to work on: (0,3) reduced to ()");
  CHECK_THROWS_AS(max(none, {0}), ShapeError);
}

TEST_CASE("axes may be negative, must exist and be distinct") {
  const Var x(Tensor::ones({2, 3, 4}));
  CHECK(sum(x, {-1, 0}).shape() == Shape{3});
  CHECK(sum(x, {-1, 0}, true).shape() == Shape{1, 3, 1});
  CHECK(sum(x).shape() == Shape{});
  CHECK(sum(x, {}, true).shape() == Shape{1, 1, 1});
  CHECK_THROWS_WITH(sum(x, {3}), "[sum] axis must lie in [-3, 3): got 3");
  CHECK_THROWS_WITH(max(x, {0, -3}), "[max] axes must be distinct: got (0,-3)");
}

TEST_CASE("max: a NaN wins, wherever it stands") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  for (std::int64_t at = 0; at < 6; ++at) {
    Tensor x = tensor({1.0, 5.0, 2.0, 4.0, 3.0, 0.0}, {2, 3});
    x.mutable_data<double>()[at] = nan;
    CHECK(std::isnan(max(Var(x)).item()));
    for (std::int64_t row = 0; row < 2; ++row)
      CHECK(std::isnan(max(Var(x), {1}).value().at(row)) == (row == at / 3));
    for (std::int64_t column = 0; column < 3; ++column)
      CHECK(std::isnan(max(Var(x), {0}).value().at(column)) == (column == at % 3));
  }
}

TEST_CASE("max: ties share the cotangent evenly") {
  Tape tape;
  const Var x = leaf(tensor({2.0, 7.0, 7.0, 1.0, 7.0, 3.0}, {2, 3}));
  CHECK(list(grad(max(x, {1}), {x}, {.cotangent = Var(tensor({6.0, 1.0}))})[0]) ==
        std::vector<double>{0, 3, 3, 0, 1, 0});
  CHECK(list(grad(max(x), {x})[0])[1] == Approx(1.0 / 3.0));
}

TEST_CASE("mean and its derivative") {
  Tape tape;
  const Var x = leaf(tensor({1.0, 2.0, 3.0, 6.0}, {2, 2}));
  CHECK(mean(x).item() == 3.0);
  CHECK(list(mean(x, {0})) == std::vector<double>{2, 4});
  CHECK(list(grad(mean(x), {x})[0]) == std::vector<double>{0.25, 0.25, 0.25, 0.25});
}

TEST_CASE("variance keeps its digits far from zero") {
  // 1e4 + k / 1000 for k = 0 ... 999: population variance (1000^2 - 1) / 12e6.
  Tensor x = Tensor::empty({1000}, DType::f64);
  for (std::int64_t i = 0; i < 1000; ++i) x.mutable_data<double>()[i] = 1e4 + static_cast<double>(i) / 1000;
  const double exact = (1e6 - 1) / 12e6;
  CHECK(var(Var(x), {}, 0).item() == Approx(exact).epsilon(1e-11));  // x itself is rounded to 1e-12
  CHECK(var(Var(x)).item() == Approx(exact * 1000 / 999).epsilon(1e-11));
  CHECK(var(Var(x.to(DType::f32)), {}, 0).item() == Approx(exact).epsilon(1e-3));
}

TEST_CASE("norm, dot, var and cumsum of long axes: right, and the same bits with one thread and two") {
  SampleGen gen(24);
  const Tensor t = gen.normal({3, 70001}), columns = gen.normal({20011, 5});
  const Var x(t), y(columns), squares = square(x);
  check_threads([&] {
    return Vars{norm(x, {1}), norm(y, {0}), norm(x),      dot(x, x),
                var(x, {1}),  var(y, {0}),  cumsum(x, 1), cumsum(y, 0)};
  });

  const auto close = [](const Var& a, const Var& b) {
    for (std::int64_t i = 0; i < a.size(); ++i)
      CHECK(a.value().at(i) == Approx(b.value().at(i)).epsilon(1e-13));
  };
  close(norm(x, {1}), sqrt(sum(squares, {1})));
  close(dot(x, x), sum(squares, {1}));
  close(slice(cumsum(x, 1), 1, 70000, 70001), sum(x, {1}, true));
  close(slice(cumsum(x, 1, true), 1, 0, 1), sum(x, {1}, true));
  CHECK_THROWS_WITH(norm(x, {}, 3.0), Catch::StartsWith("[norm] p must be 1, 2 or infinity: got 3"));
}
