// Invertible maps: inverses, and log-determinants beside those of dense Jacobians.
#include <banach/nn/act_norm.hpp>
#include <banach/nn/dequantize.hpp>
#include <banach/nn/logit_transform.hpp>
#include <banach/nn/multi_scale_flow.hpp>
#include <banach/nn/squeeze.hpp>
#include <banach/ops/derivatives.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

// log |det| of the whole Jacobian of one sample.
template <class F>
double dense_log_det(const F& f, const Tensor& sample) {
  const std::int64_t d = sample.size();
  const Var j = jacobian([&](const Var& x) { return f(x); }, Var(sample));
  return slogdet(reshape(j, {d, d})).log_abs.item();
}

// Every sample's log-determinant is that of its own dense Jacobian, and it is differentiated rightly.
template <class Flow>
void check_log_det(Flow& flow, const Tensor& x) {
  const Var log_det = flow.forward(Var(x)).log_det;
  REQUIRE(log_det.shape() == Shape{x.size(0)});
  for (std::int64_t s = 0; s < x.size(0); ++s)
    CHECK(log_det.value().at(s) ==
          Approx(dense_log_det([&](const Var& one) { return flow.forward(one).y; }, x.rows(s, s + 1)))
              .margin(1e-12));
  const auto report = check_gradients(flow, x, [&](const Var& at) {
    const Transformed moved = flow.forward(at);
    return sum(sin(moved.y)) + sum(moved.log_det);
  });
  INFO(report.to_string());
  CHECK(report.passed);
}

Tensor uniform(const Shape& shape, std::uint64_t seed, double low = 0.0, double high = 1.0) {
  Tensor x = Tensor::empty(shape, DType::f64);
  Random(seed).fill_uniform(x.mutable_data<double>(), x.size(), low, high);
  return x;
}

Tensor levels_of(const Shape& shape, std::int64_t levels, DType dtype) {
  Tensor x = Tensor::empty(shape, DType::f64);
  Random random(3);
  for (std::int64_t i = 0; i < x.size(); ++i)
    x.mutable_data<double>()[i] = static_cast<double>(random.below(levels));
  return x.to(dtype);
}

}  // namespace

TEST_CASE("ActNorm starts with mean 0 and variance 1 in each channel", "[flow]") {
  const Tensor x = GENERATE(as<Tensor>{}, normal({50, 3}, 1, 4.0), normal({6, 3, 2, 5}, 2, 0.1));
  ActNorm flow(3, DType::f64);
  const Tensor y = flow.forward(Var(x) + 7.0).y.value();
  const Axes axes = x.rank() == 2 ? Axes{0} : Axes{0, 2, 3};
  CHECK(largest_difference(mean(Var(y), axes), Var(Tensor::zeros({3}, DType::f64))) < 1e-13);
  CHECK(largest_difference(var(Var(y), axes, 0), Var(Tensor::ones({3}, DType::f64))) < 1e-12);

  // Only the first batch decides, and a copy by its state has started too.
  const Tensor other = normal(x.shape(), 4);
  const Tensor scale = flow.log_scale.value();
  const Tensor moved = flow.forward(Var(other)).y.value();
  CHECK(same_bits(flow.log_scale.value(), scale));
  ActNorm loaded(3, DType::f64);
  load_state(loaded, state(flow));
  CHECK(same_bits(loaded.forward(Var(other)).y, moved));
  CHECK(largest_difference(flow.inverse(Var(moved)), Var(other)) < 1e-14);
}

TEST_CASE("ActNorm: log-determinant and derivatives", "[flow]") {
  ActNorm flow(2, DType::f64);
  flow.forward(Var(normal({5, 2, 3, 2}, 5, 3.0)));
  check_log_det(flow, normal({3, 2, 3, 2}, 6));
  check_log_det(flow, normal({4, 2}, 7));
}

