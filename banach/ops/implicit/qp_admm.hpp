#pragma once
// Quadratic programs by the alternating direction method of multipliers, as a fixed point: for truncated
// gradients. To solve quadratic programs, qp_solve is faster, exact, and tells what has no solution.

#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/qp.hpp>

namespace banach {

struct QpAdmmOptions {
  double rho = 1.0;         ///< weight of inequalities; equations have 1000 times as much
  double sigma = 1e-6;      ///< proximal weight
  double relaxation = 1.6;  ///< alpha, in (0, 2)
  /// Solver, stopping rule and backward rule. Problems are always separate: `batch` is not looked at. The
  /// tolerance is one for f64, which f32 cannot meet: there ask for 1e-5 or so, or all max_steps are taken.
  FixedPointOptions fixed_point = {
      .solver = Picard{}, .backward = Implicit{Dense{}}, .tolerance = 1e-9, .max_steps = 10000};
};

/// Shapes as QpSolved's.
struct QpAdmm {
  Var z, nu, lambda, slack;
  SolveReport report;  ///< of the fixed point: nothing is said about problems without a solution
  AdjointLog adjoint;
};

/// min 1/2 z'Qz + p'z subject to Gz <= h, Az = b as the fixed point of the steps of OSQP (Stellato, Banjac,
/// Goulart, Bemporad, Boyd 2020, "OSQP: an operator splitting solver for quadratic programs", algorithm 1).
/// With C = [G; A], R the diagonal of the weights, and w = P(v), which is min(v, h) for inequalities and b
/// for equations,
///     z~ = (Q + sigma + C'RC)^-1 (sigma z - p + C'R (2w - v)),
///     z <- z + alpha (z~ - z),   v <- v + alpha (C z~ - w),
/// from zero; at a fixed point the multipliers are R (v - w), and the slack is h - w. (v is OSQP's z + y /
/// rho: one state in place of two.) The matrix is inverted once, before the steps, and differentiated with
/// them.
///
/// One `fixed_point` node: Implicit gives qp_solve's gradient, JacobianFree the derivative of one step at the
/// solution, Neumann and Phantom of so many terms, Unrolled and TruncatedUnroll of the last steps before the
/// answer (all of k steps from the start: max_steps = k + 1 with a tolerance that is not met before). The
/// weights suit problems of entries near 1: nothing is scaled.
/// Throws what solve_qp and fixed_point throw.
QpAdmm qp_admm(const QpParameters& parameters, const QpAdmmOptions& options = {});

}  // namespace banach
