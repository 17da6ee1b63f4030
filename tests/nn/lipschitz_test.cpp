// Induced norms, certified bounds of them, layers that keep to them while they are trained, and activations.
#include <banach/engine/blas.hpp>
#include <banach/nn/golub_kahan.hpp>
#include <banach/nn/induced_norm.hpp>
#include <banach/nn/init.hpp>
#include <banach/nn/lipschitz_activation.hpp>
#include <banach/nn/optim.hpp>
#include <banach/nn/sequential.hpp>
#include <banach/nn/singular_bound.hpp>
#include <banach/nn/spectral.hpp>
#include <banach/ops/derivatives.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double largest_singular_value(const Tensor& matrix) {
  const std::int64_t m = matrix.size(0), n = matrix.size(1);
  const Tensor wide = matrix.to(DType::f64);
  std::vector<double> a(wide.data<double>(), wide.data<double>() + m * n),
      values(static_cast<std::size_t>(std::min(m, n)));
  REQUIRE(blas::singular_values(m, n, a.data(), values.data()) == 0);
  return values.front();
}

// The matrix (outputs, inputs) of a linear map.
template <class Map>
Tensor matrix_of(const Shape& input, Map map) {
  const Var j = jacobian(map, Var(Tensor::zeros(input, DType::f64)));
  return j.value().reshape({j.size() / input.size(), input.size()});
}

// The largest singular value by 1,000 steps from a start of its own, with no more than the map.
template <class Map>
double independent_norm(const Shape& input, Map map, std::uint64_t seed) {
  Var x(normal(input, seed));
  double sigma = 0.0;
  const Var zero(Tensor::zeros(input, DType::f64));
  Differential at("test", [&](const Vars& v) { return Vars{map(v[0])}; }, {zero});
  for (int step = 0; step < 1000; ++step) {
    x = x / std::sqrt(sum(square(x)).item());
    const Vars y = at.push({x});
    sigma = std::sqrt(sum(square(y[0])).item());
    x = at.pull(y)[0];
  }
  return sigma;
}

double p_norm(const Tensor& x, double p) {
  double result = 0.0;
  for (std::int64_t i = 0; i < x.size(); ++i)
    result = std::isinf(p) ? std::max(result, std::abs(x.at(i))) : result + std::pow(std::abs(x.at(i)), p);
  return std::isinf(p) ? result : std::pow(result, 1.0 / p);
}

struct Product {
  Tensor w;
  template <class Body>
  auto operator()(Body body) const {
    const auto apply = [](const Var& a, const Var& x) { return matmul(a, x); };
    const auto transposed = [](const Var& a, const Var& y) { return matmul(a, y, {.transpose_a = true}); };
    return body(WeightedMap{{w.size(1), 1}, {w.size(0), 1}, apply, transposed});
  }
  NormingPair norm(const InducedNorm& norm) const {
    const Tensor start = Tensor::ones({w.size(1), 1}, DType::f64);
    return (*this)([&](const WeightedMap& map) {
      return induced_norm(map, w, norm, start, {.max_steps = 10000, .tolerance = 1e-14});
    });
  }
  double bound(const InducedNorm& norm) const {
    return (*this)(
        [&](const WeightedMap& map) { return induced_norm_bound(map, w, norm, singular_bound(w)); });
  }
};

Tensor absolute(const Tensor& x) { return abs(Var(x)).value(); }

}  // namespace

TEST_CASE("norms with closed forms: columns for p = 1, rows for q = infinity", "[lipschitz]") {
  const Product product{tensor({1.0, -2.0, 3.0, -4.0, 0.5, 2.0}, {2, 3})};
  CHECK(product.norm({1.0, 1.0}).value == 5.0);
  CHECK(product.norm({infinity, infinity}).value == Approx(6.5));
  CHECK(product.norm({1.0, 2.0}).value == Approx(std::sqrt(17.0)));
  CHECK(product.norm({2.0, infinity}).value == Approx(std::sqrt(20.25)));
  for (const InducedNorm norm : {InducedNorm{1.0, 1.0},
                                 {infinity, infinity},
                                 {1.0, 2.0},
                                 {2.0, infinity},
                                 {1.0, 3.0},
                                 {1.5, infinity}}) {
    const NormingPair found = product.norm(norm);
    CHECK(product.bound(norm) == Approx(found.value).epsilon(1e-12));
    CHECK(p_norm(found.right, norm.p) == Approx(1.0));
    CHECK(p_norm(matmul(Var(product.w), Var(found.right)).value(), norm.q) == Approx(found.value));
    CHECK(matmul(Var(found.left), matmul(Var(product.w), Var(found.right)), {.transpose_a = true}).item() ==
          Approx(found.value));
  }
}

