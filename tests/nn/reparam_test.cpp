// Spectral and weight normalisation.
#include <banach/engine/blas.hpp>
#include <banach/nn/init.hpp>
#include <banach/nn/spectral.hpp>
#include <banach/nn/weight_norm.hpp>
#include <banach/ops/implicit/fixed_point.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

double largest_singular_value(const Tensor& matrix) {
  const std::int64_t m = matrix.size(0), n = matrix.size(1);
  std::vector<double> a(static_cast<std::size_t>(m * n)), values(static_cast<std::size_t>(std::min(m, n)));
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = matrix.at(static_cast<std::int64_t>(i));
  REQUIRE(blas::singular_values(m, n, a.data(), values.data()) == 0);
  return values.front();
}

// The matrix of a linear map on inputs of this shape: one column for each unit vector.
template <class Map>
Tensor matrix_of(const Shape& input, Map map) {
  std::vector<double> columns;
  const std::int64_t n = input.size();
  for (std::int64_t i = 0; i < n; ++i) {
    Tensor unit = Tensor::zeros(input, DType::f64);
    unit.mutable_data<double>()[i] = 1.0;
    const Tensor column = map(Var(unit)).value();
    columns.insert(columns.end(), column.data<double>(), column.data<double>() + column.size());
  }
  return tensor(columns, {n, static_cast<std::int64_t>(columns.size()) /
                                 n});  // its transpose: the same singular values
}

const PowerIterationOptions exactly{.max_steps = 100000, .tolerance = 1e-15};

// A matrix whose singular values are well apart, so that power iteration finds the first one to rounding.
Tensor separated(std::int64_t rows, std::int64_t columns, double top, std::uint64_t seed) {
  Random random(seed);
  const std::int64_t r = std::min(rows, columns);
  Tensor scale = Tensor::zeros({r, r}, DType::f64);
  for (std::int64_t i = 0; i < r; ++i)
    scale.mutable_data<double>()[i * r + i] = top * std::pow(0.6, static_cast<double>(i));
  const Var u(init::orthogonal({rows, r}, random, 1.0, DType::f64)),
      v(init::orthogonal({r, columns}, random, 1.0, DType::f64));
  return matmul(matmul(u, Var(scale)), v).value();
}

}  // namespace

TEST_CASE("SpectralLinear divides by the largest singular value, never multiplies", "[reparam]") {
  Random random(1);
  const auto [out, in] = GENERATE(std::pair<int, int>{4, 7}, std::pair<int, int>{7, 4},
                                  std::pair<int, int>{1, 5}, std::pair<int, int>{5, 1});
  SpectralLinear layer(in, out, random, {.bound = 0.8, .power = exactly}, {.dtype = DType::f64});
  const double top = GENERATE(3.0, 0.8001, 0.5);
  layer.raw_weight.set(separated(out, in, top, 2));
  CHECK(layer.singular_value().item() == Approx(top).epsilon(1e-12));
  const Tensor w = layer.weight().value();
  CHECK(largest_singular_value(w) == Approx(std::min(top, 0.8)).epsilon(1e-12));
  const double factor = std::min(1.0, 0.8 / top);
  CHECK(largest_difference(w, (Var(layer.raw_weight.value()) * factor).value()) < 1e-12);
}

TEST_CASE("SpectralLinear of random weights, against the SVD", "[reparam]") {
  Random random(3);
  const DType dtype = GENERATE(DType::f32, DType::f64);
  for (const std::int64_t n : {3, 20, 64}) {
    SpectralLinear layer(n, n, random, {}, {.dtype = dtype});
    layer.raw_weight.set(normal({n, n}, 4).to(dtype));
    const double exact = largest_singular_value(layer.raw_weight.value());
    const double estimate = layer.singular_value().item();
    CHECK(estimate <= exact * (1.0 + 1e-6));  // from below, but for rounding
    CHECK(estimate >= exact * (1.0 - 1e-3));
  }
}

TEST_CASE("sigma of SpectralConv2d is that of the convolution, padding and strides included", "[reparam]") {
  Random random(5);
  const ConvOptions options = GENERATE(ConvOptions{.padding = 1}, ConvOptions{.stride = 2, .padding = {1, 0}},
                                       ConvOptions{.groups = 2}, ConvOptions{.padding = 2, .dilation = 2});
  ConvOptions chosen = options;
  chosen.dtype = DType::f64;
  chosen.bias = false;
  SpectralConv2d layer(2, 4, 3, {6, 5}, random,
                       {.bound = 0.5, .power = {.max_steps = 100000, .tolerance = 1e-14}}, chosen);
  layer.raw_weight.set(normal(layer.raw_weight.shape(), 6));
  const Shape image{1, 2, 6, 5};
  const double exact = largest_singular_value(
      matrix_of(image, [&](const Var& x) { return conv2d(x, layer.raw_weight, layer.geometry); }));
  CHECK(layer.singular_value().item() == Approx(exact).epsilon(1e-6));
  CHECK(largest_singular_value(matrix_of(image, layer)) == Approx(0.5).epsilon(1e-6));
}

