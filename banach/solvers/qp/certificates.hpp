#pragma once
// Internal: proofs that a problem has no solution, each by a further quadratic program.

#include <banach/solvers/qp/problems.hpp>

namespace banach::qp {

/// Where one problem's answer stands.
struct Answer {
  double *z, *nu, *lambda, *slack;
  QpSampleReport& report;
};

/// Whether multipliers prove that the constraints cannot all be met (Farkas); if so, they, and the z that
/// violates them least, replace the answer.
bool cannot_be_met(const Problems& given, std::int64_t i, int max_steps, const Answer& to);

/// Whether there is a direction of descent without end; if so, it replaces the answer's z.
bool has_no_end(const Problems& given, std::int64_t i, int max_steps, const Answer& to);

}  // namespace banach::qp