TEST_CASE("Boyd's power method against a search over the sphere", "[lipschitz]") {
  const InducedNorm norm = GENERATE(InducedNorm{2.0, 2.0}, InducedNorm{3.0, 3.0}, InducedNorm{1.5, 1.5},
                                    InducedNorm{4.0, 2.0}, InducedNorm{2.0, 3.0}, InducedNorm{infinity, 1.0},
                                    InducedNorm{infinity, 2.0}, InducedNorm{2.0, 1.0});
  const bool nonnegative = GENERATE(true, false);
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    const Tensor any = normal({3, 2}, seed);
    const Product product{nonnegative ? absolute(any) : any};
    double best = 0.0;  // over directions in the plane
    for (int i = 0; i < 20000; ++i) {
      const double angle = M_PI * i / 20000.0;
      const Tensor x = tensor({std::cos(angle), std::sin(angle)}, {2, 1});
      double y[3];
      for (int row = 0; row < 3; ++row)
        y[row] = product.w.at(2 * row) * x.at(0) + product.w.at(2 * row + 1) * x.at(1);
      best = std::max(best, p_norm(tensor({y[0], y[1], y[2]}), norm.q) / p_norm(x, norm.p));
    }
    const NormingPair found = product.norm(norm);
    CHECK(found.value <= best * (1.0 + 1e-6));
    CHECK(p_norm(found.right, norm.p) == Approx(1.0));
    if (nonnegative && norm.p >= norm.q) CHECK(found.value == Approx(best).epsilon(1e-6));
    if (norm.spectral()) CHECK(found.value == Approx(best).epsilon(1e-6));
    CHECK(product.bound(norm) >= best * (1.0 - 1e-12));
  }
}

TEST_CASE("bounds near p = 1 and for large q, where powers of small entries underflow", "[lipschitz]") {
  Tensor column = Tensor::full({50, 1}, 0.4, DType::f64);
  column.mutable_data<double>()[0] = 1.0;
  const double exact = 1.0 + 49 * 0.4;  // ||w||_1 of the only column
  for (const double p : {1.0, 1.0005, 1.001, 1.01, 1.1}) {
    INFO("p " << p);
    CHECK(Product{column}.bound({p, 1.0}) >= exact);
    Random random(1);
    SpectralLinear layer(1, 50, random, {.bound = 1.0, .norm = {p, 1.0}, .certified = true},
                         {.dtype = DType::f64});
    layer.raw_weight.set(column);
    CHECK(p_norm(layer.weight().value(), 1.0) <= 1.0);
  }
  const Tensor row = column.reshape({1, 50});
  for (const double q : {100.0, 1000.0, 5000.0}) {
    INFO("q " << q);
    CHECK(Product{row}.bound({infinity, q}) >= exact);
    CHECK(Product{row}.bound({infinity, q}) <= 50.0);
    CHECK(Product{row}.bound({q, q}) >= Product{row}.norm({q, q}).value);
  }
}

TEST_CASE("singular_bound is above the SVD's value, and by no more than its last step gains", "[lipschitz]") {
  const auto [m, n] =
      GENERATE(std::pair<int, int>{1, 1}, std::pair<int, int>{5, 3}, std::pair<int, int>{3, 5},
               std::pair<int, int>{40, 40}, std::pair<int, int>{64, 7});
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const Tensor w = normal({m, n}, seed);
    const double exact = largest_singular_value(w);
    CHECK(singular_bound(w) >= exact);
    CHECK(singular_bound(w) <= exact * (1.0 + 1e-4));
  }
  CHECK(singular_bound(Tensor::eye(50, DType::f64)) <= 1.0 + 2e-5);  // all singular values alike
  CHECK(singular_bound(Tensor::eye(50)) >= 1.0);
  for (const double scale : {1e-300, 1e-150, 1e150, 1e300}) {
    const Tensor w = (Var(normal({6, 4}, 9)) * scale).value();
    CHECK(singular_bound(w) / scale == Approx(singular_bound(normal({6, 4}, 9))).epsilon(1e-12));
  }
  CHECK(singular_bound(Tensor::zeros({3, 4})) == 0.0);
  CHECK(singular_bound(Tensor::zeros({0, 4})) == 0.0);
  CHECK(std::isnan(singular_bound(tensor({1.0, infinity}, {1, 2}))));
  CHECK_THROWS_AS(singular_bound(Tensor::zeros({3})), ShapeError);
}

