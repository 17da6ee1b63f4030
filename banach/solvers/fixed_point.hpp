#pragma once
// Solving z = f(z) for a batch of samples. Problem (a map of tensors), solver (a value) and stopping rule
// (options) are three separate things; the loop is written once, and a solver only proposes the next iterate.

#include <banach/engine/status.hpp>
#include <banach/engine/tensor.hpp>

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <typeinfo>

namespace banach {

/// A map of the state, shape (batch, n) in and out, f32 or f64: any callable of a Tensor, or of a Tensor and
/// one mark for each sample (`char`, 0 or not; no marks for all of them). Rows of samples without a mark may
/// come back as anything, so that a map of independent samples need not spend work on those that have
/// stopped.
class StateMap {
 public:
  using Marks = std::span<const char>;

  StateMap() = default;
  template <class F>
  requires(!std::is_same_v<std::decay_t<F>, StateMap> &&
           (std::is_invocable_r_v<Tensor, F&, const Tensor&, Marks> ||
            std::is_invocable_r_v<Tensor, F&, const Tensor&>)) StateMap(F map) {  // NOLINT: implicit
    if constexpr (std::is_invocable_r_v<Tensor, F&, const Tensor&, Marks>)
      map_ = std::move(map);
    else
      map_ = [map = std::move(map)](const Tensor& z, Marks) mutable -> Tensor { return map(z); };
  }

  Tensor operator()(const Tensor& z, Marks wanted = {}) const { return map_(z, wanted); }
  explicit operator bool() const { return static_cast<bool>(map_); }

 private:
  std::function<Tensor(const Tensor&, Marks)> map_;
};

/// The derivative J = df/dz at one state, as products for the whole batch, (batch, n) in and out. One of them
/// may be empty; where both are given, solvers that need the whole of J take `vjp`, the cheaper one on a
/// tape.
struct Linearization {
  StateMap jvp = {};  ///< v -> J v
  StateMap vjp = {};  ///< u -> J^T u
};

/// z = f(z). `linearize` gives the derivative at a state, and may keep memory there until its result is
/// dropped; where it is empty, solvers that need products of J take forward differences of f. A root of F is
/// the fixed point of f(z) = z - F(z), whose residual is ||F(z)||.
struct FixedPointProblem {
  StateMap f;
  std::function<Linearization(const Tensor& z)> linearize = {};
};

/// What the loop must know of a sample besides its next point.
struct StepInfo {
  /// A trial becomes the iterate if f is finite there and the residual at most `limit`; else the solver goes
  /// back to the iterate, and the trial counts as an evaluation and as nothing else. A point that is no trial
  /// is an iterate whatever f is there.
  bool trial = false;
  double limit = std::numeric_limits<double>::infinity();
  double step_length = 0.0;        ///< of a trial: its distance from the iterate
  bool restarted = false;          ///< the point does not go on from the last iterate: rates begin anew
  std::optional<Status> end = {};  ///< there is no next point: how the sample ends
  /// ||(I - J)^-1|| at the iterate before this point, in any norm; 0 if unknown, infinite if I - J is
  /// singular to rounding.
  double amplification = 0.0;
  int products = 0;     ///< of the Jacobian and a vector, taken for this sample so far
  int evaluations = 0;  ///< of f, made for this sample so far besides those of the loop
};

/// What a quasi-Newton solver has learned of (I - J)^-1: I - sum_k u_k v_k^T for each sample.
struct InverseEstimate {
  Tensor u, v;  ///< (batch, pairs, n); pairs that are not in use are zero
};

/// The memory of one solve. `propose` writes the next iterate of every active sample into `next` (rows of
/// other samples must be left as they are): it sees the point z proposed last, f(z), and which samples are
/// still active.
class Stepper {
 public:
  virtual ~Stepper() = default;
  virtual void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) = 0;
  /// About the point last proposed for a sample.
  virtual StepInfo info(std::int64_t) const { return {}; }
  /// Asked before a sample ends with this status, neither converged nor max_steps. True if the solver has
  /// another way to go: the sample then goes on, with a restart.
  virtual bool retry(std::int64_t, Status) { return false; }
  virtual std::int64_t history_bytes() const { return 0; }
  /// What is known of the inverse where each sample has stopped. Asked for at the end, after which the
  /// stepper is of no use.
  virtual std::optional<InverseEstimate> inverse() { return {}; }

