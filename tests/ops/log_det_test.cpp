// log |det(I + J)|: the dense one, the cut series and its bound, what all estimators must keep to.
#include "log_det_maps.hpp"

#include <banach/engine/gradcheck.hpp>
#include <banach/engine/tape.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <tests/threads.hpp>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

LogDet of_curved(const Tensor& x, const Tensor& w, const LogDetOptions& options) {
  return log_det([&](const Var& at) { return curved_map(at, Var(w)); }, Var(x), options);
}

// The derivative of the sum of all values in x and W.
Vars gradients(const Tensor& x, const Tensor& w, const LogDetOptions& options) {
  Tape tape;
  const Vars at{leaf(x), leaf(w)};
  return grad(sum(log_det([&](const Var& z) { return curved_map(z, at[1]); }, at[0], options).value), at);
}

}  // namespace

TEST_CASE("Exact is the determinant of the Jacobian, with its sign", "[log_det]") {
  for (const std::int64_t n : {1, 2, 5, 20}) {
    const Tensor w = normal({n, n}, 3), x = normal({4, n}, 4);
    const LogDet linear = log_det([&](const Var& z) { return linear_map(z, Var(w)); }, Var(x));
    REQUIRE(linear.value.shape() == Shape{4});
    const SignLogDet expected = slogdet(Var(w) + Var(Tensor::eye(n, DType::f64)));
    for (std::int64_t s = 0; s < 4; ++s) {
      CHECK(linear.value.value().at(s) == Approx(expected.log_abs.item()).epsilon(1e-12).margin(1e-12));
      CHECK(linear.report.samples[static_cast<std::size_t>(s)].sign == expected.sign.item());
    }
    CHECK(largest_difference(linear.image, linear_map(Var(x), Var(w))) == 0.0);
    CHECK(linear.report.products == n);

    const LogDet curved = of_curved(x, w, {});
    for (std::int64_t s = 0; s < 4; ++s) {
      const Var row(x.rows(s, s + 1));
      const Var dense = reshape(jacobian([&](const Var& z) { return curved_map(z, Var(w)); }, row), {n, n});
      CHECK(curved.value.value().at(s) == Approx(dense_log_det(dense.value())).epsilon(1e-11).margin(1e-12));
    }
  }
}

TEST_CASE("Exact: reflections and singular blocks", "[log_det]") {
  const Var x(normal({2, 3}, 1));
  const LogDet reflected = log_det([](const Var& z) { return -2.0 * z; }, x);
  CHECK(reflected.value.value().at(0) == Approx(0.0).margin(1e-15));
  CHECK(reflected.report.samples[0].sign == -1.0);
  const LogDet singular = log_det([](const Var& z) { return -z; }, x);
  CHECK(singular.value.value().at(1) == -infinity);
  CHECK(singular.report.samples[1].status == Status::singular);
}

TEST_CASE("images: entries of a sample may have any shape", "[log_det]") {
  const Tensor x = normal({2, 1, 3, 3}, 5), kernel = normal({1, 1, 3, 3}, 6, 0.1);
  const auto g = [&](const Var& z) { return conv2d(z, Var(kernel), {.padding = 1}); };
  const LogDet exact = log_det(g, Var(x));
  const Var dense = jacobian([&](const Var& z) { return g(z); }, Var(x.rows(0, 1)));
  CHECK(exact.value.value().at(0) == Approx(dense_log_det(reshape(dense, {9, 9}).value())).epsilon(1e-12));
  CHECK(exact.value.shape() == Shape{2});
  CHECK(exact.image.shape() == x.shape());
  const LogDet series = log_det(g, Var(x), {.estimator = PowerSeries{.terms = 60, .sketch = 9}});
  CHECK(largest_difference(series.value, exact.value) < 1e-12);
}

