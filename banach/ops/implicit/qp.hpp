#pragma once
// A batch of quadratic programs as one node of the tape (Amos and Kolter 2017, "OptNet").

#include <banach/engine/status.hpp>
#include <banach/engine/var.hpp>
#include <banach/solvers/qp.hpp>

namespace banach {

/// min 1/2 z'Qz + p'z subject to Gz <= h, Az = b: shapes and defaults as in QpData.
struct QpParameters {
  Var Q = {}, p = {}, G = {}, h = {}, A = {}, b = {};
};

/// What to do about problems without a feasible point.
enum class Infeasible : std::uint8_t {
  report,   ///< say so, with a certificate
  closest,  ///< solve the closest feasible problem
};

struct QpSolveOptions {
  double tolerance = 1e-6;  ///< see QpOptions
  int max_steps = 250;
  Policy policy = Policy::report;  ///< about problems not solved, and gradients that do not exist
  Infeasible infeasible = Infeasible::report;
  QpStart start = {};  ///< an earlier solution's active constraints: lambda.value() and slack.value()
};

/// z (batch, n), nu (batch, e), lambda (batch, m) and slack (batch, m), all differentiable; without the batch
/// axis if no parameter has one. See QpSolution for problems that are not solved.
struct QpSolved {
  Var z, nu, lambda, slack;
  QpReport report;
  AdjointLog adjoint;
};

/// Solves the problems as one node. The gradient of every parameter takes one solve with the symmetric system
/// of derivatives (QpDerivative; Amos and Kolter 2017, equations 6 to 8), which is itself an operation, so
/// derivatives of any order are the true ones; that of Q is symmetric; parameters shared by the batch get the
/// sum. Where an active constraint depends on others, the solution of least norm is taken (`least_squares`);
/// where a constraint has neither multiplier nor slack, it is taken for inactive, which gives one element of
/// the generalised Jacobian (`non_differentiable`). Where z, or a multiplier that the cotangent asks for, is
/// not unique, there is no derivative (`non_differentiable`, with the adjoint residual that a least-squares
/// solution leaves). Of problems without a solution the values are constants: `approximate`, with cotangents
/// zero; as forward status these have singular (primal_infeasible), diverged (dual_infeasible), indefinite
/// (non_convex), non_finite or max_steps. Throws ShapeError, DTypeError, ValueError; SolveError under
/// Policy::raise.
///
/// Under Infeasible::closest, a problem that is primal_infeasible gives way to
///     min 1/2 z'Qz + p'z subject to Gz <= h + s, Az = b + r,
/// with the s and r of least norm that leave it a feasible point (qp_shift.hpp; QPLayer's definition). The
/// four outputs and the report are those of this problem, QpSampleReport::shift is the length of (s, r), and
/// s and r are differentiated with the rest. No point is strictly inside, so the multipliers are not unique:
/// the gradient of z and slack is that of the solution along changes that leave the rank of the active
/// constraints alone, the one of nu and lambda a least-squares solution (`least_squares`); where s itself has
/// no derivative (QpShift::kinked) it is `non_differentiable`. Other problems of the batch are solved as
/// ever, to the same bits. Where one is infeasible, it costs two further solves of the batch.
QpSolved qp_solve(const QpParameters& parameters, const QpSolveOptions& options = {});

}  // namespace banach
