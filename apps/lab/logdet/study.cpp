#include <apps/lab/logdet/study.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include <banach/engine/error.hpp>
#include <banach/engine/grad.hpp>
#include <banach/engine/random.hpp>
#include <banach/engine/tape.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::lab::logdet {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Draws that are taken at once, as rows of one batch.
constexpr std::int64_t rows = 5000;

/// One draw after the other.
struct Draws {
  std::vector<double> values, derivatives;
  double products = 0, infinite = 0;  // sums
};

void add_draws(const Problem& problem, const Estimator& estimator, std::int64_t count, std::uint64_t seed,
               Draws& draws) {
  const Tape tape;
  // A number for each draw, so that one sweep gives the derivative of each.
  const Var s = leaf(Tensor::zeros({count, 1}, DType::f64)), direction(problem.direction);
  const Var x(broadcast_to(Var(problem.at), {count, problem.d()}).value());
  const LogDet found = log_det([&](const Var& z) { return problem.map(z) + s * matmul(z, direction); }, x,
                               {.estimator = estimator.by, .lipschitz = problem.lipschitz, .seed = seed});
  const Tensor derivatives = grad(sum(found.value), {s}).front().value();
  const bool roulette = std::holds_alternative<Roulette>(estimator.by);
  for (std::int64_t i = 0; i < count; ++i) {
    const LogDetSample& sample = found.report.samples[static_cast<std::size_t>(i)];
    draws.values.push_back(found.value.value().at(i));
    draws.derivatives.push_back(derivatives.at(i));
    draws.products += roulette ? sample.terms : found.report.products;
    draws.infinite += !sample.finite_variance;
  }
}

/// What the estimator's mean should be, and how far that may be from the answer.
void tell_expected(const Problem& problem, const Estimator& estimator, Measured& m) {
  const Answer exact = problem.exact();
  Answer expected = exact, bound;
  if (const auto* series = std::get_if<PowerSeries>(&estimator.by)) {
    expected = problem.cut(series->terms);
    bound = problem.bound(series->terms);
  }
  if (const auto* lanczos = std::get_if<LanczosQuadrature>(&estimator.by);
      lanczos && lanczos->steps < problem.d())
    expected = bound = {nan, nan};
  m.value.exact = exact.value, m.value.expected = expected.value, m.value.bound = bound.value;
  m.derivative.exact = exact.derivative, m.derivative.expected = expected.derivative;
  m.derivative.bound = bound.derivative;
}

bool finite_variance(const Problem& problem, const Estimator& estimator) {
  const auto* roulette = std::get_if<Roulette>(&estimator.by);
  if (!roulette) return true;
  const auto* geometric = std::get_if<Geometric>(&roulette->further);
  return geometric && problem.radius() * problem.radius() < 1.0 - geometric->p;
}

std::vector<std::pair<std::int64_t, double>> running_variance(const std::vector<double>& draws) {
  std::vector<std::pair<std::int64_t, double>> result;
  double mean = 0.0, squares = 0.0, next = 20.0;
  for (std::size_t i = 0; i < draws.size(); ++i) {
    const auto n = static_cast<double>(i + 1);
    const double off = draws[i] - mean;
    mean += off / n;
    squares += off * (draws[i] - mean);
    if (n < next && i + 1 < draws.size()) continue;
    result.emplace_back(static_cast<std::int64_t>(i + 1), n > 1.0 ? squares / (n - 1.0) : nan);
    next *= 1.2;
  }
  return result;
}

Measured measure(const Problem& problem, const Estimator& estimator, const StudyOptions& options,
                 const Random& random) {
  const bool certain = std::holds_alternative<Exact>(estimator.by);
  const std::int64_t wanted = certain ? 1 : options.draws;
  Draws draws;
  for (std::int64_t first = 0; first < wanted; first += rows)
    add_draws(problem, estimator, std::min(rows, wanted - first),
              random.split(static_cast<std::uint64_t>(first)).bits(), draws);
  Measured m{.estimator = estimator,
             .products = draws.products / static_cast<double>(wanted),
             .value = moments(draws.values),
             .derivative = moments(draws.derivatives),
             .finite_variance = finite_variance(problem, estimator),
             .told_infinite = draws.infinite / static_cast<double>(wanted)};
  tell_expected(problem, estimator, m);
  if (estimator.family == Estimator::Family::roulette) m.running = running_variance(draws.values);
  return m;
}

}  // namespace