TEST_CASE("ActNorm waits for data it can start from", "[flow]") {
  ActNorm flow(2, DType::f64);
  const Tensor x = normal({4, 2}, 8);
  Tensor broken = x.clone();
  broken.mutable_data<double>()[3] = std::numeric_limits<double>::quiet_NaN();
  flow.forward(Var(broken));
  CHECK(flow.forward(Var(Tensor::zeros({0, 2}, DType::f64))).log_det.shape() == Shape{0});
  eval(flow);
  CHECK(same_bits(flow.forward(Var(x)).y, Var(x)));  // the identity still
  CHECK(flow.started.value.item() == 0.0);
  train(flow);

  SECTION("a channel that does not vary keeps its scale") {
    const Tensor flat = tensor({1.0, 0.1, 3.0, 0.1, 5.0, 0.1}, {3, 2});
    flow.forward(Var(flat));
    CHECK(flow.log_scale.value().at(1) == 0.0);
    CHECK(flow.shift.value().at(1) == Approx(-0.1));
    CHECK(flow.log_scale.value().at(0) == Approx(-0.5 * std::log(8.0 / 3.0)));
  }
  SECTION("bad input") {
    CHECK_THROWS_WITH(flow.forward(Var(normal({4, 3}, 9))), Contains("[act_norm] input must be (n,2) or"));
    CHECK_THROWS_AS(ActNorm(0), ValueError);
    CHECK_THROWS_WITH(flow.forward(Var(Tensor::ones({3, 2}))), Contains("[act_norm] input must be f64"));
    const Tensor wide = tensor({0.0, 1e308, 1.0, -1e308}, {2, 2});
    CHECK_THROWS_WITH(flow.forward(Var(wide)), Contains("deviation must be below 4.5e+307") &&
                                                   Contains("channel 1 has 1.0e+308; scale the data down"));
    CHECK(flow.started.value.item() == 0.0);
    CHECK(same_bits(flow.inverse(Var(x)), Var(x)));
  }
  SECTION("numbers whose squares overflow") {
    for (const DType dtype : {DType::f32, DType::f64}) {
      ActNorm other(2, dtype);
      const double large = dtype == DType::f32 ? 1e37 : 1e300;
      const Tensor wide = (Var(normal({1000, 2}, 12)) * large).value().to(dtype);
      const Tensor y = other.forward(Var(wide)).y.value().to(DType::f64);
      const double rounding = dtype == DType::f32 ? 1e-5 : 1e-12;
      CHECK(largest_difference(mean(Var(y), {0}), Var(Tensor::zeros({2}, DType::f64))) < rounding);
      CHECK(largest_difference(var(Var(y), {0}, 0), Var(Tensor::ones({2}, DType::f64))) < rounding);
    }
  }
}

TEST_CASE("ActNorm's first forward may be recorded", "[flow]") {
  ActNorm flow(2, DType::f64);
  const Tensor x = normal({8, 2}, 10, 3.0);
  Tape tape;
  const Transformed first = flow.forward(Var(x));
  // y is standardised: d sum(y^2) / 2 / d log_scale = sum(y^2) = 8 a channel; d sum(log_det) = 8.
  const Vars g = grad(sum(square(first.y)) * 0.5 - sum(first.log_det), parameters(flow));
  CHECK(largest_difference(g[1], Var(Tensor::zeros({2}, DType::f64))) < 1e-12);
}

TEST_CASE("Squeeze moves squares of pixels into channels", "[flow]") {
  Tensor x = Tensor::arange(16).to(DType::f64).reshape({1, 1, 4, 4});
  Squeeze flow;
  const Var y = flow.forward(Var(x)).y;
  CHECK(same_bits(
      y, Var(tensor({0.0, 2.0, 8.0, 10.0, 1.0, 3.0, 9.0, 11.0, 4.0, 6.0, 12.0, 14.0, 5.0, 7.0, 13.0, 15.0},
                    {1, 4, 2, 2}))));
  const std::int64_t factor = GENERATE(1, 2, 3);
  Squeeze other(factor);
  const Tensor images = normal({2, 3, 6, 12}, 11);
  CHECK(same_bits(other.inverse(other.forward(Var(images)).y), Var(images)));
  check_log_det(flow, normal({2, 2, 2, 4}, 12));
  CHECK_THROWS_WITH(flow.forward(Var(normal({1, 1, 3, 4}, 1))), Contains("divisible by 2: got (1,1,3,4)"));
  CHECK_THROWS_AS(flow.inverse(Var(normal({1, 3, 2, 2}, 1))), ShapeError);
  CHECK_THROWS_AS(Squeeze(0), ValueError);
}