TEST_CASE("PowerSeries: J = -c I attains the bound of the bias", "[log_det]") {
  const Var x(normal({3, 7}, 2));
  for (const double c : {0.0, 0.1, 0.5, 0.9, 0.99, 0.9999})
    for (const int terms : {1, 2, 5, 30}) {
      const LogDet cut = log_det([&](const Var& z) { return -c * z; }, x,
                                 {.estimator = PowerSeries{.terms = terms}, .lipschitz = c});
      const double exact = 7.0 * std::log1p(-c);
      INFO("c " << c << ", terms " << terms);
      for (std::int64_t s = 0; s < 3; ++s) {
        const LogDetSample& sample = cut.report.samples[static_cast<std::size_t>(s)];
        CHECK(sample.truncation_bound == Approx(cut.value.value().at(s) - exact).epsilon(0.0).margin(1e-12));
        CHECK(sample.status == Status::converged);
        CHECK(sample.terms == terms);
        CHECK(sample.rate == Approx(c).margin(1e-15));
      }
    }
}

TEST_CASE("PowerSeries: small bounds are right to many digits", "[log_det]") {
  const Var x(normal({1, 2}, 2));
  const double c = 0.125;
  const auto bound = [&](int terms) {
    return log_det([&](const Var& z) { return -c * z; }, x,
                   {.estimator = PowerSeries{.terms = terms}, .lipschitz = c})
        .report.samples[0]
        .truncation_bound;
  };
  double rest = 0.0;
  for (int k = 60; k > 20; --k) rest += std::pow(c, k) / k;
  CHECK(bound(20) == Approx(2.0 * rest).epsilon(1e-14));
}

TEST_CASE("PowerSeries: the bias is within its bound", "[log_det]") {
  for (std::uint64_t seed = 0; seed < 10; ++seed)
    for (const double c : {0.3, 0.9})
      for (const int terms : {1, 3, 10}) {
        const Tensor w = contraction(6, c, seed), x = normal({3, 6}, seed + 100);
        const LogDetOptions options{.estimator = PowerSeries{.terms = terms, .sketch = 6}, .lipschitz = c};
        const LogDet cut = of_curved(x, w, options), exact = of_curved(x, w, {});
        for (std::int64_t s = 0; s < 3; ++s) {
          const LogDetSample& sample = cut.report.samples[static_cast<std::size_t>(s)];
          CHECK(std::abs(cut.value.value().at(s) - exact.value.value().at(s)) <=
                sample.truncation_bound + 1e-13);
          CHECK(sample.gain <= c);
          CHECK(sample.standard_error == 0.0);
        }
      }
}

TEST_CASE("a Lipschitz constant that is too small gives no bound; series that grow are called diverged",
          "[log_det]") {
  const Var x(normal({1, 2}, 2));
  const auto run = [&](double c, double claimed) {
    return log_det([&](const Var& z) { return c * z; }, x,
                   {.estimator = PowerSeries{.terms = 5}, .lipschitz = claimed})
        .report.samples[0];
  };
  CHECK(run(0.9, 0.5).truncation_bound == infinity);
  CHECK(run(0.9, 0.9).truncation_bound < 1.0);
  CHECK(run(0.9, 0.5).status == Status::converged);
  // One that is too small by little gives the bound of the gain that was seen, which J = -c I attains.
  const auto bias = [](double c) {
    return 2.0 * (-std::log1p(-c) - c - std::pow(c, 2) / 2 - std::pow(c, 3) / 3 - std::pow(c, 4) / 4 -
                  std::pow(c, 5) / 5);
  };
  CHECK(run(-0.9 * 1.0009, 0.9).truncation_bound == Approx(bias(0.9 * 1.0009)));
  CHECK(run(-0.9995, 0.999).truncation_bound == Approx(bias(0.9995)));
  CHECK(run(0.9999 * 1.0005, 0.9999).truncation_bound == infinity);
  CHECK(run(1.1, 0.5).status == Status::diverged);
  CHECK(log_det([](const Var& z) { return 0.5 * z; }, x, {.estimator = PowerSeries{}}).report.to_string() ==
        "1 sample by power_series: 1 converged; at most 5 terms, 5 products");
}

TEST_CASE("gradients of log_det agree with differences, to second order", "[log_det][gradcheck]") {
  const Tensor x = normal({3, 3}, 8), w = contraction(3, 0.8, 9);
  const std::vector<LogDetEstimator> estimators{
      Exact{}, PowerSeries{.terms = 4, .probes = 2}, PowerSeries{.terms = 3, .sketch = 3},
      Roulette{.further = Geometric{.p = 0.3}}, Roulette{.further = Poisson{}, .shared = true}};
  for (const LogDetEstimator& estimator : estimators) {
    const auto f = [&](const Vars& at) {
      const LogDet found = log_det([&](const Var& z) { return curved_map(z, at[1]); }, at[0],
                                   {.estimator = estimator, .seed = 5});
      return Vars{found.value, found.image};
    };
    const GradcheckReport report = gradcheck(f, {Var(x), Var(w)});
    INFO(estimator.index() << ": " << report.to_string());
    CHECK(report.passed);
  }
}