bool Estimator::neumann() const {
  const auto* series = std::get_if<PowerSeries>(&by);
  const auto* roulette = std::get_if<Roulette>(&by);
  return (series && series->gradient == SeriesGradient::neumann) ||
         (roulette && roulette->gradient == SeriesGradient::neumann);
}

std::vector<Estimator> estimators() {
  using Family = Estimator::Family;
  std::vector<Estimator> all{{"exact", Family::exact, Exact{}}};
  const auto words = [](SeriesGradient gradient) {
    return gradient == SeriesGradient::neumann ? ", Neumann gradient" : "";
  };
  for (const auto gradient : {SeriesGradient::series, SeriesGradient::neumann}) {
    for (const int terms : {1, 2, 3, 5, 8, 12, 20, 30, 50})
      all.push_back({fmt::format("series {}{}", terms, words(gradient)), Family::series,
                     PowerSeries{.terms = terms, .gradient = gradient}});
    for (const double p : {0.1, 0.5})
      all.push_back({fmt::format("roulette, geometric {}{}", p, words(gradient)), Family::roulette,
                     Roulette{.further = Geometric{p}, .gradient = gradient}});
    all.push_back({fmt::format("roulette, Poisson 2{}", words(gradient)), Family::roulette,
                   Roulette{.further = Poisson{2.0}, .gradient = gradient}});
  }
  for (const int probes : {1, 2, 4, 8}) {
    const std::string count = fmt::format("{} probe{}", probes, probes == 1 ? "" : "s");
    all.push_back({"Gaussian, " + count, Family::gaussian,
                   PowerSeries{.terms = probe_terms, .probes = probes, .probe = Probe::gaussian}});
    all.push_back(
        {"Rademacher, " + count, Family::rademacher, PowerSeries{.terms = probe_terms, .probes = probes}});
  }
  for (const int sketch : {1, 2, 4})
    all.push_back({fmt::format("Hutch++, sketch {}", sketch), Family::hutch,
                   PowerSeries{.terms = probe_terms, .sketch = sketch}});
  for (const int steps : {1, 2, 4, 8})
    all.push_back({fmt::format("Lanczos {}", steps), Family::lanczos, LanczosQuadrature{.steps = steps}});
  return all;
}

Moments moments(const std::vector<double>& draws) {
  Moments m{.expected = nan, .bound = nan, .draws = static_cast<std::int64_t>(draws.size())};
  const auto n = static_cast<double>(draws.size());
  double off = 0.0;  // of draws that are all equal the mean is those, to the bit
  for (const double x : draws) off += x - draws.front();
  m.mean = draws.front() + off / n;
  double squares = 0.0, fourth = 0.0;
  for (const double x : draws) {
    const double square = (x - m.mean) * (x - m.mean);
    squares += square;
    fourth += square * square / n;
  }
  if (n < 2.0) return m;
  m.variance = squares / (n - 1.0);
  m.variance_error = std::sqrt(std::max(0.0, fourth - m.variance * m.variance) / n);
  m.error = std::sqrt(m.variance / n);
  return m;
}

double Moments::rms() const { return std::sqrt(variance + bias() * bias()); }

bool Moments::varies() const { return std::sqrt(variance) > 1e-11 * std::max(1.0, std::abs(mean)); }

double Moments::t() const { return varies() ? (mean - expected) / error : nan; }

const Measured& Study::of(const std::string& name) const {
  const auto found = std::find_if(measured.begin(), measured.end(),
                                  [&](const Measured& m) { return m.estimator.name == name; });
  if (found == measured.end()) fail<ValueError>("lab logdet", "no estimator is called " + name);
  return *found;
}

Study study(const Problem& problem, const StudyOptions& options,
            const std::function<void(const std::string& name)>& done) {
  Study result{.problem = problem};
  const Random random(options.seed);
  for (const Estimator& estimator : estimators()) {
    result.measured.push_back(measure(problem, estimator, options, random.split(result.measured.size())));
    if (done) done(estimator.name);
  }
  return result;
}

}  // namespace banach::lab::logdet