TEST_CASE("LogitTransform: closed form, log-determinant, inverse", "[flow]") {
  const double alpha = GENERATE(0.0, 1e-6, 0.05);
  LogitTransform flow(alpha);
  const Var half = flow.forward(Var(tensor({0.5, 0.25}, {2, 1}))).y;
  CHECK(half.value().at(0) == Approx(0.0).margin(1e-15));
  const double s = alpha + (1.0 - 2.0 * alpha) * 0.25;
  CHECK(half.value().at(1) == Approx(std::log(s / (1.0 - s))));
  const Tensor x = uniform({4, 2, 3}, 13, 0.01, 0.99);
  CHECK(largest_difference(flow.inverse(flow.forward(Var(x)).y), Var(x)) < 4e-16);
  check_log_det(flow, uniform({3, 2, 2}, 14, 0.2, 0.8));
  if (alpha > 0.0) {
    const Var ends(tensor({0.0, 1.0}, {2, 1}));
    CHECK(flow.forward(ends).y.value().all_finite());
    CHECK(largest_difference(flow.inverse(flow.forward(ends).y), ends) < 1e-15);
  }
  const double end = (1.0 - alpha) / (1.0 - 2.0 * alpha);
  CHECK(std::isfinite(flow.forward(Var(tensor({end - 1e-9}, {1, 1}))).y.item()));
  CHECK(std::isnan(flow.forward(Var(tensor({end + 1e-9}, {1, 1}))).y.item()));
  CHECK_THROWS_AS(LogitTransform(0.5), ValueError);
  CHECK_THROWS_AS(flow.forward(Var(scalar(0.5))), ShapeError);
}

TEST_CASE("Dequantize: noise that rounding down takes away", "[flow]") {
  const std::int64_t levels = GENERATE(1, 2, 255, 256, 1 << 20);
  const DType dtype = GENERATE(DType::f32, DType::f64);
  Random random(15);
  Dequantize flow(levels, random);
  const Tensor x = levels_of({500, 4}, levels, dtype);
  const Transformed first = flow.forward(Var(x)), second = flow.forward(Var(x));
  CHECK(same_bits(flow.inverse(first.y), Var(x)));
  CHECK_FALSE(same_bits(first.y, second.y));
  for (std::int64_t i = 0; i < x.size(); ++i) {
    CHECK(first.y.value().at(i) > 0.0);
    CHECK(first.y.value().at(i) < 1.0);
  }
  CHECK(first.log_det.value().at(7) == Approx(-4.0 * std::log(static_cast<double>(levels))));
  CHECK(flow.inverse(Var(tensor({-0.1, 1.0, 2.0}, {3, 1}))).value().at(1) == static_cast<double>(levels - 1));
}

