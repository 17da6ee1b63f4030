#include <banach/nn/linear.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

TEST_CASE("Linear is x W^T + b for any leading axes", "[linear]") {
  Random random(1);
  const bool with_bias = GENERATE(true, false);
  const Linear layer(3, 4, random, {.bias = with_bias, .dtype = DType::f64});
  CHECK(layer.bias.has_value() == with_bias);
  const Shape lead = GENERATE(Shape{}, Shape{5}, Shape{2, 5}, Shape{0}, Shape{2, 1, 3});
  Ints extents = lead;
  extents.push_back(3);
  const Tensor x = normal(Shape(extents), 2);
  const Tensor y = layer(Var(x)).value();
  extents[lead.rank()] = 4;
  REQUIRE(y.shape() == Shape(extents));
  const auto w = layer.weight.value().values<double>();
  for (std::int64_t row = 0; row < lead.size(); ++row)
    for (std::int64_t o = 0; o < 4; ++o) {
      double expected = with_bias ? layer.bias->value().at(o) : 0.0;
      for (std::int64_t i = 0; i < 3; ++i)
        expected += x.at(row * 3 + i) * w[static_cast<std::size_t>(o * 3 + i)];
      CHECK(y.at(row * 4 + o) == Approx(expected).epsilon(1e-13));
    }
}

TEST_CASE("Linear starts uniform within 1 / sqrt(in)", "[linear]") {
  Random random(1);
  const Linear layer(100, 50, random);
  double largest = 0.0;
  for (const float w : layer.weight.value().values<float>())
    largest = std::max(largest, std::abs(static_cast<double>(w)));
  CHECK(largest <= 0.1 + 1e-7);
  CHECK(largest > 0.099);
}

TEST_CASE("Linear names what it expects", "[linear]") {
  Random random(1);
  const Linear layer(784, 10, random);
  CHECK_THROWS_AS(layer(Var(Tensor::zeros({5, 3}))), ShapeError);
  CHECK_THROWS_WITH(layer(Var(Tensor::zeros({5, 3}))),
                    Contains("[linear]") && Contains("784 features") && Contains("(5,3)"));
  CHECK_THROWS_WITH(layer(Var(Tensor::zeros({5, 1, 28, 28}))),
                    Contains("(5,1,28,28)") && Contains("flatten"));
  CHECK_THROWS_WITH(layer(Var(Tensor::zeros({}))), Contains("[linear]"));
  CHECK_THROWS_AS(layer(Var(Tensor::zeros({5, 784}, DType::f64))), DTypeError);
  CHECK_THROWS_WITH(Linear(0, 3, random), Contains("[linear] features must be at least 1: got 0 to 3"));
}

TEST_CASE("derivatives of Linear", "[linear]") {
  Random random(1);
  Linear layer(3, 4, random, {.dtype = DType::f64});
  const Shape shape = GENERATE(Shape{5, 3}, Shape{3}, Shape{2, 2, 3});
  const auto report = check_gradients(layer, normal(shape, 3), [&](const Var& x) { return tanh(layer(x)); });
  INFO(report.to_string());
  CHECK(report.passed);
}
