#pragma once

#include <apps/lm/model.hpp>
#include <apps/lm/results.hpp>

namespace banach::lm {

/// Time and memory of one training step of the model's cell on these tokens: forward, and backward from
/// random cotangents of its output, so that neither embedding nor output layer nor optimiser counts. The
/// median of `repeats` times.
Cost measure(LanguageModel& model, const Tensor& tokens, const nn::SegmentMemory& memory,
             const nn::Depth& depth, int repeats);

/// Costs of an equilibrium made to take so many steps, of so many layers, and of as many layers with every
/// 7th kept.
std::vector<CostCurve> measure_curves(LanguageModel& model, const Tensor& tokens,
                                      const nn::SegmentMemory& memory, const SolveSettings& solve,
                                      const std::vector<std::string>& depths);

}  // namespace banach::lm
