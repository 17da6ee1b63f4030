#pragma once
// Residual maps with known Jacobians, for the tests of log_det.

#include <banach/ops/derivatives.hpp>
#include <banach/ops/implicit/log_det.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <string>
#include <vector>

namespace banach::test {

/// n x n numbers of Frobenius norm c, a bound of the spectral norm.
inline Tensor contraction(std::int64_t n, double c, std::uint64_t seed) {
  const Tensor w = normal({n, n}, seed);
  return (Var(w) * (c / norm(Var(w)).item())).value();
}

/// x -> x W^T: J = W for each sample.
inline Var linear_map(const Var& x, const Var& w) { return matmul(x, w, {.transpose_b = true}); }

/// tanh(x W^T + 0.3), whose Jacobian differs from sample to sample.
inline Var curved_map(const Var& x, const Var& w) { return tanh(linear_map(x, w) + 0.3); }

/// log |det(I + J)| of one linear map.
inline double dense_log_det(const Tensor& w) {
  return slogdet(Var(w) + Var(Tensor::eye(w.shape()[0], w.dtype()))).log_abs.item();
}

/// Rows of one and the same sample, so that one call draws many times.
inline Tensor repeated(const Tensor& row, std::int64_t times) { return repeat(Var(row), {times, 1}).value(); }

inline std::vector<double> numbers_of(const Var& x) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < x.size(); ++i) values.push_back(x.value().at(i));
  return values;
}

/// Student's t of the mean of x against `expected`.
inline double t_of(const std::vector<double>& x, double expected) {
  const auto n = static_cast<double>(x.size());
  double mean = 0.0, squares = 0.0;
  for (const double value : x) mean += value / n;
  for (const double value : x) squares += (value - mean) * (value - mean);
  return (mean - expected) / std::sqrt(squares / (n - 1.0) / n);
}

inline std::vector<LogDetEstimator> all_estimators() {
  return {Exact{},
          PowerSeries{.terms = 6},
          PowerSeries{.terms = 3, .probes = 2, .probe = Probe::gaussian, .gradient = SeriesGradient::neumann},
          PowerSeries{.terms = 4, .probes = 2, .sketch = 1},
          Roulette{.probes = 2},
          Roulette{.further = Poisson{}, .shared = true, .gradient = SeriesGradient::neumann},
          LanczosQuadrature{.steps = 3, .probes = 2}};
}

}  // namespace banach::test
