#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <apps/lm/model.hpp>
#include <banach/nn/text.hpp>

namespace banach::lm {

struct SampleSettings {
  std::int64_t tokens = 400;
  double temperature = 0.8;  ///< 0: the likeliest one always
  std::uint64_t seed = 0;
  bool warm = true;      ///< the equilibrium of the last position is the next one's start
  bool compare = false;  ///< solve each position from the other start, too, and count
};

/// What a sample has cost.
struct SampleCost {
  std::int64_t tokens = 0;
  double seconds = 0;            ///< the other start's solves not counted
  double evaluations = 0;        ///< a token
  std::int64_t unconverged = 0;  ///< tokens drawn from a state that did not meet the tolerance
  double other_evaluations = 0;  ///< from the other start, if that was asked for
};

using Tokens = std::vector<std::int64_t>;

/// Goes on with the prompt, and returns what it added. Each token is a window of its own, which sees the ones
/// before by the cell's memory, so that a position is solved once and never again. Throws ValueError if the
/// prompt is empty.
Tokens sample(LanguageModel& model, const nn::Depth& depth, const Tokens& prompt,
              const SampleSettings& settings, SampleCost& cost);

/// What to go on with where there is no prompt: the end of a line, or else the most frequent token.
Tokens line_end(const nn::Vocabulary& vocabulary);

/// What was added as text, with the blank that may part it from the prompt.
std::string text_behind(const nn::Vocabulary& vocabulary, const Tokens& prompt, const Tokens& added);

/// Draws an index from log p / temperature, the unknown token left out.
std::int64_t draw(std::span<const float> log_p, double temperature, Random& random);

}  // namespace banach::lm
