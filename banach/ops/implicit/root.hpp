#pragma once
// A root F(z) = 0 as one node of the tape.

#include <banach/ops/implicit/backward.hpp>
#include <banach/solvers/fallback.hpp>

namespace banach {

struct RootOptions {
  /// Any solver; those of newton.hpp are given exact products with dF/dz.
  Solver solver = Fallback{};
  /// Any rule but those with an iteration of their own. The approximate ones are built for fixed points: with
  /// f(z) = z - F(z), JacobianFree takes dF/dz for the identity. Shine needs Broyden or AdjointBroyden as
  /// solver.
  BackwardRule backward = Implicit{Gmres{.tolerance = 1e-10}};
  /// On ||F(z)||_2, each sample. Unless given, 1e-8 for f64 and 1e-4 for f32, or the rounding of F where that
  /// is more: ||F|| <= 4 eps ||dF/dz|| ||z||.
  std::optional<double> tolerance = {};
  int max_steps = 2000;  ///< evaluations of F
  Batch batch = Batch::axis0;
  Policy policy = Policy::report;
  bool whole_trace = false;  ///< keep the residuals of every step in the report
};

/// Solves F(z) = 0 from z0, one problem for each entry of axis 0. F takes and returns a Var of z0's shape and
/// dtype; what it captures (Vars of the tape, Parameters) becomes the node's inputs, and gets the gradient of
/// the implicit function theorem: (dF/dz)^T lambda = g, cotangent -(dF/dtheta)^T lambda; of any order. z0
/// gets none. Where dF/dz is singular at the root there is no derivative, and the gradient's status says
/// non_differentiable. Throws ShapeError if F changes the shape, ValueError for an option outside its domain,
/// SolveError under Policy::raise, ValueError for a rule with an iteration of its own. A solver sees F as
/// z - (z - F(z)): where F is below the rounding of z, which asks for F in other units, the sample has
/// stagnated.
ImplicitSolution root(FunctionRef<Var(const Var&)> F, const Var& z0, const RootOptions& options = {});

}  // namespace banach
