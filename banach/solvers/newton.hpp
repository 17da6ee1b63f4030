#pragma once
// Newton's method on F(z) = z - f(z) = 0, with A = I - J its derivative, in three forms, each a value like
// Picard or Anderson. All go back from a point where f is not finite or ||F|| too large, so that a trial
// costs an evaluation and never a sample; all linear algebra is in f64. They need products with J: exact ones
// if the problem has `linearize`, else forward differences of f, each of which is an evaluation of f more.

#include <banach/solvers/fixed_point.hpp>

namespace banach {

/// z <- z + t d with A d = -F, the n x n matrix A made of n products with J and factorised by LU; where it is
/// singular to rounding, d is the least-squares solution of least norm. t is 1, or smaller by backtracking
/// (quadratic interpolation) until ||F|| falls by at least 1e-4 of what the slope at t = 0 promises (Dennis
/// and Schnabel 1983, section 6.3). If no t does, the sample ends as stagnated: near a minimum of ||F|| that
/// is no root.
struct Newton {
  bool line_search = true;  ///< without: only from points where f is not finite does it go back
  static constexpr std::string_view name = "newton";
  std::unique_ptr<Stepper> start(const FixedPointProblem& problem, std::int64_t batch, std::int64_t n,
                                 DType dtype) const;
};

/// Newton's method for large n: A d = -F is solved by GMRES until its residual is eta ||F||, with eta =
/// 0.9 (||F|| / previous ||F||)^2, safeguarded (Eisenstat and Walker 1996, choice 2), then a line search as
/// Newton's.
struct NewtonKrylov {
  int krylov = 40;       ///< largest dimension of the Krylov space; there is no restart
  double forcing = 0.5;  ///< the first eta; between 0 and 0.9
  static constexpr std::string_view name = "newton_krylov";
  std::unique_ptr<Stepper> start(const FixedPointProblem& problem, std::int64_t batch, std::int64_t n,
                                 DType dtype) const;
};

/// The step of Levenberg and Marquardt in a trust region: d minimises ||F + A d|| over ||D d|| <= radius
/// (Moré 1978), from the singular values of A D^-1, so that a singular A is no exception. D holds the largest
/// norms so far of the columns of A, or is the identity. The radius follows the ratio of the actual to the
/// predicted fall of ||F||^2. Where no step is predicted to gain, the sample ends as stagnated.
struct LevenbergMarquardt {
  /// Of the first region: relative to the larger of ||D z0|| and ||F(z0)||, or, without scaling, to ||z0||
  /// (to 1 where that is zero).
  double radius = 100.0;
  bool scaled = true;
  static constexpr std::string_view name = "levenberg_marquardt";
  std::unique_ptr<Stepper> start(const FixedPointProblem& problem, std::int64_t batch, std::int64_t n,
                                 DType dtype) const;
};

}  // namespace banach
