#include <banach/nn/conv.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

// The definition, one output at a time.
double direct(const Tensor& x, const Tensor& w, const Conv2dOptions& g, std::int64_t n, std::int64_t o,
              std::int64_t i, std::int64_t j) {
  const std::int64_t c = x.size(1), h = x.size(2), wide = x.size(3), per_group = w.size(1);
  const std::int64_t first = o / (w.size(0) / g.groups) * per_group;
  double sum = 0.0;
  for (std::int64_t k = 0; k < per_group; ++k)
    for (std::int64_t a = 0; a < w.size(2); ++a)
      for (std::int64_t b = 0; b < w.size(3); ++b) {
        const std::int64_t row = i * g.stride.h - g.padding.h + a * g.dilation.h;
        const std::int64_t column = j * g.stride.w - g.padding.w + b * g.dilation.w;
        if (row < 0 || row >= h || column < 0 || column >= wide) continue;
        sum += x.at(((n * c + first + k) * h + row) * wide + column) *
               w.at(((o * per_group + k) * w.size(2) + a) * w.size(3) + b);
      }
  return sum;
}

}  // namespace

TEST_CASE("Conv2d follows its definition", "[conv]") {
  Random random(1);
  const ConvOptions options =
      GENERATE(ConvOptions{}, ConvOptions{.padding = 1, .bias = false},
               ConvOptions{.stride = {2, 1}, .padding = {1, 2}, .groups = 2}, ConvOptions{.dilation = 2});
  ConvOptions chosen = options;
  chosen.dtype = DType::f64;
  const Conv2d layer(4, 6, {3, 2}, random, chosen);
  CHECK(layer.weight.shape() == Shape{6, 4 / options.groups, 3, 2});
  CHECK(layer.bias.has_value() == options.bias);
  const Tensor x = normal({2, 4, 7, 5}, 2), y = layer(Var(x)).value();
  REQUIRE(y.size(1) == 6);
  std::int64_t at = 0;
  for (std::int64_t n = 0; n < 2; ++n)
    for (std::int64_t o = 0; o < 6; ++o)
      for (std::int64_t i = 0; i < y.size(2); ++i)
        for (std::int64_t j = 0; j < y.size(3); ++j, ++at) {
          const double bias = layer.bias ? layer.bias->value().at(o) : 0.0;
          CHECK(y.at(at) ==
                Approx(direct(x, layer.weight.value(), layer.geometry, n, o, i, j) + bias).margin(1e-13));
        }
}

TEST_CASE("Conv2d refuses what does not fit", "[conv]") {
  Random random(1);
  CHECK_THROWS_WITH(Conv2d(4, 6, 3, random, {.groups = 4}),
                    Contains("[conv2d] groups must divide") && Contains("4 for 4 to 6"));
  CHECK_THROWS_WITH(Conv2d(4, 6, 0, random), Contains("[conv2d]") && Contains("kernel (0,0)"));
  const Conv2d layer(4, 6, 3, random);
  CHECK_THROWS_AS(layer(Var(Tensor::zeros({2, 3, 8, 8}))), ShapeError);
  CHECK_THROWS_WITH(layer(Var(Tensor::zeros({2, 3, 8, 8}))), Contains("[conv2d]") && Contains("(2,3,8,8)"));
}

TEST_CASE("derivatives of Conv2d", "[conv]") {
  Random random(1);
  Conv2d layer(2, 4, 3, random, {.stride = 2, .padding = 1, .groups = 2, .dtype = DType::f64});
  const auto report =
      check_gradients(layer, normal({2, 2, 5, 4}, 3), [&](const Var& x) { return tanh(layer(x)); });
  INFO(report.to_string());
  CHECK(report.passed);
}

TEST_CASE("ConvTranspose2d and Conv1d are their operations and a bias", "[conv]") {
  Random random(1);
  const ConvTranspose2d up(
      4, 6, {3, 2}, random,
      {.stride = 2, .padding = {1, 0}, .output_padding = 1, .groups = 2, .dtype = DType::f64});
  CHECK(up.weight.shape() == Shape{4, 3, 3, 2});
  const Tensor image = normal({2, 4, 3, 5}, 2), larger = up(Var(image)).value();
  CHECK(larger.shape() == Shape{2, 6, 6, 11});
  const Tensor without = conv_transpose2d(image, up.weight, up.geometry).value();
  for (std::int64_t i = 0; i < larger.size(); ++i)
    CHECK(larger.at(i) == Approx(without.at(i) + up.bias->value().at(i / 66 % 6)).margin(1e-14));

  const Conv1d causal(4, 6, 3, random, {.dilation = 2, .groups = 2, .causal = true, .dtype = DType::f64});
  CHECK(causal.weight.shape() == Shape{6, 2, 3});
  const Tensor signal = normal({2, 4, 9}, 3), y = causal(Var(signal)).value();
  CHECK(y.shape() == Shape{2, 6, 9});
  // What comes later changes nothing.
  Tensor changed = signal;
  for (std::int64_t c = 0; c < 8; ++c) changed.mutable_data<double>()[c * 9 + 8] += 1.0;
  const Tensor again = causal(Var(changed)).value();
  for (std::int64_t i = 0; i < y.size(); ++i) CHECK((i % 9 == 8) == (again.at(i) != y.at(i)));

  CHECK_FALSE(Conv1d(1, 1, 1, random, {.bias = false}).bias.has_value());
  CHECK_THROWS_WITH(Conv1d(4, 6, 0, random), Contains("[conv1d]") && Contains("kernel (0,1)"));
  CHECK_THROWS_WITH(ConvTranspose2d(4, 6, 3, random, {.groups = 4}),
                    Contains("[conv_transpose2d] groups must divide"));
  CHECK_THROWS_WITH(causal(Var(Tensor::zeros({2, 3, 8}, DType::f64))),
                    Contains("[conv1d]") && Contains("(2,3,8)"));
}

TEST_CASE("derivatives of ConvTranspose2d and Conv1d", "[conv]") {
  Random random(1);
  ConvTranspose2d up(2, 4, 3, random, {.stride = 2, .padding = 1, .groups = 2, .dtype = DType::f64});
  const auto first = check_gradients(up, normal({2, 2, 3, 2}, 3), [&](const Var& x) { return tanh(up(x)); });
  INFO(first.to_string());
  CHECK(first.passed);
  Conv1d causal(2, 4, 3, random, {.dilation = 2, .causal = true, .dtype = DType::f64});
  const auto second =
      check_gradients(causal, normal({2, 2, 6}, 4), [&](const Var& x) { return tanh(causal(x)); });
  INFO(second.to_string());
  CHECK(second.passed);
}
