// Values against xtensor, which shares no code with these operations. Sources with xtensor in their name are
// compiled with -fno-new-ttp-matching under GCC: see the first test.
#include <banach/engine/samples.hpp>
#include <banach/ops/ops.hpp>

#include <catch2/catch.hpp>

#pragma GCC diagnostic ignored "-Warray-bounds"  // a false alarm inside xtensor's sort along an axis

#include <xtensor/xadapt.hpp>
#include <xtensor/xarray.hpp>
#include <xtensor/xmath.hpp>
#include <xtensor/xsort.hpp>
#include <xtensor/xview.hpp>

#include <cmath>
#include <functional>
#include <limits>

using namespace banach;

namespace {

using Array = xt::xarray<double>;

Array array(const Tensor& t) {
  std::vector<std::size_t> shape;
  for (const std::int64_t extent : t.shape()) shape.push_back(static_cast<std::size_t>(extent));
  Array result = xt::zeros<double>(shape);
  for (std::int64_t i = 0; i < t.size(); ++i) result.flat(static_cast<std::size_t>(i)) = t.at(i);
  return result;
}

/// Same shape, and the largest difference relative to max(1, |expected|) within the tolerance.
void check(const Var& got, const Array& expected, double tolerance) {
  std::vector<std::size_t> shape(got.shape().begin(), got.shape().end());
  REQUIRE(shape == std::vector<std::size_t>(expected.shape().begin(), expected.shape().end()));
  double error = 0;
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const double e = expected.flat(static_cast<std::size_t>(i));
    error = std::max(error, std::abs(got.value().at(i) - e) / std::max(1.0, std::abs(e)));
  }
  CHECK(error <= tolerance);
}

constexpr double eps = std::numeric_limits<double>::epsilon();

}  // namespace

TEST_CASE("reductions of an xarray have the rank they should") {
  // Under C++20, GCC picks a wrong template for these unless told otherwise, and a result of rank 4 appears.
  const Array x = xt::ones<double>({2, 3, 5});
  const Array lazy = xt::sum(x, {1}), immediate = xt::sum(x, {1}, xt::evaluation_strategy::immediate);
  const Array average = xt::mean(x, {0, 2});
  CHECK(lazy.dimension() == 2);
  CHECK(immediate.dimension() == 2);
  CHECK(xt::sum(x, {1}, xt::evaluation_strategy::immediate).dimension() == 2);
  CHECK(average.dimension() == 1);
  CHECK(immediate(1, 4) == 3.0);
  CHECK(average(2) == 1.0);
}

