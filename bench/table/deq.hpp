#pragma once
// One training step of an equilibrium layer, as lines of the table.

#include <bench/table/floors.hpp>
#include <bench/table/problems.hpp>
#include <bench/table/table.hpp>

#include <banach/ops/implicit/fixed_point.hpp>

namespace bench {

/// As a user would choose them: the body replayed, the adjoint equation by the same solver.
struct ExactOptions {
  double tolerance, adjoint_tolerance = tolerance;
  int max_steps = 100;
};
banach::FixedPointOptions exact(const banach::Solver& solver, const ExactOptions& options);

/// Forward solve, and the gradient of the solution's sum in W and u.
Work deq_step(const Equation& equation, const banach::FixedPointOptions& options);
/// The forward solve alone.
Work deq_solve(const Equation& equation, const banach::FixedPointOptions& options);

/// The product of one evaluation.
inline Make product_floor(std::int64_t batch, std::int64_t d) { return gemm_floor({{batch, d, d}}); }
/// Of a whole step: besides what the counts tell (one vjp is the one that pulls lambda back), f is recorded
/// once, and lambda is multiplied into the gradient of W.
inline double step_products(const Counts& c) { return c.f + c.vjp + 2.0; }

}  // namespace bench