TEST_CASE("the Neumann gradient is that of the series where the trace is exact", "[log_det]") {
  const Tensor x = normal({4, 3}, 8), w = contraction(3, 0.8, 9);
  for (const int terms : {1, 2, 3, 8}) {
    const auto run = [&](SeriesGradient gradient) {
      return gradients(x, w, {.estimator = PowerSeries{.terms = terms, .sketch = 3, .gradient = gradient}});
    };
    const Vars series = run(SeriesGradient::series), neumann = run(SeriesGradient::neumann);
    CHECK(largest_difference(series[0], neumann[0]) < 1e-14);
    CHECK(largest_difference(series[1], neumann[1]) < 1e-14);
  }
  const Vars exact = gradients(x, w, {});
  const Vars many = gradients(
      x, w, {.estimator = PowerSeries{.terms = 200, .sketch = 3, .gradient = SeriesGradient::neumann}});
  CHECK(largest_difference(many[0], exact[0]) < 1e-12);
  CHECK(largest_difference(many[1], exact[1]) < 1e-12);
}

TEST_CASE("the Neumann gradient leaves the value as it is, and refuses second derivatives", "[log_det]") {
  const Tensor x = normal({4, 3}, 8), w = contraction(3, 0.8, 9);
  const auto options = [](SeriesGradient gradient) {
    return LogDetOptions{.estimator = Roulette{.probes = 2, .gradient = gradient}, .seed = 4};
  };
  Tape tape;
  const Var at = leaf(x);
  const auto g = [&](const Var& z) { return curved_map(z, Var(w)); };
  const LogDet neumann = log_det(g, at, options(SeriesGradient::neumann)),
               series = log_det(g, at, options(SeriesGradient::series));
  CHECK(largest_difference(neumann.value, series.value) < 1e-14);
  CHECK(same_bits(neumann.value.detach(), of_curved(x, w, options(SeriesGradient::neumann)).value.detach()));
  CHECK_THROWS_WITH(grad(sum(neumann.value), {at}, {.create_graph = true}),
                    Contains("[log_det]") && Contains("first derivatives only"));
}

TEST_CASE("the memory of the Neumann gradient does not grow with the terms", "[log_det]") {
  const Tensor x = normal({4, 3}, 8), w = contraction(3, 0.8, 9);
  const auto nodes = [&](int terms, SeriesGradient gradient) {
    Tape tape;
    const Var at = leaf(x);
    log_det([&](const Var& z) { return curved_map(z, Var(w)); }, at,
            {.estimator = PowerSeries{.terms = terms, .gradient = gradient}});
    return tape.size();
  };
  CHECK(nodes(50, SeriesGradient::neumann) == nodes(2, SeriesGradient::neumann));
  CHECK(nodes(50, SeriesGradient::series) > 10 * nodes(2, SeriesGradient::series));
}

TEST_CASE("log_det: empty batches, samples without entries, one entry", "[log_det]") {
  for (const LogDetEstimator& estimator : all_estimators()) {
    INFO("estimator " << estimator.index());
    const LogDetOptions options{.estimator = estimator};
    Tape tape;
    const auto g = [](const Var& z) { return 0.5 * z; };
    const Var none = leaf(Tensor::zeros({0, 3}, DType::f64)), bare = leaf(Tensor::zeros({2, 0}, DType::f64));
    const LogDet empty = log_det(g, none, options), without = log_det(g, bare, options);
    CHECK(empty.value.shape() == Shape{0});
    CHECK(empty.report.samples.empty());
    CHECK(grad(sum(empty.value), {none})[0].shape() == Shape{0, 3});
    CHECK(same_bits(without.value.detach(), Var(Tensor::zeros({2}, DType::f64))));
    CHECK(without.report.samples.size() == 2);

    // One entry, in either shape: random signs are no randomness, and the Neumann gradient is exact.
    const double c = 0.25;
    for (const Shape& shape : {Shape{5}, Shape{5, 1}}) {
      const Var x = leaf(normal(shape, 3));
      LogDetEstimator long_enough = estimator;
      if (auto* series = std::get_if<PowerSeries>(&long_enough)) {
        series->terms = 60;
        series->probe = Probe::rademacher;
      }
      if (std::holds_alternative<Roulette>(estimator)) continue;
      const LogDet one =
          log_det([&](const Var& z) { return 0.5 * c * square(z); }, x, {.estimator = long_enough});
      const Var expected = log(abs(1.0 + c * x.detach())), slope = c / (1.0 + c * x.detach());
      REQUIRE(one.value.shape() == Shape{5});
      CHECK(largest_difference(one.value, reshape(expected, {5})) < 1e-9);
      CHECK(largest_difference(grad(sum(one.value), {x})[0], slope) < 1e-9);
    }
  }
}

