#pragma once

#include <apps/lm/model.hpp>
#include <apps/lm/results.hpp>
#include <banach/nn/text.hpp>

namespace banach::lm {

/// The mean of -log p over a part of the text, read in `batch` rows and windows of `length`, with the memory
/// of earlier windows; at most `windows` of them, 0: all. The model is in evaluation mode meanwhile.
Score evaluate(LanguageModel& model, const nn::TextPart& part, std::int64_t batch, std::int64_t length,
               const nn::Depth& depth, std::int64_t windows = 0);

/// Evaluations of the cell that a sample took, in the mean.
double mean_evaluations(const SolveReport& report);

}  // namespace banach::lm