TEST_CASE("conv_singular_bound is above the dense convolution's value", "[lipschitz][unsanitized]") {
  struct Case {
    Pair kernel, image;
    Conv2dOptions geometry;
    double slack;  // what zeros at the border take away, at most
  };
  const Case c = GENERATE(values<Case>({{3, {6, 5}, {.padding = 1}, 0.15},
                                        {3, {12, 12}, {.padding = 1}, 0.06},
                                        {1, {4, 4}, {}, 1e-6},
                                        {{2, 3}, {6, 7}, {.padding = {0, 1}}, 0.3},
                                        {5, {9, 8}, {.padding = 2}, 0.3},
                                        {3, {8, 7}, {.stride = 2, .padding = 1}, 0.3},
                                        {4, {9, 9}, {.stride = {2, 3}, .padding = {1, 0}}, 0.4},
                                        {2, {6, 6}, {.stride = 2}, 1e-6},
                                        {3, {7, 7}, {.padding = 2, .dilation = 2}, 0.4},
                                        {3, {9, 9}, {.stride = 2, .padding = 3, .dilation = 3}, 0.6},
                                        {3, {6, 6}, {.padding = 1, .groups = 2}, 0.2}}));
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const Tensor w = normal({4, 2 / c.geometry.groups, c.kernel.h, c.kernel.w}, seed);
    const double exact = largest_singular_value(
        matrix_of({1, 2, c.image.h, c.image.w}, [&](const Var& x) { return conv2d(x, Var(w), c.geometry); }));
    const double bound = conv_singular_bound(w, c.image, c.geometry, 0);
    INFO("exact " << exact << ", bound " << bound);
    CHECK(bound >= exact);
    CHECK(bound <= exact * (1.0 + c.slack));
    // The map itself leaves no more than the last step gains.
    const double dense = conv_singular_bound(w, c.image, c.geometry, 1000);
    INFO("dense " << dense);
    CHECK(dense >= exact);
    CHECK(dense <= exact * (1.0 + 1e-5));
    for (const double scale : {1e-300, 1e300})
      CHECK(conv_singular_bound((Var(w) * scale).value(), c.image, c.geometry, 1000) / scale ==
            Approx(dense).epsilon(1e-12));
  }
  const Tensor w3 = normal({3, 2, 3, 3}, 5);
  CHECK(conv_singular_bound(w3, {8, 8}, {.padding = 1}) ==
        conv_singular_bound(w3, {8, 8}, {.padding = 1}, 128));
  CHECK(conv_singular_bound(w3, {8, 8}, {.padding = 1}, 127) ==
        conv_singular_bound(w3, {8, 8}, {.padding = 1}, 0));
  // The smaller of input and output decides: a stride of 4 leaves 3 x 2 x 2.
  CHECK(conv_singular_bound(w3, {8, 8}, {.stride = 4, .padding = 1}, 12) <
        conv_singular_bound(w3, {8, 8}, {.stride = 4, .padding = 1}, 11));
  CHECK(conv_singular_bound(Tensor::zeros({3, 2, 3, 3}), {4, 4}, {.padding = 1}) == 0.0);
  CHECK(std::isnan(conv_singular_bound(Tensor::full({3, 2, 3, 3}, infinity), {4, 4}, {.padding = 1})));
  CHECK_THROWS_AS(conv_singular_bound(Tensor::zeros({2, 2, 3}), 4, {}), ShapeError);
  const Tensor w = Tensor::ones({1, 1, 2, 2});
  for (const Conv2dOptions& geometry : {Conv2dOptions{.stride = 0}, Conv2dOptions{.dilation = {1, 0}}})
    CHECK_THROWS_WITH(conv_singular_bound(w, 4, geometry),
                      Contains("stride and dilation must be at least 1"));
}

