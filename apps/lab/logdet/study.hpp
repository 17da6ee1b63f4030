#pragma once
// Estimators of log |det(I + J)| on problems whose answer is known: draw after draw, with what all of them
// say together.

#include <functional>
#include <optional>

#include <apps/lab/logdet/problems.hpp>
#include <banach/ops/implicit/log_det.hpp>

namespace banach::lab::logdet {

struct Estimator {
  enum class Family { exact, series, roulette, gaussian, rademacher, hutch, lanczos };

  std::string name{};
  Family family{};
  LogDetEstimator by{};

  bool neumann() const;  ///< its gradient, by the Neumann series
};

/// The terms of those estimators that differ in their probes alone.
inline constexpr int probe_terms = 20;

/// Those that are compared, the cheaper ones of a family first.
std::vector<Estimator> estimators();

/// What many draws of one number say.
struct Moments {
  double mean = 0, variance = 0;
  double variance_error = 0;  ///< standard error of the variance, from the fourth moment
  double error = 0;           ///< standard error of the mean
  double exact = 0;           ///< the answer
  double expected = 0;        ///< the mean that the estimator should have; NaN: not known
  double bound = 0;           ///< on |expected - exact|; NaN: not known
  std::int64_t draws = 0;

  double bias() const { return mean - exact; }
  double rms() const;  ///< root of the mean square error of one draw
  /// Whether the draws differ by more than rounding.
  bool varies() const;
  /// (mean - expected) / error; NaN where the mean is not known or nothing varies.
  double t() const;
};

/// The moments of all draws but for `exact`, `expected` and `bound`.
Moments moments(const std::vector<double>& draws);

struct Measured {
  Estimator estimator{};
  double products = 0;  ///< with J or its transpose, for one value; the mean over draws
  Moments value{}, derivative{};
  /// By the spectral radius: whether one draw has a finite variance.
  bool finite_variance = true;
  double told_infinite = 0;  ///< share of the draws whose report says that the variance is infinite
  /// Of roulettes, the variance of the first so many values.
  std::vector<std::pair<std::int64_t, double>> running{};

  bool series() const { return estimator.family == Estimator::Family::series; }
};

struct Study {
  Problem problem{};
  std::vector<Measured> measured{};

  /// That of an estimator of `estimators()`, by its name.
  const Measured& of(const std::string& name) const;
};

struct StudyOptions {
  std::int64_t draws = 100000;
  std::uint64_t seed = 0;
};

/// All estimators on one problem; the same numbers with any number of threads. `done` hears of each.
Study study(const Problem& problem, const StudyOptions& options,
            const std::function<void(const std::string& name)>& done = {});

}  // namespace banach::lab::logdet
