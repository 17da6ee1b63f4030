#pragma once
// A linear system A x = b, A being known by its products only, as one node of the tape.

#include <banach/ops/implicit/backward.hpp>

namespace banach {

struct LinearSolveOptions {
  LinearSolver solver = Gmres{.tolerance = 1e-10};
  LinearSolver adjoint = Gmres{.tolerance = 1e-10};  ///< of A^T lambda = g
  Batch batch = Batch::axis0;
  Policy policy = Policy::report;
};

/// Solves A(x) = b for a linear map A of b's shape, one system for each entry of axis 0. A may capture Vars
/// and Parameters; they and b get exact gradients of any order, by solves with A and its transpose:
///     b: lambda = A^-T g;   theta: -(d A(x) / d theta)^T lambda.
/// Cg, as solver or adjoint, needs A to be symmetric and positive definite. Throws ShapeError if A changes
/// the shape, ValueError if A turns out not to be linear, by A(-b / 2) or by its products.
ImplicitSolution linear_solve(FunctionRef<Var(const Var&)> A, const Var& b,
                              const LinearSolveOptions& options = {});

}  // namespace banach
