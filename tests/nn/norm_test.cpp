#include <banach/nn/linear.hpp>
#include <banach/nn/norm.hpp>
#include <banach/ops/implicit/fixed_point.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

struct Statistics {
  std::vector<double> mean, variance;  // population
};

// Of each channel of (n,c) or (n,c,h,w).
Statistics statistics(const Tensor& x) {
  const std::int64_t channels = x.size(1), inner = x.shape().size(2, x.rank());
  const auto n = static_cast<double>(x.size() / channels);
  Statistics s{std::vector<double>(static_cast<std::size_t>(channels)),
               std::vector<double>(static_cast<std::size_t>(channels))};
  const auto channel = [&](std::int64_t i) { return static_cast<std::size_t>(i / inner % channels); };
  for (std::int64_t i = 0; i < x.size(); ++i) s.mean[channel(i)] += x.at(i) / n;
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const double d = x.at(i) - s.mean[channel(i)];
    s.variance[channel(i)] += d * d / n;
  }
  return s;
}

void set(std::optional<Parameter>& parameter, std::uint64_t seed) {
  parameter->set(normal(parameter->shape(), seed).to(parameter->dtype()));
}

}  // namespace

TEST_CASE("LayerNorm normalises the last axis of each sample", "[norm]") {
  const bool affine = GENERATE(true, false);
  LayerNorm layer(6, {.affine = affine, .dtype = DType::f64});
  CHECK(parameters(layer).size() == (affine ? 2u : 0u));
  if (affine) set(layer.weight, 1), set(layer.bias, 2);
  const Tensor x = normal({2, 3, 6}, 3), y = layer(Var(x)).value();
  for (std::int64_t row = 0; row < 6; ++row) {
    double mean = 0.0, variance = 0.0;
    for (std::int64_t i = 0; i < 6; ++i) mean += x.at(row * 6 + i) / 6.0;
    for (std::int64_t i = 0; i < 6; ++i) variance += std::pow(x.at(row * 6 + i) - mean, 2) / 6.0;
    for (std::int64_t i = 0; i < 6; ++i) {
      const double plain = (x.at(row * 6 + i) - mean) / std::sqrt(variance + 1e-5);
      const double expected =
          affine ? plain * layer.weight->value().at(i) + layer.bias->value().at(i) : plain;
      CHECK(y.at(row * 6 + i) == Approx(expected).margin(1e-13));
    }
  }
  CHECK_THROWS_WITH(layer(Var(Tensor::zeros({2, 5}, DType::f64))),
                    Contains("[layer_norm]") && Contains("6 features") && Contains("(2,5)"));
  const auto report = check_gradients(layer, normal({3, 6}, 4), [&](const Var& v) { return tanh(layer(v)); });
  INFO(report.to_string());
  CHECK(report.passed);
}

TEST_CASE("BatchNorm: batch statistics in training, running ones in evaluation", "[norm]") {
  const bool affine = GENERATE(true, false);
  const Shape shape = GENERATE(Shape{5, 3}, Shape{2, 3, 2, 4});
  BatchNorm layer(3, {.affine = affine, .dtype = DType::f64});
  CHECK(parameters(layer).size() == (affine ? 2u : 0u));
  if (affine) set(layer.weight, 1), set(layer.bias, 2);
  const std::int64_t inner = shape.size(2, shape.rank());
  const auto expect = [&](const Tensor& x, const Tensor& y, const Statistics& s) {
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const std::int64_t c = i / inner % 3;
      const double plain = (x.at(i) - s.mean[static_cast<std::size_t>(c)]) /
                           std::sqrt(s.variance[static_cast<std::size_t>(c)] + 1e-5);
      const double expected =
          affine ? plain * layer.weight->value().at(c) + layer.bias->value().at(c) : plain;
      CHECK(y.at(i) == Approx(expected).margin(1e-12));
    }
  };

  Statistics running{{0, 0, 0}, {1, 1, 1}};
  for (std::uint64_t batch = 0; batch < 3; ++batch) {
    Tape tape;
    const Tensor x = normal(shape, 10 + batch);
    const Statistics s = statistics(x);
    expect(x, layer(Var(x)).value(), s);
    const auto n = static_cast<double>(x.size() / 3);
    for (std::size_t c = 0; c < 3; ++c) {
      running.mean[c] = 0.9 * running.mean[c] + 0.1 * s.mean[c];
      running.variance[c] = 0.9 * running.variance[c] + 0.1 * s.variance[c] * n / (n - 1.0);
    }
  }
  eval(layer);
  const Tensor x = normal(shape, 20);
  expect(x, layer(Var(x)).value(), running);
  Tape tape;
  expect(x, layer(Var(x)).value(), running);  // recorded or not, evaluation moves nothing
  CHECK(layer.running_mean.value.at(0) == Approx(running.mean[0]).epsilon(1e-13));
}

TEST_CASE("derivatives of BatchNorm", "[norm]") {
  const Shape shape = GENERATE(Shape{5, 3}, Shape{2, 3, 2, 2});
  const bool training = GENERATE(true, false);
  BatchNorm layer(3, {.dtype = DType::f64});
  set(layer.weight, 1), set(layer.bias, 2);
  set_training(layer, training);
  const auto report = check_gradients(layer, normal(shape, 3), [&](const Var& x) { return tanh(layer(x)); });
  INFO(report.to_string());
  CHECK(report.passed);
}

