#pragma once
// Euclidean projections onto sets, argmin over z in the set of |z - x|, as functions that can be
// differentiated. Those are quadratic programs, or nearly, whose solutions have closed forms: taken in these
// forms they cost a sort at most, work in f32, inside the body of a fixed point and for derivatives of any
// order, and agree with qp_solve in value and derivative. Where a point lies on a kink (where a constraint
// has neither multiplier nor slack) the derivative is one of the one-sided ones, as said at each. All are
// Lipschitz with constant 1 in x. A NaN makes its row NaN (in a
// box, its place). Sizes that round to 0 or infinity in the dtype of x are refused.

#include <banach/engine/var.hpp>

namespace banach::nn {

/// Each row x (..., n) onto { z >= 0, sum z = total }, by sorting: Held, Wolfe and Crowder 1974, "Validation
/// of subgradient optimization"; Duchi et al. 2008, "Efficient projections onto the l1-ball", figure 1.
/// Entries of -infinity give 0, with derivative 0 (rows of them NaN); a +infinity makes its row NaN. On a
/// kink: as where the entry is 0. Throws ShapeError for rows without entries, ValueError unless total is
/// positive.
Var project_simplex(const Var& x, double total = 1.0);

/// Each row x (..., n) onto { |z|_1 <= radius }: Duchi et al. 2008, section 4. On its boundary: as inside.
/// Throws ShapeError for rows without entries, ValueError unless the radius is positive.
Var project_l1_ball(const Var& x, double radius = 1.0);

/// Each row x (..., n) onto { |z|_2 <= radius }: x min(1, radius / |x|). On its boundary: as inside. Throws
/// ShapeError for a scalar, ValueError unless the radius is positive.
Var project_ball(const Var& x, double radius = 1.0);

/// x onto { lower <= z <= upper }, entry by entry; the bounds broadcast, may be infinite, and have
/// derivatives too. On a bound: as inside. Throws ShapeError where shapes do not broadcast, ValueError unless
/// lower <= upper everywhere.
Var project_box(const Var& x, const Var& lower, const Var& upper);
Var project_box(const Var& x, double lower, double upper);

}  // namespace banach::nn
