#pragma once
// A fixed-point body linearised at the solution: what a backward rule works with.

#include <banach/engine/status.hpp>
#include <banach/engine/trace.hpp>
#include <banach/solvers/linear.hpp>

#include <memory>
#include <optional>
#include <variant>

namespace banach {

namespace program {
class Program;
}

/// How the state divides into independent problems.
enum class Batch : std::uint8_t {
  axis0,  ///< one problem for each index of axis 0; f must not mix them
  none,   ///< one problem: a single vector, or an f that couples its samples (batch norm inside)
};

/// How a solver evaluates the body.
enum class Body : std::uint8_t {
  /// f is recorded at z0, and the recording is run as a program without dispatch or allocation: in tiles of
  /// the batch, each solved on one core, where all its operations treat samples one by one. f is called once
  /// more, at the answer (off tapes as Picard's last step, if foreseen); where it disagrees with its
  /// recording (its operations depend on values, it counts its calls), all is solved again with f itself.
  replayed,
  eager,    ///< f is called at every evaluation, and may change from one to the next: the default
  checked,  ///< replayed, with f called beside every replay; ValueError where they disagree
};

/// The state as the solvers see it: (problems, elements each).
Shape state_rows(const Shape& state, Batch batch);

/// Solvers of the adjoint equation lambda = J^T lambda + g.
using LinearSolver = std::variant<Gmres, BiCgStab, Cg, Dense, Iterative>;

/// The body f(z, theta) of an implicit node: recorded at the solution, theta being what it captured.
struct ImplicitBody {
  Trace trace;  ///< one input, the state z; one output, f
  Batch batch = Batch::axis0;
  Policy policy = Policy::report;
  PoolVector<SampleReport> forward = {};  ///< how each problem's forward solve ended
  AdjointLog log = {};
  std::optional<InverseEstimate> inverse = {};  ///< of the forward solver, for rules that need it
};

/// Zeros like x, but NaN in the rows of the chosen problems: added to x, it marks them and changes no other.
Var nan_rows(const Var& x, Batch batch, FunctionRef<bool(std::size_t)> chosen);

struct AdjointSolve {
  Var solution;  ///< of the state's shape
  PoolVector<Status> status;
  PoolVector<double> residual;  ///< relative to the right-hand side's norm
};

/// f(z, theta) at a point, and its partial derivatives J = df/dz and df/dtheta there. While a tape records (a
/// sweep with create_graph), everything it returns is recorded, as a function of z, theta and the argument.
class Linearized {
 public:
  Linearized(std::shared_ptr<const ImplicitBody> body, const Var& z, std::span<const Var> theta);

  const Var& state() const { return z_; }
  /// J^T u, of the state's shape.
  Var vjp_state(const Var& u) const;

  struct Series {
    Var sum, last;
    PoolVector<char> cut = {};  ///< not zero for each problem whose sum ends early; empty if not guarded
  };
  /// sum_{i < terms} (damping J^T + (1 - damping) I)^i u, and the last term. Outside of tapes each tile of
  /// the batch sums all of it by itself. With `guarded`, a problem's sum ends before the shortest of its
  /// terms behind the first, unless that is the last one; the choice is a constant to derivatives.
  Series series(const Var& u, int terms, double damping = 1.0, bool guarded = false) const;

  struct Pulled {
    Var state;   ///< J^T u
    Vars theta;  ///< u^T df/dtheta, one each; undefined where not needed
  };
  /// Both parts in one sweep. Bit i of `needed` tells whether theta i is wanted (all from 63 on are).
  Pulled pull(const Var& u, std::uint64_t needed = ~std::uint64_t{0}) const;

  /// Solves lambda = J^T lambda + g, as one node whose own derivative is again such a solve.
  AdjointSolve solve(const LinearSolver& solver, const Var& g) const { return solve(solver, g, true); }
  /// With transposed = false: v = J v + g.
  AdjointSolve solve(const LinearSolver& solver, const Var& g, bool transposed) const;

  /// J v, or J^T v, outside the tape, for v as the solvers see it: (problems, elements each).
  Tensor product(const Tensor& rows, bool transposed) const;

  /// The forward solver has left an estimate of (I - J)^-1, for a rule that says needs_inverse.
  bool has_inverse() const { return body_->inverse.has_value(); }
  /// (I - J)^-T u by that estimate, which is a constant to derivatives. Throws ValueError if there is none.
  Var estimate_inverse(const Var& u) const;

  /// f at the state.
  Var value() const;
  /// The same body linearised at another state. Its products count here too.
  Linearized at(const Var& z) const {
    Linearized moved(body_, z, theta_);
    moved.evaluations_ = evaluations_;
    return moved;
  }

  /// ||lambda - J^T lambda - g||_2 / ||g||_2 for each problem, given J^T lambda.
  PoolVector<double> residual(const Var& lambda, const Var& pulled, const Var& g) const;
  /// The state as (problems, elements each).
  Shape rows() const { return state_rows(z_.shape(), body_->batch); }
  /// 2-norm of each problem's part of x.
  PoolVector<double> norms(const Var& x) const;
  /// Vector-Jacobian (and Jacobian-vector) products taken so far.
  int evaluations() const { return *evaluations_; }

 private:
  // The body as nodes to sweep: those of the current tape while it records, else those of a trace.
  struct Recorded {
    Var state, value;
    Vars theta;
  };
  const Trace& values() const;
  Var pulled_state(const Var& u) const;
  const program::Program& replayed(const Var& u) const;
  const Trace& transposed() const;
  const Recorded& recorded() const;

  std::shared_ptr<const ImplicitBody> body_;
  Var z_;
  Vars theta_;
  std::shared_ptr<int> evaluations_ = std::allocate_shared<int>(memory::PoolAllocator<char>(), 0);
  mutable std::shared_ptr<const Trace> values_, transposed_;
  mutable std::shared_ptr<const program::Program> replayed_;  // u -> J^T u
  mutable int unreplayed_ = 0;                                // products taken by sweeps
  mutable std::shared_ptr<const Recorded> recorded_;
};

}  // namespace banach