TEST_CASE("BatchNorm's running statistics move for recorded evaluations only", "[norm]") {
  BatchNorm layer(2);
  const Var x(normal({8, 2}, 1).to(DType::f32));
  const Tensor before = layer.running_mean.value.clone();
  layer(x);
  CHECK(same_bits(layer.running_mean.value, before));
  {
    Tape tape;
    const NoGrad off;
    layer(x);
  }
  CHECK(same_bits(layer.running_mean.value, before));
  {
    Tape tape;
    layer(x);
  }
  CHECK_FALSE(same_bits(layer.running_mean.value, before));

  SECTION("a batch that is not finite leaves them alone") {
    const Tensor after = layer.running_variance.value.clone();
    Tensor bad = normal({8, 2}, 1).to(DType::f32);
    bad.mutable_data<float>()[0] = NAN;
    Tape tape;
    layer(Var(bad));
    CHECK(same_bits(layer.running_variance.value, after));
  }
}

TEST_CASE("BatchNorm inside a fixed point: its statistics move once a solve, at the solution", "[norm]") {
  Random random(1);
  BatchNorm layer(3, {.momentum = 1.0, .affine = false, .dtype = DType::f64});
  const Var u(normal({6, 3}, 2));
  const auto body = [&](const Var& z) { return 0.3 * layer(tanh(z) + u); };
  Tape tape;
  const Var z0(Tensor::zeros({6, 3}, DType::f64));
  const Body how = GENERATE(Body::eager, Body::replayed);
  const auto solved = fixed_point(body, z0, {.tolerance = 1e-12, .batch = Batch::none, .body = how});
  REQUIRE(solved.report.converged());
  REQUIRE(solved.report.nstep > 3);
  const Statistics at_solution = statistics((tanh(solved.z.detach()) + u).value());
  for (std::size_t c = 0; c < 3; ++c) {
    CHECK(layer.running_mean.value.at(static_cast<std::int64_t>(c)) ==
          Approx(at_solution.mean[c]).margin(1e-12));
    CHECK(layer.running_variance.value.at(static_cast<std::int64_t>(c)) ==
          Approx(at_solution.variance[c] * 6.0 / 5.0));
  }
}

TEST_CASE("BatchNorm moves its statistics once a solve, replayed or not", "[norm]") {
  const auto moved = [](Body how, const Solver& solver) {
    BatchNorm layer(3, {.momentum = 0.5, .affine = false, .dtype = DType::f64});
    const Var u(normal({6, 3}, 2));
    Tape tape;
    fixed_point([&](const Var& z) { return 0.3 * layer(tanh(z) + u); },
                Var(Tensor::zeros({6, 3}, DType::f64)),
                {.solver = solver, .tolerance = 1e-12, .batch = Batch::none, .body = how});
    return layer.running_mean.value;
  };
  for (const Solver& solver : {Solver(Anderson{}), Solver(Picard{})})
    CHECK(largest_difference(moved(Body::replayed, solver), moved(Body::eager, solver)) <= 1e-12);
}

TEST_CASE("BatchNorm names what it expects", "[norm]") {
  BatchNorm layer(3);
  CHECK_THROWS_WITH(layer(Var(Tensor::zeros({4, 5}))),
                    Contains("[batch_norm]") && Contains("(n,3)") && Contains("(4,5)"));
  CHECK_THROWS_WITH(layer(Var(Tensor::zeros({4, 3, 2}))), Contains("[batch_norm]"));
  CHECK_THROWS_WITH(layer(Var(Tensor::zeros({1, 3}))), Contains("more than one value") && Contains("(1,3)"));
  eval(layer);
  CHECK_NOTHROW(layer(Var(Tensor::zeros({1, 3}))));
  CHECK_THROWS_WITH(BatchNorm(3, {.momentum = 2.0}), Contains("[batch_norm] momentum"));
  CHECK_THROWS_WITH(BatchNorm(0), Contains("[batch_norm]"));
}

TEST_CASE("GroupNorm normalises the groups of each sample", "[norm]") {
  const std::int64_t groups = GENERATE(1, 2, 4);
  const bool affine = GENERATE(true, false);
  GroupNorm layer(groups, 4, {.affine = affine, .dtype = DType::f64});
  CHECK(parameters(layer).size() == (affine ? 2u : 0u));
  if (affine) set(layer.weight, 1), set(layer.bias, 2);
  const Tensor x = normal({3, 4, 2, 5}, 3), y = layer(Var(x)).value();
  const std::int64_t count = 40 / groups;
  for (std::int64_t group = 0; group < 3 * groups; ++group) {
    double mean = 0.0, variance = 0.0;
    for (std::int64_t i = group * count; i < (group + 1) * count; ++i)
      mean += x.at(i) / static_cast<double>(count);
    for (std::int64_t i = group * count; i < (group + 1) * count; ++i)
      variance += std::pow(x.at(i) - mean, 2) / static_cast<double>(count);
    for (std::int64_t i = group * count; i < (group + 1) * count; ++i) {
      const double plain = (x.at(i) - mean) / std::sqrt(variance + 1e-5);
      const std::int64_t c = i / 10 % 4;
      CHECK(y.at(i) ==
            Approx(affine ? plain * layer.weight->value().at(c) + layer.bias->value().at(c) : plain)
                .margin(1e-13));
    }
  }
  const auto report =
      check_gradients(layer, normal({2, 4, 3}, 4), [&](const Var& v) { return tanh(layer(v)); });
  INFO(report.to_string());
  CHECK(report.passed);
  CHECK_THROWS_WITH(GroupNorm(3, 4), Contains("[group_norm] groups must divide the channels: 3 for 4"));
}
