#pragma once
// The fixed point z = f(z) as one node of the tape.

#include <banach/ops/implicit/backward.hpp>
#include <banach/solvers/fixed_point.hpp>

namespace banach {

struct FixedPointOptions {
  Solver solver = Anderson{};
  BackwardRule backward = Implicit{};
  double tolerance = 1e-4;  ///< on ||f(z) - z|| / ||f(z)||, each sample
  /// Added to tolerance ||f(z)||, in units of z; unless given, almost nothing: see
  /// StopOptions.
  std::optional<double> absolute_tolerance = {};
  int max_steps = 100;  ///< evaluations of f
  Batch batch =
      Batch::axis0;  ///< entries of axis 0 are separate problems; none: one problem, or an f that mixes them
  Policy policy = Policy::report;
  double error_factor = 100.0;  ///< see Status::converged
  Body body = Body::eager;
  bool whole_trace = false;  ///< keep the residuals of every step in the report
  /// If positive, the report tells the spectral radius of J at the solution, and whether it is unstable, from
  /// so many vector-Jacobian products and one evaluation of f more.
  int spectrum_products = 0;
};

using FixedPoint = ImplicitSolution;

/// Solves z = f(z) from z0, as one node. f takes and returns a Var of z0's shape and dtype; what it captures
/// (Vars of the tape, Parameters) becomes the node's inputs. The iteration is not recorded: memory does not
/// depend on its length. f is recorded once, at the solution, and the backward rule passes gradients to its
/// captures; z0 gets none (but with Unrolled). Warm start: pass an earlier z. Any rule can be differentiated
/// again; derivatives of any order through Implicit are the true ones of the solution. Throws ShapeError if f
/// changes the shape, ValueError for an option outside its domain, SolveError under Policy::raise.
FixedPoint fixed_point(FunctionRef<Var(const Var&)> f, const Var& z0, const FixedPointOptions& options = {});

struct FixedPoints {
  Vars z;
  SolveReport report;
  AdjointLog adjoint;
};

/// Several states at once, each with its own shape but one dtype and, for Batch::axis0, the same extent of
/// axis 0. They are solved as one vector a sample, so residuals and tolerances are joint.
FixedPoints fixed_point(FunctionRef<Vars(const Vars&)> f, const Vars& z0,
                        const FixedPointOptions& options = {});

}  // namespace banach
