#pragma once
// Internal to ops/implicit: solves whose body is recorded once and replayed, tile by tile where its
// operations treat samples one by one.

#include <banach/ops/implicit/node.hpp>

namespace banach {

/// Bytes that a solver keeps for each row of a state of shape (rows, n), roughly: what tiles are cut for.
std::int64_t solver_row_bytes(const Shape& state, DType dtype);

/// solve_body (node.hpp) with f replayed as node.body says. Whether f at the answer confirms it is left to
/// the caller.
FixedPointSolution solve_replayed(FunctionRef<Var(const Var&)> f, const Tensor& z0, const ImplicitNode& node);
/// Whether f at the answer, of the solution's shape, is what the solve took it for, to rounding.
bool confirms(const Tensor& value, const FixedPointSolution& solution);

}  // namespace banach
