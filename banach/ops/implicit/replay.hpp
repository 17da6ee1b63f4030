#pragma once
// Internal to ops/implicit: solves whose body is recorded once and replayed, tile by tile where its
// operations treat samples one by one.

#include <banach/ops/implicit/node.hpp>

namespace banach {

/// Bytes that a solver keeps for each row of a state of shape (rows, n), roughly: what tiles are cut for.
std::int64_t solver_row_bytes(const Shape& state, DType dtype);

/// Who evaluates f last before a replayed solve ends.
enum class LastStep : std::uint8_t {
  replay,  ///< the replay; f is evaluated at the answer alone, once
  f,  ///< f itself, where the end is foreseen: at the answer, and where it was foreseen wrongly before it
};

/// solve_body (node.hpp) with f replayed as node.body says. f itself, which `evaluate` is to give at a state
/// of (problems, elements each), has the last word, at the answer: it confirms what the replay has found, to
/// rounding; nothing where it does not. With LastStep::f, where tiles that are solved by Picard expect their
/// next evaluation to be the last one, f makes it, and its own residual decides for the samples that were
/// left.
std::optional<FixedPointSolution> solve_replayed(FunctionRef<Var(const Var&)> f, const Tensor& z0,
                                                 const ImplicitNode& node, LastStep last,
                                                 FunctionRef<Tensor(const Tensor& z)> evaluate);

}  // namespace banach
