#pragma once
// Internal to ops/implicit: the node that fixed_point, root, minimize and linear_solve record. All of them
// are z = f(z, theta) for some body f, found in different ways; what follows from the equation (capture, the
// adjoint equation, the status of the gradient, the policy) is here, once.

#include <banach/ops/implicit/backward.hpp>
#include <banach/solvers/fixed_point.hpp>

#include <memory>
#include <optional>
#include <type_traits>

namespace banach {

struct FixedPointOptions;

/// A solve that is solve_fixed_point and nothing else, so that it can be run in parts.
struct PlainSolve {
  Solver solver;
  StopOptions stop;

  FixedPointSolution operator()(const FixedPointProblem& problem, const Tensor& z0) const {
    return solve_fixed_point(solver, problem, z0, stop);
  }
};

/// How z is found, from z0 of (problems, elements each) and by evaluations of the body: any callable
/// FixedPointSolution(const FixedPointProblem&, const Tensor& z0). Unlike std::function it lives in the pool.
class ForwardSolve {
 public:
  template <class F>
  requires(!std::is_same_v<std::decay_t<F>, ForwardSolve>) ForwardSolve(F solve)  // NOLINT: implicit
      : callable_(std::allocate_shared<const F>(memory::PoolAllocator<F>(), std::move(solve))),
        call_([](const void* callable, const FixedPointProblem& f, const Tensor& z0) {
          return (*static_cast<const F*>(callable))(f, z0);
        }),
        plain_(std::is_same_v<F, PlainSolve>) {}
  FixedPointSolution operator()(const FixedPointProblem& f, const Tensor& z0) const {
    return call_(callable_.get(), f, z0);
  }
  /// The callable, if it is such a solve; else null.
  const PlainSolve* plain() const {
    return plain_ ? static_cast<const PlainSolve*>(callable_.get()) : nullptr;
  }

 private:
  std::shared_ptr<const void> callable_;
  FixedPointSolution (*call_)(const void*, const FixedPointProblem&, const Tensor&);
  bool plain_;
};

struct ImplicitNode {
  const Op* op;  ///< made by implicit_op; its name stands in every message
  ForwardSolve solve;
  /// How a replay solves again, from the solution known, where that is not by `solve`, which is then used
  /// once. A replay (a node in the body of another one) knows the body f alone.
  std::optional<ForwardSolve> solve_again = {};
  BackwardRule backward;
  Batch batch = Batch::axis0;
  Policy policy = Policy::report;
  Body body = Body::eager;
  bool needs_derivatives = false;  ///< `solve` asks for the linearisation: the batch is then solved at once
  double tolerance = 0.0;  ///< residuals below it (relative, and absolute where given) count as solved
  std::optional<double> absolute_tolerance = {};
};

/// Finds z = f(z) outside the tape, and records it as one node if a tape records.
ImplicitSolution implicit_node(FunctionRef<Var(const Var&)> f, const Var& z0, const ImplicitNode& node);
/// Its two halves: the solve, whose z is (problems, elements each), ...
FixedPointSolution solve_body(FunctionRef<Var(const Var&)> f, const Tensor& z0, const ImplicitNode& node);
/// ... and what is recorded of it, with z in its own shape.
Var record_solution(FunctionRef<Var(const Var&)> f, const Shape& shape, const FixedPointSolution& solution,
                    const ImplicitNode& node, const AdjointLog& log);

/// The node of F(z) = 0, which is recorded as the fixed point of z - s F(z): I - J = s dF/dz. `solve` finds z
/// with s = 1, and its report is about F. Where dF/dz is small, I - J would be lost in the rounding of
/// 1 - (1 - dF/dz), and the gradient with it, so s makes up for it (an approximate rule, which takes dF/dz as
/// it is, gets s = 1). `again` gives the solve of a replay, whose residuals are s times those of F.
ImplicitSolution root_node(FunctionRef<Var(const Var&)> F, const Var& z0, ImplicitNode node,
                           FunctionRef<ForwardSolve(double s)> again);
/// Where nobody gave a tolerance: a sample counts as converged if F is at its rounding level at the answer,
/// ||F|| <= 4 eps ||dF/dz|| ||z|| (the size of dF/dz seen along a random direction), in whatever units F is.
/// Costs one pull, and that only where a sample has not converged.
void accept_rounding(FunctionRef<Var(const Var&)> F, const Shape& state, Batch batch,
                     FixedPointSolution& found);
/// A power of two: about the inverse of the size of dF/dz at z, the largest of the batch, where that is below
/// 1/16; else 1.
double unit_scale(FunctionRef<Var(const Var&)> F, const Tensor& z, Batch batch);

/// A power of two near 1 / the largest of image[i] / size[i], norms of A v and of v, if that is below 1/16.
double unit_scale(const PoolVector<double>& image, const PoolVector<double>& size, DType dtype);

/// The derivative of f at a state, from one recording of f there.
Linearization linearize(FunctionRef<Var(const Var&)> f, const Var& z, Batch batch);

/// The registry entry of such a node.
OpDef implicit_op(const char* name, const char* doc);

/// z, held to the policy about samples that did not converge.
Var held_to_policy(std::string_view op, const Var& z, const SolveReport& report, Batch batch, Policy policy);

/// Throws ValueError unless z0 is defined, DTypeError unless it is f32 or f64.
void check_start(std::string_view op, const Var& z0);
/// Throws ValueError for a rule that differentiates an iteration of its own, or with an option outside its
/// domain.
void check_rule(std::string_view op, const BackwardRule& rule);
/// Throws ValueError for a rule that needs an inverse estimate where this solver has not `kept` one.
void check_inverse(std::string_view op, const BackwardRule& rule, bool kept, std::string_view solver);
/// Throws ShapeError or DTypeError unless f(z) is like z, ValueError if it is undefined.
void check_body(std::string_view op, const Var& z, const Var& fz);

/// f at z, both as the solvers see them: (problems, elements each). f itself sees `state`, and must keep it.
Tensor at_rows(std::string_view op, FunctionRef<Var(const Var&)> f, const Shape& state, const Tensor& z);

/// The node that fixed_point records with these options.
ImplicitNode fixed_point_node(const FixedPointOptions& options);
StopOptions stop_options(const FixedPointOptions& options);

}  // namespace banach
