#pragma once
// Internal: one solve done in parts, each some consecutive samples of the batch.

#include <banach/solvers/linear.hpp>

namespace banach {

/// As if the parts had been solved at once. There must be at least one.
Tensor joined(std::span<const Tensor> parts);
FixedPointSolution joined(std::span<const FixedPointSolution> parts);
LinearSolution joined(std::span<const LinearSolution> parts);

}  // namespace banach
