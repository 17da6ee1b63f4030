#include <banach/nn/conv.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using Catch::Matchers::Contains;
using layers::normal;

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
      layers::check_gradients(layer, normal({2, 2, 5, 4}, 3), [&](const Var& x) { return tanh(layer(x)); });
  INFO(report.to_string());
  CHECK(report.passed);
}
