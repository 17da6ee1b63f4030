// The estimators' randomness: means, variances, distributions.
#include "log_det_maps.hpp"

#include <banach/engine/tape.hpp>

#include <algorithm>

using namespace banach;
using namespace banach::test;

namespace {

// `times` independent estimates of one and the same log det.
LogDet drawn(const Tensor& w, std::int64_t times, const LogDetOptions& options) {
  return log_det([&](const Var& z) { return linear_map(z, Var(w)); },
                 Var(Tensor::zeros({times, w.shape()[0]}, w.dtype())), options);
}

double t_of_draws(const Tensor& w, const LogDetEstimator& estimator, std::int64_t times = 100000) {
  return t_of(numbers_of(drawn(w, times, {.estimator = estimator, .seed = 11}).value), dense_log_det(w));
}

}  // namespace

TEST_CASE("Roulette is unbiased where its variance is finite", "[log_det][random][unsanitized]") {
  const Tensor w = tensor({0.3, 0.4, -0.2, 0.35}, {2, 2});  // spectral radius 0.43
  for (const Probe probe : {Probe::rademacher, Probe::gaussian}) {
    CHECK(std::abs(t_of_draws(w, Roulette{.probe = probe})) < 3.0);
    const Roulette longer{.further = Geometric{.p = 0.3}, .min_terms = 1, .probe = probe};
    CHECK(std::abs(t_of_draws(w, longer, 20000)) < 3.0);
  }
  CHECK(std::abs(t_of_draws(w, Roulette{.sketch = 1}, 20000)) < 3.0);
  const Tensor nilpotent = tensor({0.0, 0.7, 0.0, 0.0, 0.0, 0.6, 0.0, 0.0, 0.0}, {3, 3});
  CHECK(std::abs(t_of_draws(nilpotent, Roulette{.further = Poisson{}, .min_terms = 1}, 20000)) < 3.0);
  for (const LogDetSample& sample : drawn(w, 1000, {.estimator = Roulette{}}).report.samples) {
    REQUIRE(sample.finite_variance);
    REQUIRE(sample.status == Status::converged);
    REQUIRE(sample.truncation_bound == 0.0);
  }
}

TEST_CASE("the t-test sees a bias", "[log_det][random]") {
  const Tensor w = tensor({0.3, 0.4, -0.2, 0.35}, {2, 2});
  // A cut series, and a roulette whose long draws are cut.
  CHECK(std::abs(t_of_draws(w, PowerSeries{.terms = 2})) > 3.0);
  CHECK(std::abs(t_of_draws(w, Roulette{.max_terms = 3})) > 3.0);
  const LogDetReport report = drawn(w, 1000, {.estimator = Roulette{.max_terms = 3}}).report;
  const auto cut = std::count_if(report.samples.begin(), report.samples.end(),
                                 [](const LogDetSample& s) { return s.status == Status::max_steps; });
  CHECK(std::abs(static_cast<double>(cut) - 250.0) < 4.0 * std::sqrt(1000 * 0.25 * 0.75));
}

TEST_CASE("Roulette bounds the bias of draws that are cut: J = -c I attains it", "[log_det][random]") {
  const double c = 0.6, exact = 2.0 * std::log1p(-c);
  const Tensor w = (Var(Tensor::eye(2, DType::f64)) * -c).value();
  const Roulette cut{.further = Geometric{.p = 0.3}, .max_terms = 4};
  const auto bound = [&](const Roulette& estimator, std::optional<double> lipschitz) {
    return drawn(w, 1, {.estimator = estimator, .lipschitz = lipschitz}).report.samples[0].truncation_bound;
  };
  const double told = bound(cut, c);
  CHECK(told == Approx(-exact - 2.0 * (c + c * c / 2.0 + c * c * c / 3.0 + c * c * c * c / 4.0)));
  const std::vector<double> values =
      numbers_of(drawn(w, 20000, {.estimator = cut, .lipschitz = c, .seed = 11}).value);
  CHECK(std::abs(t_of(values, exact)) > 10.0);
  CHECK(std::abs(t_of(values, exact + told)) < 3.0);
  CHECK(std::isnan(bound(cut, {})));
  CHECK(bound(cut, 0.5) == std::numeric_limits<double>::infinity());
  CHECK(bound(Roulette{.further = Geometric{.p = 0.3}}, {}) == 0.0);  // no draw comes to 1000
}

