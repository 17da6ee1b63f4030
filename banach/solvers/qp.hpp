#pragma once
// Convex quadratic programs, many at a time:
//
//   min 1/2 z'Qz + p'z  subject to  Gz <= h,  Az = b
//
// Every problem of a batch is solved for itself: by a primal-dual interior point with proximal
// regularisation, whose solution is then made exact on its active set.

#include <banach/engine/tensor.hpp>

#include <memory>
#include <string>
#include <string_view>

namespace banach {

/// An h from here on never holds anything back.
inline constexpr double qp_infinity = 1e20;

enum class QpStatus : std::uint8_t {
  solved,             ///< all residuals within the tolerance, or within rounding of the terms they sum up
  max_steps,          ///< neither solved nor shown to have no solution
  primal_infeasible,  ///< no z satisfies the constraints; nu and lambda prove it
  dual_infeasible,    ///< the objective falls without end along z
  non_convex,         ///< Q has a negative eigenvalue
  non_finite,         ///< the data have a NaN, or an infinity elsewhere than in h
};
std::string_view name(QpStatus status);

/// The problems: Q (n,n), of which the symmetric part counts, p (n), G (m,n), h (m), A (e,n), b (e), all of
/// one floating dtype. Each may have a batch axis in front; what has none is shared by all problems. G and h,
/// or A and b, may be absent (undefined), and so may Q or p (zero). Entries of h may be infinite, and count
/// as that from qp_infinity on. In f32, where a semidefinite Q has negative eigenvalues by rounding, up to
/// 6e-8 n times its largest entry are added to the diagonal of a Q that has; residuals are then those of the
/// program so changed.
///
/// Each problem is solved in units of its own, so that another unit of all of z, of all rows or of the
/// objective changes nothing, as long as numbers stay between 1e-100 and 1e100, and h below 1e20. Rows and
/// variables may each be in another unit; those of the solve are then nearly the same (tested: rows within
/// 1e-8 to 1e8, variables within 1e-4 to 1e4; both at once for strictly convex programs, one of both for
/// boxes with a semidefinite Q and linear programs; of the others some are not solved). That there is no
/// lower bound is looked for in the units of the data, and may go unnamed where these lie far apart. In the
/// solve's units, what is smaller than 1e-8 counts as 0 where it is said what is active.
struct QpData {
  Tensor Q = {}, p = {}, G = {}, h = {}, A = {}, b = {};
};

class QpDerivative;

/// Active constraints to begin with, those with lambda > slack in an earlier solution of as many constraints;
/// all problems may share one. If the solution on them, or on a few others, is optimal, it is the answer,
/// after one factorisation each (counted in QpSampleReport::steps). But only where there is no other: where
/// no constraint is weakly active and the derivatives' system is regular; else the solve is one without a
/// start. So an answer does not depend on its start but for rounding. A NaN in a problem's part: it has none.
struct QpStart {
  Tensor lambda = {}, slack = {};
};

struct QpOptions {
  double tolerance = 1e-6;  ///< on what QpSampleReport::largest() says; the solver goes on to 1e-10 if it can
  int max_steps = 250;      ///< of the interior point, in each solve: see QpSampleReport::steps
  bool derivative = false;  ///< QpSolution::derivative is wanted
  QpStart start = {};
};

/// How one problem ended. Residuals and objective are those of the answer, in the units of the data; of a
/// problem that is infeasible, primal is the violation at z, and what means nothing is NaN, the objective
/// among it (of one without a lower bound: -infinity).
struct QpSampleReport {
  QpStatus status = QpStatus::max_steps;
  int steps = 0;           ///< of both solves, which may exceed max_steps, where constraints with a large h
                           ///< were left out of the first and taken in for a second
  double primal = 0.0;     ///< largest entry of |Az - b| and of |Gz + slack - h|
  double dual = 0.0;       ///< largest entry of |Qz + p + A'nu + G'lambda| and of the negative part of lambda
  double gap = 0.0;        ///< |z'Qz + p'z + b'nu + h'lambda|
  double objective = 0.0;  ///< 1/2 z'Qz + p'z
  double shift = 0.0;      ///< of h and b, by Infeasible::closest of qp_solve