TEST_CASE("Dequantize's noise is uniform, and goes on from a saved state", "[flow]") {
  Random random(16);
  Dequantize flow(256, random);
  const std::int64_t n = 100000;
  const Tensor u = (flow.forward(Var(Tensor::zeros({n, 1}))).y * 256.0).value();
  double average = 0.0, square_average = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    average += u.at(i) / static_cast<double>(n);
    square_average += u.at(i) * u.at(i) / static_cast<double>(n);
  }
  CHECK(average == Approx(0.5).margin(4.0 * std::sqrt(1.0 / 12.0 / static_cast<double>(n))));
  CHECK(square_average == Approx(1.0 / 3.0).margin(4.0 * std::sqrt(4.0 / 45.0 / static_cast<double>(n))));

  Dequantize loaded(256, random);
  load_state(loaded, state(flow));
  const Var x(Tensor::zeros({3, 2}, DType::f64));
  CHECK(same_bits(loaded.forward(x).y, flow.forward(x).y));
  CHECK_THROWS_AS(Dequantize(0, random), ValueError);
  CHECK_THROWS_AS(Dequantize(1 << 21, random), ValueError);
  CHECK_THROWS_AS(flow.forward(Var(scalar(1.0))), ShapeError);
}

TEST_CASE("a sequence of flows adds their log-determinants", "[flow]") {
  FlowSequence flow = FlowSequence().then(LogitTransform(0.05)).then(Squeeze()).then(ActNorm(4, DType::f64));
  const Tensor x = uniform({3, 1, 2, 4}, 17, 0.1, 0.9);
  flow.forward(Var(x));  // starts ActNorm
  check_log_det(flow, uniform({2, 1, 2, 4}, 18, 0.2, 0.8));
  CHECK(largest_difference(flow.inverse(flow.forward(Var(x)).y), Var(x)) < 1e-15);
  REQUIRE(parameters(flow).size() == 2);
  CHECK(parameters(flow)[0].name == "flows.2.shift");
  CHECK(parameters(flow)[0].parameter->size() == 4);

  FlowSequence nothing;
  CHECK(same_bits(nothing.forward(Var(x)).y, Var(x)));
  CHECK(sum(nothing.forward(Var(x)).log_det).item() == 0.0);
}

TEST_CASE("a multi-scale flow factors half of the channels out", "[flow]") {
  std::vector<AnyFlow> levels;
  levels.emplace_back(FlowSequence().then(Squeeze()).then(ActNorm(4, DType::f64)));
  levels.emplace_back(FlowSequence().then(Squeeze()).then(ActNorm(8, DType::f64)));
  levels.emplace_back(ActNorm(4, DType::f64));
  MultiScaleFlow flow(std::move(levels));
  const Tensor x = normal({3, 1, 4, 8}, 19, 2.0);
  const MultiScaleTransformed moved = flow.forward(Var(x));
  REQUIRE(moved.z.size() == 3);
  CHECK(moved.z[0].shape() == Shape{3, 2, 2, 4});
  CHECK(moved.z[1].shape() == Shape{3, 4, 1, 2});
  CHECK(moved.z[2].shape() == Shape{3, 4, 1, 2});
  CHECK(largest_difference(flow.inverse(moved.z), Var(x)) < 1e-14);
  // All parts as one row: the Jacobian of the whole.
  const auto row = [&](const Var& at) {
    Vars parts;
    for (const Var& part : flow.forward(at).z) parts.push_back(flatten(part));
    return concat(parts, 1);
  };
  for (std::int64_t s = 0; s < 3; ++s)
    CHECK(moved.log_det.value().at(s) == Approx(dense_log_det(row, x.rows(s, s + 1))).margin(1e-12));

  CHECK_THROWS_WITH(flow.inverse(Vars{moved.z[0]}), Contains("one part a level: got 1 for 3"));
  CHECK_THROWS_WITH(MultiScaleFlow({}), Contains("at least one level"));
  std::vector<AnyFlow> odd;
  odd.emplace_back(FlowSequence());
  odd.emplace_back(FlowSequence());
  CHECK_THROWS_WITH(MultiScaleFlow(std::move(odd)).forward(Var(normal({2, 3}, 1))),
                    Contains("even number of channels"));
  const FactorOut::Halves halves = FactorOut().forward(Var(normal({2, 4, 3}, 20)));
  CHECK(halves.gone.shape() == Shape{2, 2, 3});
  CHECK(same_bits(FactorOut().inverse(halves), Var(normal({2, 4, 3}, 20))));
}