TEST_CASE("layers report an estimate and an upper bound that hold the true norm between them",
          "[lipschitz]") {
  Random random(1);
  SpectralLinear dense(12, 9, random, {.bound = 0.9}, {.dtype = DType::f64});
  dense.raw_weight.set(normal({9, 12}, 2));
  const NormBounds of_dense = dense.lipschitz();
  const double exact = largest_singular_value(dense.weight().value());
  CHECK(of_dense.estimate <= exact * (1.0 + 1e-14));
  CHECK(of_dense.estimate >= exact * (1.0 - 1e-3));
  CHECK(of_dense.upper >= exact);
  CHECK(of_dense.upper <= exact * (1.0 + 1e-4));

  SpectralConv2d conv(2, 3, 3, {6, 6}, random, {.bound = 0.9},
                      {.stride = 2, .padding = 1, .bias = false, .dtype = DType::f64});
  conv.raw_weight.set(normal({3, 2, 3, 3}, 3));
  const NormBounds of_conv = conv.lipschitz();
  const double exact_conv = largest_singular_value(matrix_of({1, 2, 6, 6}, conv));
  CHECK(of_conv.estimate <= exact_conv * (1.0 + 1e-14));
  CHECK(of_conv.estimate >= exact_conv * (1.0 - 1e-3));
  CHECK(of_conv.upper >= exact_conv);
  CHECK(of_conv.upper <= exact_conv * (1.0 + 1e-5));
}

TEST_CASE("layers bounded in other norms than the 2-norm", "[lipschitz]") {
  Random random(4);
  const double p = GENERATE(1.0, infinity);
  SpectralLinear dense(7, 5, random, {.bound = 0.8, .norm = {p, p}}, {.dtype = DType::f64});
  dense.raw_weight.set(normal({5, 7}, 5));
  SpectralConv2d conv(2, 3, 3, {5, 6}, random, {.bound = 0.8, .norm = {p, p}},
                      {.stride = {1, 2}, .padding = 1, .bias = false, .dtype = DType::f64});
  conv.raw_weight.set(normal({3, 2, 3, 3}, 6));
  const auto exact = [&](const Tensor& matrix) {  // sums of columns, or of rows
    const Tensor sums = sum(abs(Var(matrix)), {p == 1.0 ? 0 : 1}).value();
    return p_norm(sums, infinity);
  };
  CHECK(exact(dense.weight().value()) == Approx(0.8).epsilon(1e-12));
  CHECK(exact(matrix_of({1, 2, 5, 6}, conv)) == Approx(0.8).epsilon(1e-12));
  CHECK(dense.lipschitz().estimate == Approx(0.8).epsilon(1e-12));
  CHECK(dense.lipschitz().upper == Approx(0.8).epsilon(1e-12));
  CHECK(conv.lipschitz().upper == Approx(0.8).epsilon(1e-12));
  CHECK(conv.lipschitz().upper >= exact(matrix_of({1, 2, 5, 6}, conv)));
  const GradcheckOptions first{.order = 1};
  const auto report = check_gradients(
      dense, normal({3, 7}, 7), [&](const Var& x) { return tanh(dense(x)); }, first);
  INFO(report.to_string());
  CHECK(report.passed);
}

TEST_CASE("derivatives of a layer bounded from the 3-norm to the 1.5-norm", "[lipschitz]") {
  Random random(8);
  SpectralLinear dense(4, 3, random,
                       {.bound = 0.8, .norm = {3.0, 1.5}, .power = {.max_steps = 100000, .tolerance = 1e-15}},
                       {.dtype = DType::f64});
  dense.raw_weight.set(absolute(normal({3, 4}, 9)));
  const auto report = check_gradients(dense, normal({3, 4}, 10), [&](const Var& x) { return tanh(dense(x)); },
                                      {.order = 1, .tolerance = 1e-5});
  INFO(report.to_string());
  CHECK(report.passed);
  const NormBounds bounds = dense.lipschitz();
  CHECK(bounds.estimate == Approx(0.8).epsilon(1e-10));
  CHECK(bounds.upper >= 0.8);
  for (const double bound : {0.0, infinity, std::nan("")})
    CHECK_THROWS_WITH(SpectralLinear(2, 2, random, {.bound = bound}), Contains("above 0 and finite"));
  CHECK_THROWS_WITH(SpectralLinear(2, 2, random, {.norm = {0.5, 2.0}}), Contains("p and q of at least 1"));
  CHECK_THROWS_WITH(SpectralLinear(2, 2, random, {.norm = {1.0, infinity}}), Contains("not offered"));
}

