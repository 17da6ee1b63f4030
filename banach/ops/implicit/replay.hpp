#pragma once
// Internal to ops/implicit: solves whose body is recorded once and replayed, tile by tile where its
// operations treat samples one by one.

#include <banach/ops/implicit/node.hpp>

namespace banach {

/// solve_body (node.hpp) with f replayed as node.body says. An answer that f itself, called there, does not
/// confirm is thrown away, and the solve done with f.
FixedPointSolution solve_replayed(FunctionRef<Var(const Var&)> f, const Tensor& z0, const ImplicitNode& node);

}  // namespace banach
