#pragma once
// Internal to ops/implicit: the forward pass of the Unrolled rule, and what it shares with the others.

#include <banach/ops/implicit/fixed_point.hpp>

namespace banach {

/// Picard's iteration with every step recorded on the current tape. The solver must be Picard.
FixedPoint solve_unrolled(FunctionRef<Var(const Var&)> f, const Var& z0, const FixedPointOptions& options);

StopOptions stop_options(const FixedPointOptions& options);
/// Throws ShapeError or DTypeError unless f(z) is like z.
void check_body(const Var& z, const Var& fz);

}  // namespace banach