TEST_CASE("certified layers stay below their bound whatever power iteration has found", "[lipschitz]") {
  Random random(11);
  const PowerIterationOptions careless{.max_steps = 1};
  SpectralLinear dense(20, 20, random, {.bound = 0.9, .power = careless, .certified = true},
                       {.dtype = DType::f64});
  SpectralConv2d conv(2, 4, 3, {6, 6}, random, {.bound = 0.9, .power = careless, .certified = true},
                      {.padding = 1, .bias = false, .dtype = DType::f64});
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    dense.raw_weight.set(normal({20, 20}, seed));
    conv.raw_weight.set(normal({4, 2, 3, 3}, seed));
    CHECK(largest_singular_value(dense.weight().value()) <= 0.9);
    CHECK(largest_singular_value(dense.weight().value()) >= 0.9 * (1.0 - 1e-4));
    const double of_conv = largest_singular_value(matrix_of({1, 2, 6, 6}, conv));
    CHECK(of_conv <= 0.9);
    CHECK(of_conv >= 0.9 * (1.0 - 1e-5));
  }
  SpectralLinear loaded(20, 20, random, {.bound = 0.9, .power = careless, .certified = true},
                        {.dtype = DType::f64});
  load_state(loaded, state(dense));
  CHECK(same_bits(loaded.weight(), dense.weight()));
  dense.raw_weight.set(Tensor::zeros({20, 20}, DType::f64));
  CHECK(largest_difference(dense.weight(), Var(Tensor::zeros({20, 20}, DType::f64))) == 0.0);
}

TEST_CASE("golub_kahan against the SVD", "[lipschitz]") {
  const auto [m, n] =
      GENERATE(std::pair<int, int>{1, 5}, std::pair<int, int>{5, 1}, std::pair<int, int>{3, 8},
               std::pair<int, int>{8, 3}, std::pair<int, int>{40, 30});
  const int dimension = GENERATE(1, 2, 4, 16);
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const Tensor w = normal({m, n}, seed), start = normal({n, 1}, 100 + seed);
    const NormingPair found = Product{w}([&, wide = w](const WeightedMap& map) {
      return golub_kahan(map, wide, start, {.max_steps = 3000, .tolerance = 1e-13, .dimension = dimension});
    });
    const double exact = largest_singular_value(w);
    CHECK(found.value <= exact * (1.0 + 1e-14));
    CHECK(found.value >= exact * (1.0 - 1e-7));
    CHECK(p_norm(found.left, 2.0) == Approx(1.0).epsilon(1e-12));
    CHECK(p_norm(found.right, 2.0) == Approx(1.0).epsilon(1e-12));
    CHECK(matmul(Var(found.left), matmul(Var(w), Var(found.right)), {.transpose_a = true}).item() ==
          Approx(found.value).epsilon(1e-12));
  }
}

TEST_CASE("golub_kahan ends where there is nothing left to find", "[lipschitz]") {
  const auto run = [](const Tensor& w, const Tensor& start, const GolubKahanOptions& options = {}) {
    return Product{w}([&](const WeightedMap& map) { return golub_kahan(map, w, start, options); });
  };
  const Tensor start = normal({6, 1}, 1);
  CHECK(run(Tensor::zeros({4, 6}, DType::f64), start).value == 0.0);
  CHECK(run(Tensor::ones({4, 6}, DType::f64), start).value ==
        Approx(std::sqrt(24.0)).epsilon(1e-14));  // rank 1
  CHECK(run(Tensor::eye(6, DType::f64), start).value == Approx(1.0).epsilon(1e-14));
  CHECK(run(Tensor::eye(6, DType::f32), start.to(DType::f32)).value == Approx(1.0).epsilon(1e-6));
  CHECK_FALSE(std::isfinite(run(Tensor::full({4, 6}, infinity, DType::f64), start).value));
  CHECK_FALSE(run(Tensor::ones({4, 6}, DType::f64), Tensor::zeros({6, 1}, DType::f64)).value > 0.0);
  // Ends by steps: a poor value, from below.
  const Tensor w = normal({6, 6}, 2);
  const double poor = run(w, start, {.max_steps = 1}).value;
  CHECK(poor > 0.0);
  CHECK(poor < largest_singular_value(w));
}