  /// The largest of primal, dual and gap / max(1, |objective|).
  double largest() const;
};

struct QpReport {
  PoolVector<QpSampleReport> samples;

  bool solved() const;
  int count(QpStatus status) const;
  /// "128 problems: 126 solved, 2 primal_infeasible; largest residual of these solved 3.1e-12"
  std::string to_string() const;
};

/// Shapes with the batch axis if some part of the data has one. Of a problem that is primal_infeasible, nu
/// and lambda >= 0 are a certificate: A'nu + G'lambda = 0 and b'nu + h'lambda = -1, to rounding; z is a point
/// of least violation (in the norm 2, of constraints in units of their own where only that gives a
/// certificate). (Where some h is -infinity, lambda is 1 there and z is NaN.) Of one
/// that is dual_infeasible, z is: Qz = 0, Az = 0, Gz <= 0 and p'z = -1. Of the others that are not solved,
/// the values are the best found, or NaN for non_convex and non_finite.
struct QpSolution {
  Tensor z;       ///< (n)
  Tensor nu;      ///< (e), of Az = b
  Tensor lambda;  ///< (m), of Gz <= h
  Tensor slack;   ///< (m): h - Gz, exactly 0 where the constraint is active (but for rounding, if no active
                  ///< set fits)
  QpReport report;
  std::shared_ptr<const QpDerivative> derivative = {};  ///< if asked for
};

/// What a problem's derivative is at its solution.
struct QpRegularity {
  bool factored = false;  ///< there is one to speak of
  bool singular = false;  ///< the system is: active constraints depend on each other, or z is not unique
  int weak = 0;           ///< constraints with neither multiplier nor slack: taken for inactive
};

/// The symmetric system of the derivatives of all problems at their solutions,
///
///   [ Q   A'  G' ]
///   [ A   0   0  ]     where G stands for its active rows, those with a multiplier.
///   [ G   0   0  ]
///
/// A change of the data by dQ, dp, dG, dh, dA, db moves z, nu and lambda by its solution for the right-hand
/// side
/// -(dQ z + dp + dA'nu + dG'lambda, dA z - db, dG z - dh), and it is its own transpose.
class QpDerivative {
 public:
  class Parts;
  explicit QpDerivative(std::unique_ptr<Parts> parts);
  ~QpDerivative();

  struct Solution {
    Tensor z, nu, lambda;  ///< f64, (batch, n), (batch, e), (batch, m); 0 for inactive constraints
    /// Of each problem, relative: the largest entries, or lengths where singular.
    PoolVector<double> residual;
  };
  /// Where the system is singular: the least-squares solution of least norm. Safe to call from several
  /// threads only one after another.
  Solution solve(const Tensor& z, const Tensor& nu, const Tensor& lambda) const;
  /// (batch, m) in f64: 1 for active constraints, else 0.
  const Tensor& active() const;
  const PoolVector<QpRegularity>& problems() const;
  /// Of each problem: 1 where z is unique, at least nearby, else 0. One solve; QpRegularity::singular does
  /// not tell whether it is z that is not, or only multipliers.
  PoolVector<char> unique() const;

 private:
  std::unique_ptr<Parts> parts_;
};

/// Throws ShapeError, DTypeError, or ValueError for an option outside its domain. How a problem ends is data.
/// A problem's answer does not depend on its neighbours in the batch, but for rounding: a row of G counts as
/// a bound, which is summed up in another order, only where no problem has a second entry in it.
QpSolution solve_qp(const QpData& data, const QpOptions& options = {});

/// Of `count` problems; n variables, m inequalities, e equations.
struct QpSizes {
  std::int64_t count = 1, n = 0, m = 0, e = 0;
  bool batched = false;  ///< some part has a batch axis
  DType dtype = DType::f64;
};
/// Throws where parts do not fit together, as solve_qp does; errors name `who`.
QpSizes sizes(const QpData& data, std::string_view who = "qp_solve");

}  // namespace banach