TEST_CASE("Roulette says where its variance is infinite", "[log_det][random]") {
  const auto sample = [](const Tensor& w, const Roulette& estimator, std::optional<double> lipschitz = {}) {
    return drawn(w, 1, {.estimator = estimator, .lipschitz = lipschitz}).report.samples[0];
  };
  const auto scaled_identity = [](double c) { return (Var(Tensor::eye(3, DType::f64)) * c).value(); };
  CHECK(sample(scaled_identity(0.70), Roulette{}).finite_variance);  // 0.49 < 0.5
  CHECK_FALSE(sample(scaled_identity(0.72), Roulette{}).finite_variance);
  CHECK(sample(scaled_identity(0.72), Roulette{}).status == Status::diverged);
  CHECK(sample(scaled_identity(0.72), Roulette{.further = Geometric{.p = 0.4}}).finite_variance);
  // However small the eigenvalues, Poisson's chances fall faster.
  CHECK_FALSE(sample(scaled_identity(0.01), Roulette{.further = Poisson{}}).finite_variance);
  CHECK_FALSE(sample(scaled_identity(0.01), Roulette{.further = Poisson{}}, 0.01).finite_variance);
  CHECK(sample(scaled_identity(0.0), Roulette{.further = Poisson{}}).finite_variance);
  // A constant that what was seen contradicts proves nothing.
  CHECK_FALSE(sample(scaled_identity(-0.95), Roulette{}, 0.3).finite_variance);
  // Terms that grow first: a Lipschitz constant would have known.
  const Tensor shear = tensor({0.0, 0.0, 5.0, 0.0}, {2, 2});
  CHECK(sample(shear, Roulette{.min_terms = 3}).finite_variance);
  CHECK(drawn(scaled_identity(0.72), 2, {.estimator = Roulette{}})
            .report.to_string()
            .find("2 of infinite variance") != std::string::npos);
}

TEST_CASE("Roulette's numbers of terms have their distribution", "[log_det][random][unsanitized]") {
  const int samples = 20000;
  const Tensor w = tensor({0.1}, {1, 1});
  const auto check = [&](const Roulette& estimator, auto chance) {
    const LogDetReport report = drawn(w, samples, {.estimator = estimator, .seed = 6}).report;
    for (int i = 0; i < 6; ++i) {
      const auto seen =
          std::count_if(report.samples.begin(), report.samples.end(),
                        [&](const LogDetSample& s) { return s.terms >= estimator.min_terms + i; });
      const double p = chance(i);
      CHECK(std::abs(static_cast<double>(seen) - samples * p) <= 4.0 * std::sqrt(samples * p * (1.0 - p)));
    }
  };
  check(Roulette{.further = Geometric{.p = 0.3}}, [](int i) { return std::pow(0.7, i); });
  check(Roulette{.further = Poisson{.lambda = 1.5}, .min_terms = 3}, [](int i) {
    double below = 0.0, term = std::exp(-1.5);
    for (int j = 0; j < i; ++j) {
      below += term;
      term *= 1.5 / (j + 1);
    }
    return 1.0 - below;
  });
  // One draw for all, or one each.
  const LogDetReport shared = drawn(w, 100, {.estimator = Roulette{.shared = true}, .seed = 6}).report;
  for (const LogDetSample& sample : shared.samples) CHECK(sample.terms == shared.samples[0].terms);
  CHECK(std::abs(t_of_draws(w, Roulette{.probes = 3}, 20000)) < 3.0);
}

TEST_CASE("the mean of the Neumann gradient is the exact gradient", "[log_det][random]") {
  const Tensor w = contraction(2, 0.6, 3), row = normal({1, 2}, 4);
  const auto gradient = [&](std::int64_t times, const LogDetEstimator& estimator) {
    Tape tape;
    const Var x = leaf(repeated(row, times));
    const LogDet found =
        log_det([&](const Var& z) { return curved_map(z, Var(w)); }, x, {.estimator = estimator, .seed = 7});
    return grad(sum(found.value), {x})[0];
  };
  const Var exact = gradient(1, Exact{});
  const auto t = [&](const LogDetEstimator& estimator, int entry) {
    return t_of(numbers_of(slice(gradient(5000, estimator), 1, entry, entry + 1)), exact.value().at(entry));
  };
  for (const int entry : {0, 1}) {
    for (const SeriesGradient rule : {SeriesGradient::neumann, SeriesGradient::series}) {
      CHECK(std::abs(t(Roulette{.gradient = rule}, entry)) < 3.5);
      CHECK(std::abs(t(Roulette{.probe = Probe::gaussian, .gradient = rule}, entry)) < 3.5);
      CHECK(std::abs(t(Roulette{.sketch = 1, .gradient = rule}, entry)) < 3.5);
    }
    CHECK(std::abs(t(LanczosQuadrature{.steps = 2}, entry)) < 3.5);
    CHECK(std::abs(t(PowerSeries{.terms = 1, .gradient = SeriesGradient::neumann}, entry)) > 3.5);
  }
}

TEST_CASE("Hutch++ leaves nothing to chance where the rank is small", "[log_det][random]") {
  const Tensor u = normal({6, 2}, 1, 0.2), v = normal({2, 6}, 2, 0.2);
  const Tensor w = matmul(Var(u), Var(v)).value();  // rank 2
  const auto error = [&](int sketch) {
    const LogDet found =
        drawn(w, 50, {.estimator = PowerSeries{.terms = 40, .probe = Probe::gaussian, .sketch = sketch}});
    double largest = 0.0;
    for (const double value : numbers_of(found.value))
      largest = std::max(largest, std::abs(value - dense_log_det(w)));
    return largest;
  };
  CHECK(error(0) > 1e-3);
  CHECK(error(2) < 1e-12);
  CHECK(error(4) < 1e-12);  // directions beyond the rank are none
  CHECK(error(6) < 1e-12);
  CHECK(error(100) < 1e-12);
}