TEST_CASE("Krylov spaces notice at once that another direction has taken the lead", "[lipschitz]") {
  Random random(12);
  const auto diagonal_of = [](double first, double second) {
    Tensor w = Tensor::zeros({6, 6}, DType::f64);
    for (int i = 0; i < 6; ++i) w.mutable_data<double>()[7 * i] = i == 0 ? first : i == 5 ? second : 0.5;
    return w;
  };
  SpectralLinear plain(6, 6, random, {}, {.dtype = DType::f64}),
      layer(6, 6, random, {.power = close_power_iteration}, {.dtype = DType::f64});
  double plain_error = 0.0;
  for (int step = 0; step <= 40; ++step) {  // 2.9 grows past 3
    const double second = 2.9 + 0.005 * step, exact = std::max(3.0, second);
    layer.raw_weight.set(diagonal_of(3.0, second));
    plain.raw_weight.set(diagonal_of(3.0, second));
    CHECK(layer.singular_value().item() == Approx(exact).epsilon(1e-9));
    plain_error = std::max(plain_error, 1.0 - plain.singular_value().item() / exact);
  }
  CHECK(plain_error > 0.01);  // power iteration did not
  SpectralLinear other(6, 6, random, {.power = close_power_iteration}, {.dtype = DType::f64});
  load_state(other, state(layer));
  CHECK(same_bits(other.weight(), layer.weight()));
  layer.raw_weight.set(Tensor::zeros({6, 6}, DType::f64));
  CHECK(layer.singular_value().item() == 0.0);
  layer.raw_weight.set(normal({6, 6}, 3));
  CHECK(layer.singular_value().item() == Approx(largest_singular_value(normal({6, 6}, 3))).epsilon(1e-9));
  CHECK_THROWS_AS(SpectralLinear(2, 2, random, {.power = {.krylov = 0}}), ValueError);
}

TEST_CASE("Krylov spaces of one input, whose start has no direction to choose", "[lipschitz]") {
  Random random(3);
  SpectralLinear dense(1, 8, random, {.bound = 0.5, .power = close_power_iteration}, {.dtype = DType::f64});
  SpectralConv2d conv(1, 4, 1, 1, random, {.bound = 0.5, .power = close_power_iteration},
                      {.bias = false, .dtype = DType::f64});
  for (std::uint64_t update = 0; update < 20; ++update) {
    dense.raw_weight.set(normal({8, 1}, update));
    conv.raw_weight.set(normal({4, 1, 1, 1}, update));
    CHECK(p_norm(dense.weight().value(), 2.0) == Approx(0.5));
    CHECK(p_norm(conv.weight().value(), 2.0) == Approx(0.5));
  }
}

TEST_CASE("after every training step the Lipschitz constants stay within their bound", "[lipschitz]") {
  Random random(13);
  const double c = 0.9;
  const SpectralOptions spectral{.bound = c, .power = close_power_iteration};
  double largest = 0.0;
  const auto within = [&](double constant) {
    CHECK(constant <= c * (1.0 + 1e-3));
    largest = std::max(largest, constant);
  };
  SECTION("a convolutional net") {
    const Pair image{6, 5};
    const DType dtype = DType::f64;
    Sequential net(SpectralConv2d(1, 4, 3, image, random, spectral, {.padding = 1, .dtype = dtype}),
                   LipSwish(dtype), SpectralConv2d(4, 4, 1, image, random, spectral, {.dtype = dtype}),
                   LipSwish(dtype),
                   SpectralConv2d(4, 1, 3, image, random, spectral, {.padding = 1, .dtype = dtype}));
    const ParameterList all = parameters(net);
    Adam adam(all, {.learning_rate = 1e-2});
    const Tensor x = normal({8, 1, 6, 5}, 14), target = (Var(x) * -3.0).value();
    for (int step = 0; step < 60; ++step) {
      {
        Tape tape;
        const Var loss = mean(square(net(Var(x)) - Var(target)));
        adam.step(grad(loss, all));
      }
      const auto& [first, a, second, b, third] = net.layers;
      for (const SpectralConv2d* layer : {&first, &second, &third}) {
        const Shape input = layer->power.right().shape();
        const Var w(layer->weight().value());
        const auto map = [&](const Var& at) { return conv2d(at, w, layer->geometry); };
        if (step % 4 == 0) within(largest_singular_value(matrix_of(input, map)));
        if (step == 59) within(independent_norm(input, map, 20));
      }
    }
  }
  SECTION("a dense net") {
    Sequential net(SpectralLinear(2, 24, random, spectral), LipSwish(),
                   SpectralLinear(24, 24, random, spectral), LipSwish(),
                   SpectralLinear(24, 2, random, spectral));
    const ParameterList all = parameters(net);
    Adam adam(all, {.learning_rate = 3e-2});
    const Tensor x = normal({64, 2}, 16).to(DType::f32), target = (Var(x) * -3.0).value();
    for (int step = 0; step < 100; ++step) {
      {
        Tape tape;
        const Var loss = mean(square(net(Var(x)) - Var(target)));
        adam.step(grad(loss, all));
      }
      const auto& [first, a, second, b, third] = net.layers;
      for (const SpectralLinear* layer : {&first, &second, &third})
        within(largest_singular_value(layer->weight().value()));
      if (step == 99) {
        const Var w(second.weight().value().to(DType::f64));
        within(independent_norm(
            {24, 1}, [&](const Var& at) { return matmul(w, at); }, 23));
      }
    }
  }
  CHECK(largest >= c * (1.0 - 1e-3));  // the bound was met, so the test had something to see
}

