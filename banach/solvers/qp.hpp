#pragma once
// Convex quadratic programs, many at a time:
//
//   min 1/2 z'Qz + p'z  subject to  Gz <= h,  Az = b
//
// Every problem of a batch is solved for itself: by a primal-dual interior point with proximal
// regularisation, whose solution is then made exact on its active set.

#include <banach/engine/tensor.hpp>

#include <string>
#include <string_view>

namespace banach {

enum class QpStatus : std::uint8_t {
  solved,             ///< all three residuals within the tolerance
  max_steps,          ///< neither solved nor shown to have no solution
  primal_infeasible,  ///< no z satisfies the constraints; nu and lambda prove it
  dual_infeasible,    ///< the objective falls without end along z
  non_convex,         ///< Q has a negative eigenvalue
  non_finite,         ///< the data have a NaN, or an infinity elsewhere than in h
};
std::string_view name(QpStatus status);

/// The problems: Q (n,n), of which the symmetric part counts, p (n), G (m,n), h (m), A (e,n), b (e), all of
/// one floating dtype. Each may have a batch axis in front; what has none is shared by all problems. G and h,
/// or A and b, may be absent (undefined), and so may Q or p (zero). Entries of h may be infinite.
struct QpData {
  Tensor Q = {}, p = {}, G = {}, h = {}, A = {}, b = {};
};

struct QpOptions {
  double tolerance = 1e-6;  ///< on what QpReport::largest() says; the solver goes on to 1e-10 if it can
  int max_steps = 250;      ///< steps of the interior point
};

/// How one problem ended. Residuals are those of the answer, in the units of the data.
struct QpReport {
  QpStatus status = QpStatus::max_steps;
  int steps = 0;
  double primal = 0.0;     ///< largest entry of |Az - b| and of the positive part of Gz - h
  double dual = 0.0;       ///< largest entry of |Qz + p + A'nu + G'lambda| and of the negative part of lambda
  double gap = 0.0;        ///< |z'Qz + p'z + b'nu + h'lambda|
  double objective = 0.0;  ///< 1/2 z'Qz + p'z

  /// The largest of primal, dual and gap / max(1, |objective|).
  double largest() const;
};

/// Shapes with the batch axis if some part of the data has one. Of a problem that is primal_infeasible, nu
/// and lambda >= 0 are a certificate: A'nu + G'lambda = 0 and b'nu + h'lambda = -1, to rounding; z is a point
/// of least violation (in the norm 2). Of one that is dual_infeasible, z is: Qz = 0, Az = 0, Gz <= 0 and p'z
/// = -1. Of the others that are not solved, the values are the best found, or NaN for non_convex and
/// non_finite.
struct QpSolution {
  Tensor z;       ///< (n)
  Tensor nu;      ///< (e), of Az = b
  Tensor lambda;  ///< (m), of Gz <= h
  Tensor slack;   ///< (m): h - Gz, exactly 0 where the constraint is active
  PoolVector<QpReport> problems;

  bool solved() const;
  int count(QpStatus status) const;
  /// "128 problems: 126 solved, 2 primal_infeasible; largest residual 3.1e-12"
  std::string to_string() const;
};

/// Throws ShapeError, DTypeError, or ValueError for an option outside its domain. How a problem ends is data.
QpSolution solve_qp(const QpData& data, const QpOptions& options = {});

}  // namespace banach
