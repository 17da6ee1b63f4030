#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <apps/lm/model.hpp>
#include <banach/nn/text.hpp>

namespace banach::lm {

struct SampleSettings {
  std::string prompt = "Call me ";
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
  double other_evaluations = 0;  ///< from the other start, if that was asked for
};

/// Goes on with the prompt, and returns what it added. Each token is a window of its own, which sees the ones
/// before by the cell's memory, so that a position is solved once and never again. Throws ValueError if the
/// prompt is empty, or no character or word of it is known.
std::string sample(LanguageModel& model, const nn::Vocabulary& vocabulary, const nn::Depth& depth,
                   const SampleSettings& settings, SampleCost& cost);

/// Draws an index from log p / temperature, the unknown token left out.
std::int64_t draw(std::span<const float> log_p, double temperature, Random& random);

}  // namespace banach::lm
