#pragma once
// argmin as one node of the tape.

#include <banach/ops/implicit/backward.hpp>
#include <banach/solvers/minimize.hpp>

namespace banach {

struct MinimizeOptions {
  TrustRegion solver = {};
  /// Of the adjoint equation H lambda = g: at a minimum the Hessian H is positive definite, and Cg says if
  /// not. A start on a maximum or a saddle converges there at once: other solvers than Cg give its gradient
  /// without a word.
  BackwardRule backward = Implicit{Cg{.tolerance = 1e-10}};
  /// On the gradient's norm, each sample. Unless given, 1e-8 for f64 and 1e-4 for f32, or the rounding of the
  /// gradient where that is more: 4 eps ||H|| ||z||.
  std::optional<double> tolerance = {};
  int max_steps = 1000;  ///< evaluations of phi with its gradient
  Batch batch = Batch::axis0;
  Policy policy = Policy::report;
  bool whole_trace = false;
};

/// A local minimum of the smooth function phi, from z0: one problem for each entry of axis 0, phi(z) being of
/// shape (batch); or, with Batch::none, one problem with a phi of one element. What phi captures gets the
/// gradient of the implicit function theorem for grad phi(z) = 0,
///     H lambda = g,   cotangent -lambda' d(grad phi)/d theta,
/// of any order (Gould, Fernando, Cherian, Anderson, Cruz and Guo 2016, "On differentiating parameterized
/// argmin and argmax problems", lemma 3.2). Where H is singular or indefinite the gradient's status says so.
/// Throws ShapeError for another shape of phi.
ImplicitSolution minimize(FunctionRef<Var(const Var&)> phi, const Var& z0,
                          const MinimizeOptions& options = {});

}  // namespace banach
