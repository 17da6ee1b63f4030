#pragma once
// The smallest change of its right-hand sides that gives a quadratic program a feasible point.

#include <banach/ops/implicit/qp.hpp>

namespace banach {

/// s and r of Gz <= h + s, Az = b + r, in the shapes of lambda and nu of qp_solve.
struct QpShift {
  Var h, b;
  PoolVector<double> length;  ///< sqrt(|s|^2 + |r|^2) of each problem
  /// Not zero for each problem whose shift has no derivative: some inequality has neither a shift nor, at any
  /// point of least violation, room.
  PoolVector<char> kinked;
};

/// Of problems without a feasible point, the s and r of least norm that give them one,
///     min 1/2 |s|^2 + 1/2 |r|^2  subject to  Gz <= h + s, Az = b + r  over z, s, r
/// (Bambade, Schramm, Taylor, Carpentier 2024, "Leveraging augmented-Lagrangian techniques for
/// differentiating over infeasible quadratic programs in machine learning"); of the others, zeros, constant.
/// They are unique, and are the multipliers of their problem too. So they are the solution of its dual,
///     min 1/2 |s|^2 + 1/2 |r|^2 + h's + b'r  subject to  G's + A'r = 0, s >= 0,
/// the projection of -(h, b) onto the certificates of infeasibility, which qp_solve takes and differentiates,
/// to any order, in G, h, A and b. In f64. Entries of h that are -infinity, or qp_infinity or more, are not
/// shifted. Throws as qp_solve.
QpShift qp_shift(const QpParameters& parameters, const QpSolveOptions& options = {});

/// The same where it is known which of the problems are primal_infeasible.
QpShift qp_shift(const QpParameters& parameters, const QpReport& report, const QpSolveOptions& options = {});

}  // namespace banach