  // A solve inside a training loop takes all its memory from the pool.
  static void* operator new(std::size_t bytes) { return memory::allocate(bytes); }
  static void operator delete(void* stepper, std::size_t bytes) noexcept { memory::release(stepper, bytes); }
};

/// z <- z + damping (f(z) - z). With damping 1: z <- f(z).
struct Picard {
  double damping = 1.0;
  static constexpr std::string_view name = "picard";
  std::unique_ptr<Stepper> start(std::int64_t batch, std::int64_t n, DType dtype) const;
};

/// Anderson acceleration (Anderson 1965; Walker and Ni 2011, eq. 2.1 in its unconstrained form, type II), one
/// small least-squares problem a sample, with a ridge relative to the diagonal of its Gram matrix.
/// Safeguarded (safeguard.hpp): a sample whose residual grows to more than ten times the smallest, or does
/// not fall below it for ten evaluations, forgets its history and goes back to its best iterate; where that
/// does not help twice, it takes Picard steps for a while. So it converges where Picard does.
struct Anderson {
  int memory = 5;  ///< differences kept
  double damping = 1.0;
  double ridge = 1e-10;  ///< relative to the Gram matrix
  static constexpr std::string_view name = "anderson";
  std::unique_ptr<Stepper> start(std::int64_t batch, std::int64_t n, DType dtype) const;
};

/// Limited-memory "good" Broyden (Broyden 1965) on g(z) = f(z) - z, one low-rank inverse a sample, started
/// from -I, and safeguarded as Anderson is, but for the Picard steps: it also finds fixed points that repel
/// Picard. A full memory is emptied.
struct Broyden {
  int memory = 30;  ///< rank-one updates kept
  double damping = 1.0;
  static constexpr std::string_view name = "broyden";
  static constexpr bool keeps_inverse = true;
  std::unique_ptr<Stepper> start(std::int64_t batch, std::int64_t n, DType dtype) const;
};

/// Adjoint Broyden with residual updates (Schlenkrich, Griewank, Walther 2010, "On the local convergence of
/// adjoint Broyden methods", the residual update; used by Ramzi et al. 2022 for SHINE): the estimate B of
/// g'(z), g(z) = f(z) - z, learns one row space direction a step, sigma = g(z) itself, exactly:
///     B <- B + sigma sigma^T (g'(z) - B) / (sigma^T sigma).
/// That takes one product with J^T a step, so the problem needs `linearize` with a vjp. For an affine f the
/// sigmas are orthogonal: without a restart the solver ends after at most n + 1 evaluations, and what it then
/// knows of the inverse is right wherever it has looked. Memory and safeguard are Broyden's.
struct AdjointBroyden {
  int memory = 30;  ///< rank-one updates kept
  double damping = 1.0;
  static constexpr std::string_view name = "adjoint_broyden";
  static constexpr bool keeps_inverse = true;
  std::unique_ptr<Stepper> start(const FixedPointProblem& problem, std::int64_t batch, std::int64_t n,
                                 DType dtype) const;
};