TEST_CASE("the Lipschitz bound holds between random inputs", "[reparam]") {
  Random random(7);
  const double bound = 0.9;
  SpectralLinear dense(30, 40, random, {.bound = bound}, {.dtype = DType::f64});
  dense.raw_weight.set(normal({40, 30}, 8));
  SpectralConv2d conv(3, 5, 3, {8, 8}, random, {.bound = bound}, {.padding = 1, .dtype = DType::f64});
  conv.raw_weight.set(normal({5, 3, 3, 3}, 9));
  const auto ratio = [](const auto& layer, const Tensor& x, const Tensor& y) {
    const Var before = Var(x) - Var(y), after = layer(Var(x)) - layer(Var(y));
    return std::sqrt(sum(square(after)).item() / sum(square(before)).item());
  };
  for (std::uint64_t i = 0; i < 50; ++i) {
    CHECK(ratio(dense, normal({1, 30}, 100 + i), normal({1, 30}, 200 + i)) <= bound);
    CHECK(ratio(conv, normal({1, 3, 8, 8}, 300 + i), normal({1, 3, 8, 8}, 400 + i)) <= bound);
  }
  // The bound is attained: along v itself.
  const Tensor v = dense.power.right().reshape({1, 30});
  CHECK(ratio(dense, v, Tensor::zeros({1, 30}, DType::f64)) == Approx(bound).epsilon(1e-3));
}

TEST_CASE("derivatives of the spectral layers", "[reparam]") {
  // First order only: second derivatives hold the singular vectors fixed, as the doc says.
  const GradcheckOptions first{.order = 1, .tolerance = 1e-5};
  Random random(10);
  const double bound = GENERATE(0.7, 50.0);
  SECTION("linear") {
    SpectralLinear layer(4, 3, random, {.bound = bound, .power = exactly}, {.dtype = DType::f64});
    layer.raw_weight.set(separated(3, 4, 2.0, 11));
    const auto report = check_gradients(
        layer, normal({5, 4}, 12), [&](const Var& x) { return tanh(layer(x)); }, first);
    INFO(report.to_string());
    CHECK(report.passed);
  }
  SECTION("convolution") {
    SpectralConv2d layer(1, 2, 3, {4, 4}, random, {.bound = bound, .power = exactly},
                         {.padding = 1, .dtype = DType::f64});
    layer.raw_weight.set(normal({2, 1, 3, 3}, 13));
    const auto report = check_gradients(
        layer, normal({2, 1, 4, 4}, 14), [&](const Var& x) { return tanh(layer(x)); }, first);
    INFO(report.to_string());
    CHECK(report.passed);
  }
}

TEST_CASE("power iteration advances only when the weight has changed", "[reparam]") {
  Random random(15);
  SpectralLinear layer(6, 6, random, {.power = {.max_steps = 3, .tolerance = 0.0}}, {.dtype = DType::f64});
  const Tensor first = layer.weight().value(), v = layer.power.right();
  CHECK(same_bits(layer.weight().value(), first));
  CHECK(layer.power.right().same_storage(v));
  layer.raw_weight.update([](Tensor& w) { w.mutable_data<double>()[0] += 0.01; });
  layer.weight();
  CHECK_FALSE(same_bits(layer.power.right(), v));

  SECTION("nor after its state was saved and loaded into another layer") {
    SpectralLinear other(6, 6, random, {.power = {.max_steps = 3, .tolerance = 0.0}}, {.dtype = DType::f64});
    load_state(other, state(layer));
    CHECK(same_bits(other.weight().value(), layer.weight().value()));
    CHECK(same_bits(other.power.right(), layer.power.right()));
  }
  SECTION("nor in a copy") {
    const SpectralLinear copy = layer;
    CHECK(same_bits(copy.weight().value(), layer.weight().value()));
  }
  SECTION("nor when another value has stood for the weight meanwhile") {
    const Tensor own = layer.weight().value();
    {
      const Substitution values({{"w", &layer.raw_weight}}, {Var(normal({6, 6}, 16))});
      CHECK_FALSE(same_bits(layer.weight().value(), own));
    }
    CHECK(largest_difference(layer.weight().value(), own) < 1e-2);  // found again, from another start
  }
}

