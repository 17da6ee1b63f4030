#pragma once
// Internal: one solve done in parts, each some consecutive samples of the batch.

#include <banach/solvers/linear.hpp>

namespace banach {

/// The parts, at least one, one below the other; of solutions, as if they had been solved at once.
Tensor joined(std::span<const Tensor> parts);
FixedPointSolution joined(std::span<const FixedPointSolution> parts);
LinearSolution joined(std::span<const LinearSolution> parts);

}  // namespace banach