/// Any of the above or of newton.hpp, or any struct with a `name` and a `start` like theirs: of (batch, n,
/// dtype), or of (problem, batch, n, dtype) if it needs derivatives; the problem outlives the stepper. One
/// whose steppers hand out an InverseEstimate says so by `static constexpr bool keeps_inverse = true`.
class Solver {
 public:
  template <class S>
  requires(!std::is_same_v<std::decay_t<S>, Solver>)
      Solver(S solver)  // NOLINT: implicit, so that options read .solver = Anderson{.memory = 5}
      : name_(S::name),
        options_(std::allocate_shared<S>(memory::PoolAllocator<S>(), std::move(solver))),
        start_([](const void* options, const FixedPointProblem& problem, std::int64_t batch, std::int64_t n,
                  DType dtype) {
          const S& typed = *static_cast<const S*>(options);
          if constexpr (requires { typed.start(problem, batch, n, dtype); })
            return typed.start(problem, batch, n, dtype);
          else
            return typed.start(batch, n, dtype);
        }),
        type_(&typeid(S)) {
    if constexpr (requires { S::keeps_inverse; }) keeps_inverse_ = S::keeps_inverse;
    needs_derivatives_ = requires(const S& s, const FixedPointProblem& p) { s.start(p, 0, 0, DType::f32); };
  }
  std::string_view name() const { return name_; }
  bool keeps_inverse() const { return keeps_inverse_; }
  /// Whether it is started with the problem, of which it then may ask the derivative.
  bool needs_derivatives() const { return needs_derivatives_; }
  std::unique_ptr<Stepper> start(const FixedPointProblem& problem, std::int64_t batch, std::int64_t n,
                                 DType dtype) const {
    return start_(options_.get(), problem, batch, n, dtype);
  }
  /// The solver as an S, or null if it is another one.
  template <class S>
  const S* get_if() const {
    return *type_ == typeid(S) ? static_cast<const S*>(options_.get()) : nullptr;
  }

 private:
  std::string_view name_;
  std::shared_ptr<const void> options_;
  std::unique_ptr<Stepper> (*start_)(const void*, const FixedPointProblem&, std::int64_t, std::int64_t,
                                     DType);
  const std::type_info* type_;
  bool keeps_inverse_ = false, needs_derivatives_ = false;
};

/// When a sample stops; the statuses of status.hpp are defined with these.
struct StopOptions {
  /// Evaluations of f for a sample, those that a solver makes for differences included (it may exceed the
  /// limit by those of its last step).
  int max_steps = 100;
  double tolerance = 1e-4;  ///< rtol: relative to ||f(z)||
  /// atol; unless given, 1e-6 tolerance min(1, r_1), r_1 being the first residual: enough for a solution of
  /// zero to converge, and too little to matter for any other, however small the units.
  std::optional<double> absolute_tolerance = {};
  double error_factor = 100.0;  ///< the estimated error may be this much larger than the residual's bound
  double divergence_factor = 1e6;
  int stagnation_window = 100;
  bool whole_trace = false;
  bool keep_inverse = false;  ///< the solution carries the solver's estimate of the inverse, if it has one
  /// Whether a residual of 2 eps ||f(z)|| counts as converged, whatever the tolerances. Not for roots: there
  /// it would allow ||F|| to be as large as the rounding of z.
  bool accept_rounding = true;
};

struct FixedPointSolution {
  Tensor z;   ///< for each sample the iterate of its best_step, (batch, n)
  Tensor fz;  ///< f at it; where nothing finite was evaluated, the start
  SolveReport report;
  std::optional<InverseEstimate> inverse = {};  ///< see StopOptions::keep_inverse
};

/// Solves z = f(z) from z0 (batch, n). A sample freezes when it stops; the others go on as if alone. Throws
/// ShapeError when f changes the shape (both shapes are named), ValueError for options outside their domain
/// (max_steps < 0, a tolerance that is negative or NaN, ...). With max_steps 0, f is not evaluated and z is
/// z0. An empty batch is an empty solution.
FixedPointSolution solve_fixed_point(const Solver& solver, const FixedPointProblem& problem, const Tensor& z0,
                                     const StopOptions& options);
FixedPointSolution solve_fixed_point(const Solver& solver, const StateMap& f, const Tensor& z0,
                                     const StopOptions& options);

}  // namespace banach
