#pragma once

#include <cstdint>

#include <apps/lm/settings.hpp>
#include <banach/nn/adaptive_softmax.hpp>
#include <banach/nn/dropout.hpp>
#include <banach/nn/norm.hpp>
#include <banach/nn/sequence.hpp>

namespace banach::lm {

/// Embedding, a cell run to its equilibrium or some layers deep, layer norm, softmax.
class LanguageModel {
 public:
  LanguageModel(const Architecture& architecture, std::int64_t vocabulary, std::uint64_t seed);

  /// One window: what its cell computes, and all that is needed to go on.
  struct Reading {
    nn::SequenceBody body;
    nn::SegmentMemory memory;  ///< for the next window
    ImplicitSolution solution;
    Var features;  ///< (batch * length, d)
  };

  /// The cell's input (batch, length, d) for tokens i64 (batch, length).
  Var embed(const Tensor& tokens) const;
  /// `start` in place of the cell's own z0, where given.
  Reading read(const Var& x, const nn::SegmentMemory& memory, const nn::Depth& depth,
               const Var& start = {}) const;
  /// Features of any state of the cell.
  Var features(const Var& z) const;

  /// Mean of -log p(target), in nats; targets as the tokens.
  Var loss(const Var& features, const Tensor& targets) const;
  Var log_probabilities(const Var& features) const;

  const nn::AnyCell& cell() const { return cell_; }
  /// Parameters of the cell alone.
  nn::ParameterList cell_parameters() { return nn::parameters(cell_); }
  void visit(nn::Visitor& visitor);

 private:
  Var table() const { return tied_ ? embedding_.var() : Var(); }

  Random random_;
  bool tied_;
  double scale_;  // of the embedding
  nn::Parameter embedding_;
  nn::AnyCell cell_;
  nn::LayerNorm norm_;
  nn::Dropout dropout_;
  nn::AdaptiveSoftmax softmax_;
};

}  // namespace banach::lm