TEST_CASE("Hutch++ is unbiased, and has the smaller variance for a fast spectrum", "[log_det][random]") {
  Tensor w = contraction(5, 0.3, 8);
  w.mutable_data<double>()[0] += 0.5;
  const auto run = [&](int sketch, int probes) {
    const PowerSeries estimator{.terms = 60, .probes = probes, .probe = Probe::gaussian, .sketch = sketch};
    return numbers_of(drawn(w, 5000, {.estimator = estimator}).value);
  };
  const double exact = dense_log_det(w);
  const auto spread = [&](const std::vector<double>& values) {
    double squares = 0.0;
    for (const double value : values) squares += (value - exact) * (value - exact);
    return squares;
  };
  const auto sketched = run(1, 1), plain = run(0, 3);
  CHECK(std::abs(t_of(sketched, exact)) < 3.0);
  CHECK(spread(sketched) < spread(plain));
}

TEST_CASE("LanczosQuadrature's gradient leaves nothing to random signs for dJ = D (I + J), D diagonal",
          "[log_det][random]") {
  const Tensor w = contraction(4, 0.9, 5);
  const Var d(tensor({1.0, -2.0, 0.5, 3.0}, {1, 4}));
  Tape tape;
  const Var s = leaf(Tensor::zeros({50, 1}, DType::f64));
  const auto g = [&](const Var& z) {
    const Var moved = linear_map(z, Var(w));
    return moved + s * d * (z + moved);
  };
  const LogDet found =
      log_det(g, Var(Tensor::zeros({50, 4}, DType::f64)), {.estimator = LanczosQuadrature{.steps = 4}});
  // v^T D (I + J) (I + J)^-1 v = tr(D)
  for (const double slope : numbers_of(grad(sum(found.value), {s})[0])) CHECK(slope == Approx(2.5));
}

TEST_CASE("standard errors are those of the estimates", "[log_det][random][unsanitized]") {
  const Tensor w = contraction(4, 0.7, 8);
  for (const LogDetEstimator& estimator : std::vector<LogDetEstimator>{
           PowerSeries{.terms = 30, .probes = 4}, Roulette{.probes = 4},
           LanczosQuadrature{.steps = 4, .probes = 4}, PowerSeries{.terms = 30, .probes = 4, .sketch = 1}}) {
    const LogDet found = drawn(w, 5000, {.estimator = estimator});
    double squares = 0.0, reported = 0.0;
    for (std::size_t s = 0; s < 5000; ++s) {
      squares += std::pow(found.value.value().at(static_cast<std::int64_t>(s)) - dense_log_det(w), 2);
      reported += std::pow(found.report.samples[s].standard_error, 2);
    }
    INFO("estimator " << estimator.index());
    CHECK(reported == Approx(squares).epsilon(0.1));
  }
  CHECK(std::isnan(drawn(w, 1, {.estimator = PowerSeries{}}).report.samples[0].standard_error));
}

TEST_CASE("LanczosQuadrature needs no contraction", "[log_det][random]") {
  const Tensor w = normal({4, 4}, 5, 2.0);
  const double exact = dense_log_det(w);
  const LogDet found = drawn(w, 20000, {.estimator = LanczosQuadrature{.steps = 4}});
  CHECK(std::abs(t_of(numbers_of(found.value), exact)) < 3.0);
  // One eigenvalue: the space closes after one step, whatever the vector.
  for (const double c : {-0.5, 3.0, -3.0}) {
    const LogDet one =
        drawn((Var(Tensor::eye(3, DType::f64)) * c).value(), 4, {.estimator = LanczosQuadrature{}});
    for (std::int64_t s = 0; s < 4; ++s) {
      CHECK(one.value.value().at(s) == Approx(3.0 * std::log(std::abs(1.0 + c))).epsilon(1e-12));
      CHECK(one.report.samples[static_cast<std::size_t>(s)].terms == 1);
    }
  }
}

TEST_CASE("Roulette's variance: one strong direction shows after enough terms; a Lipschitz constant proves",
          "[log_det][random]") {
  const auto finite = [](const Tensor& w, const Roulette& estimator, double lipschitz) {
    return drawn(w, 1, {.estimator = estimator, .lipschitz = lipschitz}).report.samples[0].finite_variance;
  };
  Tensor w = contraction(40, 0.5, 3);
  CHECK(finite(w, Roulette{}, 0.5));
  w.mutable_data<double>()[0] = 0.9;
  CHECK_FALSE(finite(w, Roulette{.min_terms = 30}, 0.99));
}