TEST_CASE("log_det: a NaN or an infinity in one sample touches no other", "[log_det]") {
  const Tensor w = contraction(3, 0.8, 9), clean = normal({4, 3}, 8);
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), infinity}) {
    Tensor dirty = clean.clone();
    dirty.mutable_data<double>()[4] = bad;  // sample 1
    for (const LogDetEstimator& estimator : all_estimators()) {
      INFO("estimator " << estimator.index());
      const LogDetOptions options{.estimator = estimator, .seed = 2};
      const auto run = [&](const Tensor& values) {
        Tape tape;
        const Var x = leaf(values);
        const LogDet found = log_det([&](const Var& z) { return curved_map(z, Var(w)); }, x, options);
        return std::pair{Vars{found.value.detach(), grad(sum(found.value), {x})[0]}, found.report};
      };
      const auto [expected, whole] = run(clean);
      const auto [got, report] = run(dirty);
      for (const std::int64_t s : {0, 2, 3})
        for (const std::size_t k : {0u, 1u})
          CHECK(same_bits(Var(got[k].value().rows(s, s + 1)), Var(expected[k].value().rows(s, s + 1))));
      if (std::isnan(bad)) {  // an infinity saturates tanh, whose Jacobian is then finite
        CHECK(std::isnan(got[0].value().at(1)));
        CHECK(report.samples[1].status == Status::non_finite);
      }
      CHECK(report.samples[0].status == whole.samples[0].status);
    }
  }
}

TEST_CASE("log_det: the same bits with any number of threads", "[log_det][threads]") {
  const Tensor w = contraction(8, 0.8, 9), x = normal({300, 8}, 8);
  for (const LogDetEstimator& estimator : all_estimators()) {
    INFO("estimator " << estimator.index());
    check_threads([&] {
      const LogDetOptions options{.estimator = estimator, .seed = 3};
      Vars results = gradients(x, w, options);
      results.push_back(of_curved(x, w, options).value);
      return results;
    });
  }
}

TEST_CASE("log_det: other seeds, other draws; f32 as f64", "[log_det]") {
  const Tensor w = contraction(5, 0.8, 9), x = normal({3, 5}, 8);
  for (const LogDetEstimator& estimator : all_estimators()) {
    INFO("estimator " << estimator.index());
    const auto run = [&](std::uint64_t seed, DType dtype) {
      return of_curved(x.to(dtype), w.to(dtype), {.estimator = estimator, .seed = seed}).value;
    };
    CHECK(same_bits(run(1, DType::f64), run(1, DType::f64)));
    CHECK(same_bits(run(1, DType::f64), run(2, DType::f64)) == std::holds_alternative<Exact>(estimator));
    CHECK(run(1, DType::f32).dtype() == DType::f32);
  }
  const LogDetOptions series{.estimator = PowerSeries{.terms = 20, .sketch = 5}};
  CHECK(largest_difference(of_curved(x.to(DType::f32), w.to(DType::f32), series).value,
                           of_curved(x, w, series).value) < 1e-5);
}

