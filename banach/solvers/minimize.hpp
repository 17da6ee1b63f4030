#pragma once
// Minima of smooth functions, one for each sample of a batch.

#include <banach/solvers/fixed_point.hpp>

#include <functional>

namespace banach {

/// phi(z) for z (batch, n): a value and a gradient for each sample, and Hessian-vector products.
struct MinimizationProblem {
  struct Point {
    Tensor value;     ///< (batch)
    Tensor gradient;  ///< (batch, n)
  };
  std::function<Point(const Tensor& z)> evaluate;
  /// v -> H v at z, for the whole batch. What it returns is used until it is asked for again.
  std::function<StateMap(const Tensor& z)> hessian;
};

/// Newton's method in a trust region, the step by conjugate gradients (Steihaug 1983; Nocedal and Wright
/// 2006, algorithms 4.1 and 7.2): leaves saddle points along directions of negative curvature that it meets,
/// and converges fast to minima.
struct TrustRegion {
  double radius = 1.0;       ///< of the first region, in units of z
  double max_radius = 1e10;  ///< the largest
  int krylov = 200;          ///< largest number of conjugate-gradient steps for one step of z
  static constexpr std::string_view name = "trust_region";
};

/// Minimises from z0 (batch, n). The residual of the report is ||grad phi||_2, the tolerances are those of a
/// fixed point of z - grad phi(z), and a step of the report is an evaluation of phi with its gradient. A
/// stationary point that is no minimum can be met by chance: a start with zero gradient converges at once.
/// A point where phi is not finite is backed off from, unless it is the start. The answer of a sample is its
/// last accepted point, which has the smallest phi. Stagnated: no step reduces phi.
FixedPointSolution solve_minimum(const TrustRegion& solver, const MinimizationProblem& problem,
                                 const Tensor& z0, const StopOptions& options);

}  // namespace banach