TEST_CASE("LipSwish: derivatives, and its Lipschitz constant", "[lipschitz]") {
  LipSwish activation(DType::f64);
  CHECK(activation(Var(tensor({0.0}))).item() == 0.0);
  const double beta = std::log1p(std::exp(0.5));
  CHECK(activation(Var(tensor({2.0}))).item() == Approx(2.0 / (1.0 + std::exp(-2.0 * beta)) / 1.1));
  const auto report = check_gradients(activation, normal({4, 3}, 1), activation);
  INFO(report.to_string());
  CHECK(report.passed);

  const double raw = GENERATE(-3.0, 0.5, 4.0);
  activation.raw_beta.set(scalar(raw, DType::f64));
  Tensor grid = Tensor::empty({20001}, DType::f64);
  for (int i = 0; i <= 20000; ++i)
    grid.mutable_data<double>()[i] = (i - 10000) * 2e-3 / std::log1p(std::exp(raw));
  const VjpResult slope = vjp([&](const Vars& x) { return Vars{activation(x[0])}; }, {Var(grid)},
                              {Var(Tensor::ones({20001}, DType::f64))});
  CHECK(max(slope.cotangents[0]).item() <= 1.0);
  CHECK(max(slope.cotangents[0]).item() > 0.999);
  CHECK(min(slope.cotangents[0]).item() == Approx(-0.0908).margin(1e-4));
}

TEST_CASE("group_sort and max_min permute within groups", "[lipschitz]") {
  const Tensor x = tensor({4.0, 3.0, 2.0, 1.0, 5.0, 6.0, 8.0, 7.0}, {2, 4});
  CHECK(same_bits(max_min(Var(x)), Var(tensor({3.0, 4.0, 1.0, 2.0, 5.0, 6.0, 7.0, 8.0}, {2, 4}))));
  CHECK(same_bits(group_sort(Var(x), 4), Var(tensor({1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}, {2, 4}))));
  CHECK(same_bits(group_sort(Var(x), 1), Var(x)));
  CHECK(same_bits(group_sort(Var(x), 2, 0), Var(tensor({4.0, 3.0, 2.0, 1.0, 5.0, 6.0, 8.0, 7.0}, {2, 4}))));
  const Tensor images = normal({2, 6, 3, 2}, 2);
  CHECK(same_bits(max_min(Var(images)), group_sort(Var(images), 2)));
  for (const std::int64_t group : {2, 3}) {
    // Norms of cotangents are preserved: the derivative is a permutation.
    const Tensor u = normal(images.shape(), 3);
    const VjpResult back =
        vjp([&](const Vars& at) { return Vars{group == 2 ? max_min(at[0]) : group_sort(at[0], group)}; },
            {Var(images)}, {Var(u)});
    CHECK(sum(square(back.cotangents[0])).item() == Approx(sum(square(Var(u))).item()));
    const auto report = gradcheck(
        [&](const Vars& at) { return Vars{sin(group == 2 ? max_min(at[0]) : group_sort(at[0], group))}; },
        {Var(images)});
    INFO(report.to_string());
    CHECK(report.passed);
  }
  CHECK(group_sort(Var(Tensor::zeros({0, 4})), 2).shape() == Shape{0, 4});
  CHECK_THROWS_WITH(group_sort(Var(x), 3),
                    Contains("[group_sort] group must divide the axis: 3 for axis 1 of (2,4)"));
  CHECK_THROWS_AS(group_sort(Var(x), 0), ValueError);
}