TEST_CASE("functions of one argument agree with xtensor") {
  using Ours = std::function<Var(const Var&)>;
  using Theirs = std::function<Array(const Array&)>;
  struct Row {
    const char* name;
    double low, high;
    Ours ours;
    Theirs theirs;
  };
  const Row rows[] = {
      {"neg", -5, 5, neg, [](const Array& x) -> Array { return -x; }},
      {"abs", -5, 5, [](const Var& x) { return abs(x); }, [](const Array& x) -> Array { return xt::abs(x); }},
      {"square", -5, 5, square, [](const Array& x) -> Array { return xt::square(x); }},
      {"reciprocal", 0.1, 5, reciprocal, [](const Array& x) -> Array { return 1.0 / x; }},
      {"sqrt", 0, 5, [](const Var& x) { return sqrt(x); },
       [](const Array& x) -> Array { return xt::sqrt(x); }},
      {"rsqrt", 0.1, 5, rsqrt, [](const Array& x) -> Array { return 1.0 / xt::sqrt(x); }},
      {"exp", -10, 10, [](const Var& x) { return exp(x); },
       [](const Array& x) -> Array { return xt::exp(x); }},
      {"expm1", -3, 3, [](const Var& x) { return expm1(x); },
       [](const Array& x) -> Array { return xt::expm1(x); }},
      {"log", 0.01, 50, [](const Var& x) { return log(x); },
       [](const Array& x) -> Array { return xt::log(x); }},
      {"log1p", -0.9, 5, [](const Var& x) { return log1p(x); },
       [](const Array& x) -> Array { return xt::log1p(x); }},
      {"sin", -10, 10, [](const Var& x) { return sin(x); },
       [](const Array& x) -> Array { return xt::sin(x); }},
      {"cos", -10, 10, [](const Var& x) { return cos(x); },
       [](const Array& x) -> Array { return xt::cos(x); }},
      {"tanh", -5, 5, [](const Var& x) { return tanh(x); },
       [](const Array& x) -> Array { return xt::tanh(x); }},
      {"sigmoid", -9, 9, sigmoid, [](const Array& x) -> Array { return 1.0 / (1.0 + xt::exp(-x)); }},
      {"softplus", -9, 9, softplus, [](const Array& x) -> Array { return xt::log1p(xt::exp(x)); }},
      {"relu", -5, 5, relu, [](const Array& x) -> Array { return xt::maximum(x, 0.0); }},
      {"leaky_relu", -5, 5, [](const Var& x) { return leaky_relu(x, 0.1); },
       [](const Array& x) -> Array { return xt::where(x > 0.0, x, 0.1 * x); }},
      {"clamp", -5, 5, [](const Var& x) { return clamp(x, -1.0, 2.0); },
       [](const Array& x) -> Array { return xt::clip(x, -1.0, 2.0); }},
      {"sign", -5, 5, sign, [](const Array& x) -> Array { return xt::sign(x); }},
      {"erf", -5, 5, [](const Var& x) { return erf(x); }, [](const Array& x) -> Array { return xt::erf(x); }},
      {"pow", 0.1, 5, [](const Var& x) { return pow(x, -1.7); },
       [](const Array& x) -> Array { return xt::pow(x, -1.7); }},
      {"elu", -5, 5, [](const Var& x) { return elu(x, 0.7); },
       [](const Array& x) -> Array { return xt::where(x > 0.0, x, 0.7 * xt::expm1(x)); }},
      {"silu", -9, 9, silu, [](const Array& x) -> Array { return x / (1.0 + xt::exp(-x)); }},
      {"gelu", -6, 6, [](const Var& x) { return gelu(x); },
       [](const Array& x) -> Array { return 0.5 * x * xt::erfc(x * -std::sqrt(0.5)); }},
      {"gelu_tanh", -6, 6, [](const Var& x) { return gelu(x, GeluForm::tanh_approximation); },
       [](const Array& x) -> Array {
         return 0.5 * x * (1.0 + xt::tanh(std::sqrt(2.0 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
       }},
      {"affine", -5, 5, [](const Var& x) { return 3.0 - 2.0 * x; },
       [](const Array& x) -> Array { return 3.0 - 2.0 * x; }},
  };
  SampleGen gen(61);
  for (const Row& row : rows)
    for (const Shape& shape : {Shape{}, Shape{7}, Shape{3, 0}, Shape{4, 5, 6}}) {
      INFO(row.name << " " << shape.to_string());
      const Tensor x = gen.uniform(shape, row.low, row.high);
      check(row.ours(Var(x)), row.theirs(array(x)), 8 * eps);
    }
}

TEST_CASE("broadcasting arithmetic and comparisons agree with xtensor") {
  SampleGen gen(62);
  const std::vector<std::pair<Shape, Shape>> shapes = {
      {{3, 4}, {3, 4}},    {{3, 4}, {4}},    {{3, 1}, {1, 5}}, {{2, 3}, {}},
      {{4, 1, 3}, {2, 1}}, {{1}, {2, 2, 2}}, {{0, 3}, {3}}};
  for (const auto& [sa, sb] : shapes) {
    INFO(sa.to_string() << " with " << sb.to_string());
    const Tensor ta = gen.uniform(sa, -2, 2), tb = gen.away_from_zero(sb);
    const Var a(ta), b(tb);
    const Array x = array(ta), y = array(tb);
    check(a + b, x + y, 0.0);
    check(a - b, x - y, 0.0);
    check(a * b, x * y, 0.0);
    check(a / b, x / y, 0.0);
    check(maximum(a, b), xt::maximum(x, y), 0.0);
    check(minimum(a, b), xt::minimum(x, y), 0.0);
    check(pow(exp(a), b), xt::pow(xt::exp(x), y), 16 * eps);
    check(pow(2.5, b), xt::pow(2.5, y), 2 * eps);
    check(where(greater(a, 0.0), a, b), xt::where(x > 0.0, x, y), 0.0);
    const Tensor ties_a = gen.indices(sa, 3).to(DType::f64), ties_b = gen.indices(sb, 3).to(DType::f64);
    const Var c(ties_a), d(ties_b);
    const Array z = array(ties_a), w = array(ties_b);
    check(equal(c, d), xt::cast<double>(xt::equal(z, w)), 0.0);
    check(not_equal(c, d), xt::cast<double>(xt::not_equal(z, w)), 0.0);
    check(less(c, d), xt::cast<double>(z < w), 0.0);
    check(less_equal(c, d), xt::cast<double>(z <= w), 0.0);
    check(greater(c, d), xt::cast<double>(z > w), 0.0);
    check(greater_equal(c, d), xt::cast<double>(z >= w), 0.0);
  }
}

TEST_CASE("reductions agree with xtensor") {
  SampleGen gen(63);
  const std::vector<std::pair<Shape, std::vector<std::size_t>>> cases = {
      {{5}, {0}},       {{3, 4}, {0}},       {{3, 4}, {1}},         {{3, 4}, {0, 1}},
      {{2, 3, 4}, {1}}, {{2, 3, 4}, {0, 2}}, {{2, 3, 2, 3}, {1, 3}}};
  for (const auto& [shape, theirs] : cases) {
    Axes axes;
    for (const std::size_t axis : theirs) axes.push_back(static_cast<std::int64_t>(axis));
    INFO(shape.to_string() << " over " << axes.to_string());
    const Tensor t = gen.normal(shape);
    const Array x = array(t);
    const Array total = xt::sum(x, theirs, xt::evaluation_strategy::immediate);
    const Array average = xt::mean(x, theirs, xt::evaluation_strategy::immediate);
    const Array largest = xt::amax(x, theirs, xt::evaluation_strategy::immediate);
    const Array exponentials = xt::exp(x);
    const Array log_total = xt::log(xt::sum(exponentials, theirs, xt::evaluation_strategy::immediate));
    check(sum(Var(t), axes), total, 32 * eps);
    check(mean(Var(t), axes), average, 32 * eps);
    check(max(Var(t), axes), largest, 0.0);
    const Array smallest = xt::amin(x, theirs, xt::evaluation_strategy::immediate);
    check(min(Var(t), axes), smallest, 0.0);
    const Array squares = xt::square(x);
    const Array length = xt::sqrt(xt::sum(squares, theirs, xt::evaluation_strategy::immediate));
    check(norm(Var(t), axes), length, 32 * eps);
    const Array sizes = xt::abs(x);
    check(norm(Var(t), axes, 1.0), xt::sum(sizes, theirs, xt::evaluation_strategy::immediate), 32 * eps);
    check(norm(Var(t), axes, std::numeric_limits<double>::infinity()),
          xt::amax(sizes, theirs, xt::evaluation_strategy::immediate), 0.0);
    // mean(x^2) - mean(x)^2 loses no more than a few digits here.
    const Array mean_square = xt::mean(squares, theirs, xt::evaluation_strategy::immediate);
    const Array variance = mean_square - xt::square(average);
    const double n = static_cast<double>(x.size()) / static_cast<double>(variance.size());
    check(var(Var(t), axes, 0), variance, 64 * eps);
    check(var(Var(t), axes), variance * (n / (n - 1)), 64 * eps);
    check(logsumexp(Var(t), axes), log_total, 32 * eps);
  }
}

TEST_CASE("sums along an axis and orders agree with xtensor") {
  SampleGen gen(65);
  // No vectors: xtensor's argmax of a vector gives the smallest.
  for (const auto& [shape, axis] : std::vector<std::pair<Shape, int>>{
           {{1, 7}, 1}, {{3, 5}, 0}, {{3, 5}, 1}, {{2, 4, 3}, 1}, {{2, 4, 3}, 2}}) {
    INFO(shape.to_string() << " along " << axis);
    const Tensor t = gen.normal(shape);
    const Array x = array(t);
    check(cumsum(Var(t), axis), xt::cumsum(x, axis), 16 * eps);
    check(sort(Var(t), axis).values, xt::sort(x, axis), 0.0);
    check(sort(Var(t), axis).indices, xt::cast<double>(xt::argsort(x, axis)), 0.0);
    check(topk(Var(t), shape[axis], axis).values, -xt::sort(Array(-x), axis), 0.0);
    check(argmax(Var(t), axis), xt::cast<double>(xt::argmax(x, axis)), 0.0);
    check(argmin(Var(t), axis), xt::cast<double>(xt::argmin(x, axis)), 0.0);
    check(dot(Var(t), Var(t)), xt::sum(xt::square(x), {x.dimension() - 1}), 16 * eps);
  }
}

TEST_CASE("softmax, normalize and mse agree with xtensor") {
  SampleGen gen(64);
  const Tensor t = gen.normal({4, 6}), other = gen.normal({4, 6});
  const Array x = array(t), e = xt::exp(x);
  const Array total = xt::sum(e, {1}, xt::evaluation_strategy::immediate);
  const Array column = xt::view(total, xt::all(), xt::newaxis());
  check(softmax(Var(t)), e / column, 32 * eps);
  check(log_softmax(Var(t)), x - xt::log(column), 32 * eps);
  const Array average = xt::mean(x, {1}, xt::evaluation_strategy::immediate);
  const Array centred = x - xt::view(average, xt::all(), xt::newaxis()), squares = xt::square(centred);
  const Array variance = xt::mean(squares, {1}, xt::evaluation_strategy::immediate);
  check(normalize(Var(t), 1e-3), centred / xt::sqrt(xt::view(variance, xt::all(), xt::newaxis()) + 1e-3),
        64 * eps);
  const Array difference = x - array(other), error = xt::square(difference);
  CHECK(mse(Var(t), Var(other)).item() == Approx(xt::mean(error)()).epsilon(1e-14));
  // Elementwise from the definitions, with logits small enough for them.
  const Tensor targets = gen.uniform({4, 6}, 0.1, 0.9), log_targets = log(Var(targets)).value();
  const Array p = array(targets), q = 1.0 / (1.0 + xt::exp(-x));
  const Array entropy = -p * xt::log(q) - (1.0 - p) * xt::log(1.0 - q);
  CHECK(bce_with_logits(Var(t), Var(targets)).item() == Approx(xt::mean(entropy)()).epsilon(1e-14));
  const Array divergence = p * (xt::log(p) - x);
  CHECK(kl_div(Var(t), Var(targets)).item() == Approx(xt::sum(divergence)() / 4.0).epsilon(1e-14));
  CHECK(kl_div(Var(t), Var(log_targets), true).item() == Approx(xt::sum(divergence)() / 4.0).epsilon(1e-14));
  const Array size = xt::abs(difference), robust = xt::where(size <= 0.8, 0.5 * error, 0.8 * (size - 0.4));
  CHECK(huber(Var(t), Var(other), 0.8).item() == Approx(xt::mean(robust)()).epsilon(1e-14));
}