TEST_CASE("power iteration finds a direction that it had lost", "[reparam]") {
  Random random(17);
  SpectralLinear layer(2, 2, random, {.power = exactly}, {.dtype = DType::f64});
  layer.raw_weight.set(tensor({3.0, 0.0, 0.0, 1.0}, {2, 2}));
  CHECK(layer.singular_value().item() == Approx(3.0));
  layer.raw_weight.set(tensor({1.0, 0.0, 0.0, 3.0}, {2, 2}));
  CHECK(layer.singular_value().item() == Approx(3.0));
  layer.raw_weight.set(Tensor::zeros({2, 2}, DType::f64));
  CHECK(layer.singular_value().item() == 0.0);
  CHECK(largest_difference(layer.weight().value(), Tensor::zeros({2, 2})) == 0.0);
  layer.raw_weight.set(tensor({0.0, 2.0, 0.0, 0.0}, {2, 2}));
  CHECK(layer.singular_value().item() == Approx(2.0));
}

TEST_CASE("a spectral layer inside a fixed point is a fixed map", "[reparam]") {
  Random random(18);
  SpectralLinear recur(5, 5, random, {.bound = 0.7}, {.dtype = DType::f64});
  recur.raw_weight.set(normal({5, 5}, 19));
  const Var u(normal({4, 5}, 20));
  Tape tape;
  const auto solved =
      fixed_point([&](const Var& z) { return tanh(recur(z) + u); }, Var(Tensor::zeros({4, 5}, DType::f64)),
                  {.solver = Picard{}, .tolerance = 1e-12, .max_steps = 500});
  CHECK(solved.report.converged());
  for (const SampleReport& sample : solved.report.samples) CHECK(sample.rate < 0.71);
  const Vars g = grad(sum(solved.z), parameters(recur));
  CHECK(largest_difference(g[0].value(), Tensor::zeros({5, 5})) > 0.0);
}

TEST_CASE("weight normalisation: length and direction", "[reparam]") {
  Random random(21);
  const Linear plain = [] {
    Random r(22);
    return Linear(3, 4, r, {.dtype = DType::f64});
  }();
  WeightNormLinear layer = [] {
    Random r(22);
    return WeightNormLinear(3, 4, r, {.dtype = DType::f64});
  }();
  CHECK(largest_difference(layer.weight().value(), plain.weight.value()) <
        1e-15);  // starts as the plain layer
  layer.magnitude->set(tensor({1.0, 2.0, 3.0, 4.0}));
  const Tensor w = layer.weight().value();
  for (std::int64_t o = 0; o < 4; ++o) {
    double length = 0.0, along = 0.0;
    for (std::int64_t i = 0; i < 3; ++i) {
      length += w.at(o * 3 + i) * w.at(o * 3 + i);
      along += w.at(o * 3 + i) * plain.weight.value().at(o * 3 + i);
    }
    CHECK(std::sqrt(length) == Approx(static_cast<double>(o + 1)));
    CHECK(along > 0.0);
  }
  layer.direction.set(
      (Var(plain.weight.value()) * 5.0).value());  // rows well away from zero, the kink of the norm
  CHECK(largest_difference(layer.weight().value(), w) < 1e-14);  // their length does not matter
  const auto report =
      check_gradients(layer, normal({5, 3}, 23), [&](const Var& x) { return tanh(layer(x)); });
  INFO(report.to_string());
  CHECK(report.passed);

  WeightNormConv2d conv(2, 3, 3, random, {.padding = 1, .dtype = DType::f64});
  const auto second =
      check_gradients(conv, normal({2, 2, 4, 4}, 24), [&](const Var& x) { return tanh(conv(x)); });
  INFO(second.to_string());
  CHECK(second.passed);
}

TEST_CASE("bad options of spectral layers are refused", "[reparam]") {
  Random random(1);
  CHECK_THROWS_WITH(SpectralLinear(2, 2, random, {.bound = 0.0}),
                    Contains("[spectral] bound must be above 0"));
  CHECK_THROWS_WITH(SpectralLinear(2, 2, random, {.power = {.max_steps = 0}}), Contains("[power_iteration]"));
  CHECK_THROWS_AS(SpectralConv2d(2, 2, 3, {1, 1}, random), ShapeError);
}
