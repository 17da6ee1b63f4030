#pragma once
// How an answer came about: statuses and reports of iterative solves and of gradients, for each sample of a
// batch.

#include <banach/engine/memory.hpp>

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace banach {

/// The end of one sample's solve. r_k = ||f(z_k) - z_k||_2 is the undamped residual at evaluation k, e_k the
/// estimated error (see SampleReport::error_estimate).
enum class Status : std::uint8_t {
  converged,   ///< r_k <= atol + rtol ||f(z_k)|| and e_k <= error_factor (atol + rtol ||f(z_k)||); or, unless
               ///< options forbid it, r_k <= 2 eps ||f(z_k)|| and k = 1 or r_k < r_1 at a rate below 1
  max_steps,   ///< the allowed evaluations were spent first
  diverged,    ///< r_k > divergence_factor * r_1, or r_k itself overflows
  stagnated,   ///< over `stagnation_window` evaluations the smallest residual fell by less than 0.1 %, or the
               ///< solver found no point of smaller residual to go to
  non_finite,  ///< f(z_k), or a derivative, has a NaN or an infinity; nstep tells k
  singular,    ///< a linear system without a (unique) solution
  indefinite,  ///< a linear system that had to be positive definite is not: p^T A p < 0 for some p
};
std::string_view name(Status status);

/// What an implicit node does about samples that did not end well.
enum class Policy : std::uint8_t {
  report,  ///< nothing but say so in the report
  raise,   ///< throw SolveError
  nan,     ///< fill with NaN: the value, and every gradient through it; or only the exact rule's gradient,
           ///< if that failed. A sample whose cotangent is zero stays out of it
};

struct SampleReport {
  Status status = Status::max_steps;
  int nstep = 0;     ///< evaluations of f at iterates and trial points, until this sample stopped
  int products = 0;  ///< Jacobian-vector products; without derivatives each is an evaluation of f more
  /// The evaluation (from 1) whose iterate is the answer: the last if it converged, else that of the smallest
  /// residual; 0 if none was measured, and the start is the answer.
  int best_step = 0;
  double abs_lowest = 0.0;  ///< residual ||f(z) - z||_2 of the answer; infinite if none was measured
  double rel_lowest = 0.0;  ///< that residual over ||f(z)||_2
  double rate = 0.0;        ///< observed rate: geometric mean of the last 5 residual ratios; 1 if unknown
  /// residual * (last step length / residual before that step) / (1 - rate): for Picard, damped or not, this
  /// is residual / (1 - contraction rate); for quasi-Newton steps the middle factor stands for ||(I-J)^-1||.
  /// Infinite unless the rate is below 1. An estimate, not a bound.
  double error_estimate = 0.0;
  /// p, where the error over the residual was seen to grow like residual^-p while the residual fell: near 0
  /// at a regular root, 1 - 1/m at one of multiplicity m, NaN if the residual fell too little to tell
  /// (formulas: banach/solvers/regularity.hpp).
  double amplification_exponent = std::numeric_limits<double>::quiet_NaN();
  /// p > 0.3: I - J, so it seems, has no inverse at the root, and the root no derivative.
  bool singular_root = false;
  /// Of J at the answer, an estimate by Arnoldi's method (banach/solvers/arnoldi.hpp); NaN unless
  /// FixedPointOptions::spectrum_products asks for it.
  double spectral_radius = std::numeric_limits<double>::quiet_NaN();
  /// The fixed point repels z <- f(z), as 0 does for tanh(2 z). A solver may well find it.
  bool unstable() const { return spectral_radius > 1.0; }
};

/// Residuals along a solve. Row i holds the residual of every sample at evaluation `steps[i]` (from 1);
/// samples that have stopped keep their last value. Unless the whole trace is asked for, at most 64 evenly
/// spaced rows are kept.
struct ResidualTrace {
  PoolVector<int> steps;
  PoolVector<double> abs_trace, rel_trace;  ///< row-major (steps.size(), batch)
};

struct SolveReport {
  PoolVector<SampleReport> samples;
  ResidualTrace trace;
  int nstep = 0;                   ///< evaluations of f over the whole batch (the largest of the samples')
  std::int64_t history_bytes = 0;  ///< memory of the solver's own history
  std::string_view solver = "";
  /// What the tolerance is on: "relative residual", or of a root "||F||", of a minimum "||gradient||".
  std::string_view measure = "relative residual";

  bool converged() const;
  int count(Status status) const;
  /// "128 samples: 126 converged, 2 max_steps; largest relative residual 3.1e-04"
  std::string to_string() const;
};

/// What kind of derivative a gradient is.
enum class GradientKind : std::uint8_t {
  exact,
  approximate,
  least_squares,
  non_differentiable,
  unbiased,  ///< random, with the exact gradient as mean and a finite variance
};
std::string_view name(GradientKind kind);

/// All four parts for one sample. It is `exact` (or `unbiased`) only if forward and adjoint both converged.
struct GradientStatus {
  GradientKind kind = GradientKind::approximate;
  Status forward = Status::max_steps;
  Status adjoint = Status::max_steps;  ///< of a rule with a fixed number of terms: AdjointReport::truncated
  double adjoint_residual = 0.0;       ///< ||lambda - J^T lambda - g||_2 / ||g||_2; NaN if there is no lambda
  /// Reversible: distance of the start reconstructed by inverting every step from the true one, relative to
  /// the larger of start and answer. NaN for other rules, and where nothing was reconstructed.
  double reconstruction_error = std::numeric_limits<double>::quiet_NaN();
  /// RandomNeumann: the variance E||lambda - E lambda||_2^2, estimated without bias from the same draw (so it
  /// may be negative). NaN for other rules.
  double variance = std::numeric_limits<double>::quiet_NaN();
  bool fell_back = false;  ///< Shine took JacobianFree's lambda, or guarded Phantom an earlier sum
  /// ||lambda' - lambda||_2 / ||lambda||_2, lambda' being the adjoint at z + d, with d Newton's correction of
  /// z: how far the gradient is off, relative, since z is. About 1 near a double root, however small the
  /// residual there; above 1/4 an exact rule's gradient is called approximate, and the policy holds. NaN
  /// where it was not measured: that is done where the forward solve left a large error beside its residual.
  double sensitivity = std::numeric_limits<double>::quiet_NaN();
};

/// One backward sweep through an implicit node.
struct AdjointReport {
  std::string_view rule = "";
  PoolVector<GradientStatus> samples;
  int evaluations = 0;         ///< vector-Jacobian products of f
  std::string_view hint = "";  ///< a likely cause, where the gradient failed and one was found
  /// The rule takes a fixed number of terms and solves to no tolerance (JacobianFree, Neumann, Phantom,
  /// Shine): max_steps is then how an adjoint ends by design, and converged and diverged are what its
  /// residual says.
  bool truncated = false;

  bool exact() const;
  std::string to_string() const;
};

/// A shared handle to what the backward sweeps through one node reported: empty until one ran, then one entry
/// a sweep. Readable after the tape is gone.
class AdjointLog {
 public:
  AdjointLog() : reports_(std::allocate_shared<PoolVector<AdjointReport>>(memory::PoolAllocator<char>())) {}
  bool run() const { return !reports_->empty(); }
  const PoolVector<AdjointReport>& sweeps() const { return *reports_; }
  /// The newest entry. Throws ValueError if no sweep ran.
  const AdjointReport& last() const;
  void add(AdjointReport report) const { reports_->push_back(std::move(report)); }

 private:
  std::shared_ptr<PoolVector<AdjointReport>> reports_;
};

}  // namespace banach
