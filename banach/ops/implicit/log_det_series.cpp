// PowerSeries and Roulette: the series of log(I + J), cut at a given or a random number of terms.

#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/iteration.hpp>
#include <banach/ops/implicit/log_det_parts.hpp>
#include <banach/solvers/vector.hpp>

#include <algorithm>
#include <cmath>
#include <optional>

namespace banach {
namespace {

// How many terms each sample takes, and P(N >= k) for k = 0, 1, ...
struct Cut {
  PoolVector<int> terms;
  PoolVector<double> chance;

  int longest() const { return *std::max_element(terms.begin(), terms.end()); }
  int shortest() const { return *std::min_element(terms.begin(), terms.end()); }
  /// (-1)^(k+1) / P(N >= k) for the samples that take term k, 0 for others.
  PoolVector<double> weights(int k) const {
    PoolVector<double> result;
    for (const int n : terms)
      result.push_back(k > n ? 0.0 : (k % 2 == 1 ? 1.0 : -1.0) / chance[static_cast<std::size_t>(k)]);
    return result;
  }
};

// v^T (sum_k (-1)^(k+1) J^k / k) v for each sample, cut and weighed, and what was seen on the way.
struct Form {
  Var value;
  Var neumann;  // sum_k (-1)^(k+1) (J^T)^(k-1) v: with it, the derivative of the form is neumann^T dJ v
  PoolVector<double> rate, gain;
};

// The rate at which the newest of a sample's terms shrink: a geometric mean, as of residuals.
double newest_rate(const PoolVector<PoolVector<double>>& norms, int terms, std::size_t s) {
  const auto last = static_cast<std::size_t>(terms), ratios = std::min<std::size_t>(5, last);
  const double newest = norms[last][s], before = norms[last - ratios][s];
  return newest == 0.0 ? 0.0 : std::pow(newest / before, 1.0 / static_cast<double>(ratios));
}

Form quadratic_form(const ResidualMap& g, const Var& v, const Cut& cut, bool neumann) {
  Form form;
  Var u = v;  // (J^T)^k v
  PoolVector<PoolVector<double>> norms{row_norms(g, v)};
  form.gain.assign(norms.front().size(), 0.0);
  for (int k = 1; k <= cut.longest(); ++k) {
    const PoolVector<double> weights = cut.weights(k);
    const auto taken = [&](std::size_t s) { return k <= cut.terms[s]; };
    if (neumann) {
      const Var part = scaled_rows(u, weights);
      form.neumann = form.neumann.defined() ? form.neumann + part : part;
    }
    u = g.pull(u);
    // What a sample no longer takes must not overflow.
    if (k > cut.shortest()) u = choose_rows(g.rows(), taken, u, zeros_like(u));
    const Var part = scaled_rows(row_dots(g, u, v), weights) / static_cast<double>(k);
    form.value = form.value.defined() ? form.value + part : part;
    norms.push_back(row_norms(g, u));
    for (std::size_t s = 0; s < form.gain.size(); ++s)
      if (norms[norms.size() - 2][s] > 0.0)
        form.gain[s] = std::max(form.gain[s], norms.back()[s] / norms[norms.size() - 2][s]);
  }
  for (std::size_t s = 0; s < form.gain.size(); ++s) form.rate.push_back(newest_rate(norms, cut.terms[s], s));
  return form;
}

// What both estimators have.
struct SeriesOptions {
  int probes;
  Probe probe;
  int sketch;
  SeriesGradient gradient;
};

// The sum over random vectors. `cut` gives the number of terms for one vector after another.
LogDetEstimate summed(const ResidualMap& g, const SeriesOptions& options, Random random,
                      FunctionRef<Cut(std::size_t)> cut) {
  const TraceVectors trace = trace_vectors(g, options.probe, options.probes, options.sketch, random.split(0));
  const bool neumann = options.gradient == SeriesGradient::neumann && recording();
  const auto batch = static_cast<std::size_t>(g.rows()[0]);
  LogDetEstimate result{{}, PoolVector<LogDetSample>(batch)};
  for (LogDetSample& sample : result.samples) sample.rate = sample.gain = 0.0;
  PoolVector<PoolVector<double>> values;
  Var surrogate;
  for (std::size_t i = 0; i < trace.vectors.size(); ++i) {
    const Var v(trace.vectors[i]);
    const Cut taken = cut(i);
    Form form = [&] {
      std::optional<NoGrad> off;
      if (neumann) off.emplace();
      return quadratic_form(g, v, taken, neumann);
    }();
    if (neumann) {
      const Var part = trace.weights[i] * row_dots(g, g.pull(form.neumann), v);
      surrogate = surrogate.defined() ? surrogate + part : part;
    }
    values.emplace_back();
    for (std::size_t s = 0; s < batch; ++s) {
      LogDetSample& sample = result.samples[s];
      values.back().push_back(form.value.value().at(static_cast<std::int64_t>(s)));
      sample.terms = std::max(sample.terms, taken.terms[s]);
      sample.gain = std::max(sample.gain, form.gain[s]);
      // NaN, once there, stays.
      if (!(form.rate[s] <= sample.rate)) sample.rate = form.rate[s];
    }
    const Var part = trace.weights[i] * form.value;
    result.value = result.value.defined() ? result.value + part : part;
  }
  if (neumann) result.value = with_gradient_of(surrogate, result.value.value());
  const PoolVector<double> errors = standard_errors(values, trace.first_random);
  for (std::size_t s = 0; s < batch; ++s) result.samples[s].standard_error = errors[s];
  return result;
}

// The Lipschitz constant to reckon with. The one given may be short of what was seen by as much as a power
// iteration leaves; where it is short by more, there is none: infinity. NaN if none was given.
double constant_of(const LogDetSample& sample, const LogDetOptions& options) {
  if (!options.lipschitz) return std::numeric_limits<double>::quiet_NaN();
  const double given = *options.lipschitz;
  if (sample.gain <= given * (1.0 + 1e-12)) return given;  // no more than rounding
  return sample.gain <= given * (1.0 + 1e-3) ? sample.gain : std::numeric_limits<double>::infinity();
}

// sum_{k > terms} c^k / k, added up from its small end where -log(1 - c) less the others would cancel.
double series_rest(double c, int terms) {
  constexpr int most = 100000;
  if (c == 0.0 || std::isnan(c)) return c;
  if (c >= 1.0) return std::numeric_limits<double>::infinity();
  const int enough = static_cast<int>(std::min<double>(most, std::ceil(40.0 / -std::log(c))));
  double rest = 0.0;
  if (enough < most) {
    for (int k = terms + enough; k > terms; --k) rest += std::pow(c, k) / k;
    return rest;
  }
  for (int k = terms; k > 0; --k) rest += std::pow(c, k) / k;
  return -std::log1p(-c) - rest;
}

// P(N >= i) of the further terms, for i = 0, 1, ... up to `most`, or until no draw can go on: uniform
// numbers have 53 bits.
constexpr double smallest_chance = 0x1p-54;

PoolVector<double> tail(const Geometric& further, int most) {
  PoolVector<double> chance{1.0};
  while (static_cast<int>(chance.size()) <= most && chance.back() >= smallest_chance)
    chance.push_back(chance.back() * (1.0 - further.p));
  return chance;
}

PoolVector<double> tail(const Poisson& further, int most) {
  PoolVector<double> chance{1.0};
  for (int i = 1; i <= most && chance.back() >= smallest_chance; ++i) {
    // sum_{j >= i} e^-lambda lambda^j / j!, in units of its first term
    double sum = 0.0, unit = 1.0;
    for (int j = i + 1; unit > 1e-18 * sum || j <= further.lambda + 1.0; ++j) {
      sum += unit;
      unit *= further.lambda / j;
    }
    const double first = i * std::log(further.lambda) - further.lambda - std::lgamma(i + 1.0);
    chance.push_back(std::min(chance.back(), std::exp(first) * sum));
  }
  return chance;
}

// The largest i with P(N >= i) >= u, u being uniform on (0, 1].
int draw_further(const PoolVector<double>& chance, Random& random) {
  const double u = 1.0 - random.uniform();
  std::size_t i = 0;
  while (i + 1 < chance.size() && chance[i + 1] >= u) ++i;
  return static_cast<int>(i);
}

// Where the squares of the terms, weighed, have a finite sum. A Lipschitz constant may show that they do;
// that they do not only the rate can.
bool finite_variance(const Roulette& estimator, const LogDetSample& sample, const LogDetOptions& options) {
  const double c = constant_of(sample, options);
  if (const auto* geometric = std::get_if<Geometric>(&estimator.further))
    return c * c < 1.0 - geometric->p || sample.rate * sample.rate < 1.0 - geometric->p;
  return c == 0.0 || sample.rate == 0.0;
}

void check_probes(int probes, int sketch) {
  require(probes >= 1, "probes must be at least 1", probes);
  require(sketch >= 0, "sketch must not be negative", sketch);
}

}  // namespace

void check(const PowerSeries& estimator) {
  require(estimator.terms >= 1, "terms must be at least 1", estimator.terms);
  check_probes(estimator.probes, estimator.sketch);
}

void check(const Roulette& estimator) {
  if (const auto* geometric = std::get_if<Geometric>(&estimator.further))
    require(geometric->p > 0.0 && geometric->p < 1.0, "p of Geometric must lie in (0, 1)", geometric->p);
  if (const auto* poisson = std::get_if<Poisson>(&estimator.further))
    require(poisson->lambda > 0.0 && poisson->lambda <= 100.0, "lambda of Poisson must lie in (0, 100]",
            poisson->lambda);
  require(estimator.min_terms >= 1, "min_terms must be at least 1", estimator.min_terms);
  require(estimator.max_terms >= estimator.min_terms, "max_terms must not be below min_terms",
          estimator.max_terms);
  check_probes(estimator.probes, estimator.sketch);
}

LogDetEstimate estimate_log_det(const PowerSeries& estimator, const ResidualMap& g,
                                const LogDetOptions& options) {
  const auto [terms, probes, probe, sketch, gradient] = estimator;
  const Cut all{PoolVector<int>(static_cast<std::size_t>(g.rows()[0]), terms),
                PoolVector<double>(static_cast<std::size_t>(terms) + 1, 1.0)};
  LogDetEstimate result =
      summed(g, {probes, probe, sketch, gradient}, Random(options.seed), [&](std::size_t) { return all; });
  for (LogDetSample& sample : result.samples) {
    if (!(sample.rate < 1.0)) sample.status = Status::diverged;
    sample.truncation_bound =
        static_cast<double>(g.rows()[1]) * series_rest(constant_of(sample, options), terms);
  }
  return result;
}

LogDetEstimate estimate_log_det(const Roulette& estimator, const ResidualMap& g,
                                const LogDetOptions& options) {
  const int limit = estimator.max_terms - estimator.min_terms;
  // One more than are allowed, to see which draws were cut.
  const PoolVector<double> further =
      std::visit([&](const auto& distribution) { return tail(distribution, limit + 1); }, estimator.further);
  const bool cuts = static_cast<int>(further.size()) > limit + 1 && further.back() >= smallest_chance;
  PoolVector<double> chance(static_cast<std::size_t>(estimator.min_terms), 1.0);
  chance.insert(chance.end(), further.begin(), further.end());

  const Random random(options.seed), draws = random.split(1);
  const auto batch = static_cast<std::size_t>(g.rows()[0]);
  PoolVector<char> was_cut(batch, 0);
  LogDetEstimate result = summed(g, {estimator.probes, estimator.probe, estimator.sketch, estimator.gradient},
                                 random, [&](std::size_t i) {
                                   Random of_vector = draws.split(i);
                                   Cut cut{{}, chance};
                                   int drawn = 0;
                                   for (std::size_t s = 0; s < batch; ++s) {
                                     if (s == 0 || !estimator.shared)
                                       drawn = draw_further(further, of_vector);
                                     if (drawn > limit) was_cut[s] = 1;
                                     cut.terms.push_back(estimator.min_terms + std::min(drawn, limit));
                                   }
                                   return cut;
                                 });
  for (std::size_t s = 0; s < batch; ++s) {
    LogDetSample& sample = result.samples[s];
    // Cuts leave the chances of the terms before as they are: the mean is the series of max_terms.
    sample.truncation_bound = cuts ? static_cast<double>(g.rows()[1]) *
                                         series_rest(constant_of(sample, options), estimator.max_terms)
                                   : 0.0;
    sample.finite_variance = finite_variance(estimator, sample, options);
    if (estimator.sketch > 0) sample.standard_error = std::numeric_limits<double>::quiet_NaN();
    if (!sample.finite_variance)
      sample.status = Status::diverged;
    else if (was_cut[s])
      sample.status = Status::max_steps;
  }
  return result;
}

}  // namespace banach
