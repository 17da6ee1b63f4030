#pragma once
// log |det(I + J)|, J = dg/dx: what a residual block x + g(x) adds to the logarithm of a density. Where g is
// a contraction,
//     log det(I + J) = sum_{k >= 1} (-1)^(k+1) tr(J^k) / k,
// with traces estimated by random vectors, tr(A) = E[v^T A v]: Behrmann, Grathwohl, Chen, Duvenaud, Jacobsen
// 2019, "Invertible residual networks", eq. 4 to 6. The block's inverse needs nothing of its own: it is
// fixed_point([&](const Var& x) { return y - g(x); }, y, options), by NewtonKrylov where c is near 1.

#include <banach/engine/parallel.hpp>
#include <banach/engine/status.hpp>
#include <banach/engine/var.hpp>
#include <banach/ops/implicit/probe.hpp>

#include <optional>
#include <variant>

namespace banach {

/// The dense Jacobian by d products, one a row for the whole batch, and its LU factor. Exact, and so are its
/// derivatives, of any order; g need not be a contraction. Memory for d recorded products and d^2 numbers a
/// sample. `singular` is an exactly zero pivot: an I + J that is singular but for rounding has a large
/// negative value and large derivatives.
struct Exact {
  static constexpr std::string_view name = "exact";
};

/// How a series passes gradients.
enum class SeriesGradient : std::uint8_t {
  /// Through every term: the derivative of the very number that is returned, of any order. Memory grows with
  /// the terms.
  series,
  /// By the Neumann series of (I + J)^-1, E[v^T sum_k (-1)^k J^k dJ v]: Chen, Behrmann, Duvenaud, Jacobsen
  /// 2019, "Residual flows for invertible generative modeling", eq. 8. Its terms are by-products of the
  /// value,
  /// so only one product with J is recorded, however many the terms. The mean over v is that of `series`, a
  /// single draw is not (and for d = 1 it is). First derivatives only.
  neumann,
};

/// The series cut after `terms`. The bias is at most d (-log(1 - c) - sum_{k <= terms} c^k / k) for a g with
/// Lipschitz constant c, attained by J = -c I; the report tells it.
struct PowerSeries {
  int terms = 5;
  int probes = 1;  ///< independent random vectors that are averaged
  Probe probe = Probe::rademacher;
  /// Hutch++: products with J of so many random vectors span a space whose part of the trace is taken
  /// exactly, and only the rest is left to the probes. Meyer, Musco, Musco, Woodruff 2021, "Hutch++: optimal
  /// stochastic trace estimation", algorithm 1 (whose sketch takes the whole matrix, here the series, where
  /// this one takes J: one product, and the same leading space). Unbiased; exact from d on. Gradients hold
  /// the space constant.
  int sketch = 0;
  SeriesGradient gradient = SeriesGradient::series;
  static constexpr std::string_view name = "power_series";
};

/// Further terms N with P(N >= i) = (1 - p)^i. (Chen et al. count from 1: theirs is one more.)
struct Geometric {
  double p = 0.5;
};
/// Further terms N with Poisson's distribution. Its chance to continue falls below any rate, so a J with an
/// eigenvalue other than 0 has infinite variance, however small it is.
struct Poisson {
  double lambda = 2.0;
};

/// The whole series, without bias, from a random number of terms (Russian roulette): term k is weighed by
/// 1 / P(N >= k). Chen et al. 2019 (see SeriesGradient), eq. 6 and theorem 1. The variance is finite where
/// terms shrink faster than the chance to continue, for Geometric where the spectral radius squared is below
/// 1 - p; the report says where it is not.
struct Roulette {
  std::variant<Geometric, Poisson> further = Geometric{};  ///< how many terms beyond min_terms
  int min_terms = 2;                                       ///< always taken, unweighted
  int max_terms = 1000;  ///< longer draws are cut here: the mean is then that of a series of so many terms
  /// One number of terms for the whole batch in place of one a sample: the batch then takes the terms of a
  /// mean draw, not of its longest. Each sample is as unbiased as before, but their errors go together.
  bool shared = false;
  int probes = 1;  ///< each with a number of terms of its own
  Probe probe = Probe::rademacher;
  int sketch = 0;  ///< see PowerSeries
  SeriesGradient gradient = SeriesGradient::series;
  static constexpr std::string_view name = "roulette";
};

/// Stochastic Lanczos quadrature of half the log det of (I + J)(I + J)^T, with full orthogonalisation: Ubaru,
/// Chen, Saad 2017, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature". g need not be a
/// contraction. Each step takes a product with J and one with J^T. The quadrature is exact from `steps` = d
/// on; before, its bias is not bounded here. A A^T has the squares of A's singular values: those below the
/// root of the dtype's rounding, relative to the largest, are lost, without a status that says so. Gradients
/// come from the same Krylov space, as tr((I + J)^-1 dJ); first derivatives only.
struct LanczosQuadrature {
  int steps = 10;
  int probes = 1;
  Probe probe = Probe::rademacher;
  static constexpr std::string_view name = "lanczos_quadrature";
};

using LogDetEstimator = std::variant<Exact, PowerSeries, Roulette, LanczosQuadrature>;

struct LogDetOptions {
  LogDetEstimator estimator = Exact{};
  /// A Lipschitz constant of g, in [0, 1), for what the report says about bias and variance.
  std::optional<double> lipschitz = {};
  std::uint64_t seed = 0;  ///< of all random numbers: take another one each step
};

/// About one sample. NaN: not known.
struct LogDetSample {
  /// converged; non_finite: the value is; singular: I + J is (Exact); diverged: the terms of a series do not
  /// shrink, or the variance of Roulette is infinite; max_steps: a draw was cut at max_terms. (A bias that
  /// such cuts leave is that of the mean, so of whole draws as well: see truncation_bound.)
  Status status = Status::converged;
  int terms = 0;  ///< of the longest of its series; steps of Lanczos
  /// Of the cut series: |mean - log det| <= truncation_bound. 0 for Exact, and for Roulette where no draw can
  /// be so long as to be cut. Else NaN unless a Lipschitz constant is given; a somewhat larger gain (1e-3)
  /// that was seen takes its place, above that the bound is infinite.
  double truncation_bound = std::numeric_limits<double>::quiet_NaN();
  /// Of the mean over the probes; NaN for a single one, and for Roulette with a sketch; 0 for Exact.
  double standard_error = std::numeric_limits<double>::quiet_NaN();
  /// Roulette: whether the variance is finite. Surely so where the Lipschitz constant shows it (Geometric:
  /// c^2 < 1 - p) and no larger gain was seen; else by the rate seen, which is too favourable where few terms
  /// were taken and few directions decide: spectral_radius(g, x) squared must be below 1 - p.
  bool finite_variance = true;
  double rate = std::numeric_limits<double>::quiet_NaN();  ///< at which the newest terms shrank
  double gain = std::numeric_limits<double>::quiet_NaN();  ///< largest ||J^T u|| / ||u|| seen
  double sign = std::numeric_limits<double>::quiet_NaN();  ///< of det(I + J): Exact alone
};

struct LogDetReport {
  std::string_view estimator = "";
  PoolVector<LogDetSample> samples;
  int products = 0;  ///< with J or its transpose, each for the whole batch; those of sweeps not counted
  /// "128 samples by roulette: 126 converged, 2 diverged; 2 of infinite variance; ..."
  std::string to_string() const;
};

struct LogDet {
  Var value;  ///< log |det(I + J)| of each sample, (batch)
  Var image;  ///< g(x), which a flow needs as well: the block's value is x + image
  LogDetReport report;
};

/// log |det(I + dg/dx)| for each entry of axis 0 of x, which g must not mix. g takes and returns a Var of x's
/// shape and dtype, and is called once. Value and image are differentiable in x and in all that g captured,
/// the value by the estimator's rule. A sample of no entries has log det 0. The same bits with any number of
/// threads; while a tape records, SeriesGradient::series rounds differently. Throws ShapeError if x has no
/// axis or g changes the shape, ValueError for an option outside its domain (a lipschitz of 1 or more among
/// them).
LogDet log_det(FunctionRef<Var(const Var&)> g, const Var& x, const LogDetOptions& options = {});

}  // namespace banach
