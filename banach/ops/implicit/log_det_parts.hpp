#pragma once
// Internal: the estimators of log_det, one source each.

#include <banach/ops/implicit/log_det.hpp>
#include <banach/ops/implicit/residual_map.hpp>

namespace banach {

/// What an estimator makes of g at x. Samples of no entries never come here.
struct LogDetEstimate {
  Var value;
  PoolVector<LogDetSample> samples;
};
LogDetEstimate estimate_log_det(const Exact& estimator, const ResidualMap& g, const LogDetOptions& options);
LogDetEstimate estimate_log_det(const PowerSeries& estimator, const ResidualMap& g,
                                const LogDetOptions& options);
LogDetEstimate estimate_log_det(const Roulette& estimator, const ResidualMap& g,
                                const LogDetOptions& options);
LogDetEstimate estimate_log_det(const LanczosQuadrature& estimator, const ResidualMap& g,
                                const LogDetOptions& options);

/// Throws ValueError unless the options lie in their domains.
void check(const Exact& estimator);
void check(const PowerSeries& estimator);
void check(const Roulette& estimator);
void check(const LanczosQuadrature& estimator);
void require(bool holds, std::string_view what, double given);

/// Vectors v of x's shape with tr(A) = E sum_i weights[i] v_i^T A v_i; those from `first_random` on
/// are independent of each other, given the ones before, and have equal weights.
struct TraceVectors {
  Tensors vectors;
  PoolVector<double> weights;
  std::size_t first_random = 0;
};
/// Hutchinson's `probes` vectors, with a `sketch` those of Hutch++.
TraceVectors trace_vectors(const ResidualMap& g, Probe probe, int probes, int sketch, Random random);

/// 1 in this entry of each sample, 0 elsewhere, of x's shape.
Tensor unit_vectors(const ResidualMap& g, std::int64_t entry);
/// x, (batch) or of x's shape, times a number for each sample.
Var scaled_rows(const Var& x, const PoolVector<double>& factors);
/// ||u||_2 of each sample.
PoolVector<double> row_norms(const ResidualMap& g, const Var& u);
/// u^T v for each sample, (batch), for u and v of x's shape.
Var row_dots(const ResidualMap& g, const Var& u, const Var& v);
/// Standard error of the mean of the values from `first` on, for each sample; NaN for one, 0 for
/// none.
PoolVector<double> standard_errors(const PoolVector<PoolVector<double>>& values, std::size_t first);
/// A number found outside of the tape whose first derivatives are those of `surrogate`, a recorded Var.
Var with_gradient_of(const Var& surrogate, const Tensor& value);

}  // namespace banach