TEST_CASE("log_det: what is refused", "[log_det]") {
  const Var x(normal({2, 3}, 1));
  const auto half = [](const Var& z) { return 0.5 * z; };
  const auto run = [&](const LogDetOptions& options) { return log_det(half, x, options); };
  for (const double c : {1.0, 1.5, -0.1, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_WITH(run({.lipschitz = c}), Contains("[log_det] lipschitz must lie in [0, 1)"));
  CHECK_THROWS_WITH(run({.estimator = PowerSeries{.terms = 0}}), Contains("terms must be at least 1: got 0"));
  CHECK_THROWS_WITH(run({.estimator = PowerSeries{.probes = 0}}), Contains("probes must be at least 1"));
  CHECK_THROWS_WITH(run({.estimator = PowerSeries{.sketch = -1}}), Contains("sketch must not be negative"));
  CHECK_THROWS_WITH(run({.estimator = Roulette{.min_terms = 0}}), Contains("min_terms must be at least 1"));
  CHECK_THROWS_WITH(run({.estimator = Roulette{.max_terms = 1}}), Contains("max_terms"));
  CHECK_THROWS_WITH(run({.estimator = Roulette{.further = Geometric{.p = 1.0}}}), Contains("p of Geometric"));
  CHECK_THROWS_WITH(run({.estimator = Roulette{.further = Poisson{.lambda = 0.0}}}), Contains("lambda"));
  CHECK_THROWS_WITH(run({.estimator = LanczosQuadrature{.steps = 0}}), Contains("steps must be at least 1"));
  CHECK_THROWS_AS(log_det(half, Var(scalar(1.0)), {}), ShapeError);
  CHECK_THROWS_AS(log_det([](const Var& z) { return sum(z); }, x, {}), ShapeError);
}

TEST_CASE("log_det: g may hold a fixed point, and capture it", "[log_det]") {
  const Tensor w = contraction(3, 0.6, 9), x = normal({2, 3}, 8);
  const auto g = [&](const Vars& at) {  // z = tanh(z W^T + x) / 2
    return [&at](const Var& z0) {
      return fixed_point([&](const Var& z) { return 0.5 * tanh(linear_map(z, at[1]) + z0); }, zeros_like(z0),
                         {.tolerance = 1e-14, .max_steps = 500})
          .z;
    };
  };
  for (const LogDetEstimator& estimator : std::vector<LogDetEstimator>{
           Exact{}, PowerSeries{.terms = 60, .sketch = 3},
           PowerSeries{.terms = 60, .sketch = 3, .gradient = SeriesGradient::neumann}}) {
    INFO("estimator " << estimator.index());
    const auto value = [&](const Vars& at) {
      return sum(log_det(g(at), at[0], {.estimator = estimator}).value);
    };
    Tape tape;
    const Vars at{leaf(x), leaf(w)};
    const Var found = value(at);
    const Vars slopes = grad(found, at);
    for (std::size_t k = 0; k < 2; ++k)
      for (const std::int64_t entry : {0, 4}) {
        const auto moved = [&](double step) {
          Vars shifted{Var(x), Var(w)};
          Tensor values = shifted[k].value().clone();
          values.mutable_data<double>()[entry] += step;
          shifted[k] = Var(values);
          return value(shifted).item();
        };
        CHECK(slopes[k].value().at(entry) == Approx((moved(1e-4) - moved(-1e-4)) / 2e-4).epsilon(1e-6));
      }
    CHECK(found.item() == Approx(value({Var(x), Var(w)}).item()).epsilon(1e-12));
  }
}

TEST_CASE("log_det: a constant g, and a g of a captured variable alone", "[log_det]") {
  for (const LogDetEstimator& estimator : all_estimators()) {
    INFO("estimator " << estimator.index());
    Tape tape;
    const Var x = leaf(normal({2, 3}, 1)), b = leaf(normal({2, 3}, 2));
    const LogDetOptions options{.estimator = estimator};
    const LogDet constant = log_det([&](const Var&) { return b.detach(); }, x, options),
                 shift = log_det([&](const Var&) { return 2.0 * b; }, x, options);
    CHECK(largest_difference(constant.value, Var(Tensor::zeros({2}, DType::f64))) == 0.0);
    CHECK(largest_difference(shift.value, Var(Tensor::zeros({2}, DType::f64))) == 0.0);
    CHECK(largest_difference(grad(sum(shift.image) + sum(shift.value), {b})[0],
                             Var(Tensor::full({2, 3}, 2.0, DType::f64))) == 0.0);
  }
}
