#pragma once

#include <banach/nn/dropout.hpp>
#include <banach/nn/sequence.hpp>
#include <banach/nn/weight_norm.hpp>

#include <vector>

namespace banach::nn {

struct TrellisCellOptions {
  std::int64_t input = 0;   ///< width of x
  std::int64_t hidden = 0;  ///< width of h
  /// How far back the convolutions of width 2 reach. The channels are shared out evenly; those of one share
  /// see all of h and x at their own distance and at 0. An equilibrium found in n steps sees no further back
  /// than n times the largest.
  std::vector<std::int64_t> dilations = {1};
  bool weight_norm = true;
  double dropout = 0.0;  ///< of what the convolutions see of h: one mask for all positions and steps
  DType dtype = DType::f32;
};

/// The trellis network as a cell: Bai, Kolter, Koltun 2019, "Trellis networks for sequence modeling", eq. 1
/// and section 4.2 (LSTM-like gates), whose equilibrium is that of "Deep equilibrium models", section 4.1.
/// State z = (h, c), width 2 hidden; x (batch, length, input). With lag(v)_t = v_{t - dilation}:
///     i, f, o, g = W_1 lag(h) + W_2 h + U_1 lag(x) + U_2 x + b
///     c+ = sigmoid(f) lag(c) + sigmoid(i) tanh(g),   h+ = sigmoid(o) tanh(c+)
/// The memory of the next segment has as many positions as the largest dilation: all that the cell sees, so
/// the equilibria of two segments are those of the whole.
class TrellisCell {
 public:
  /// Throws ValueError for widths and dilations below 1, or dilations whose number does not divide `hidden`.
  TrellisCell(const TrellisCellOptions& options, Random& random);

  /// Throws ShapeError unless x is (batch, length, input), of one position or more, and the memory fits it,
  /// DTypeError for another dtype than the parameters'.
  SequenceBody bind(const Var& x, const SegmentMemory& memory = {}) const;
  Var start(const Var& x) const;
  /// h (batch, length, hidden).
  Var output(const Var& z) const;
  SegmentMemory remember(const SegmentMemory& old, const Tensor& z, const Tensor& x) const;
  void visit(Visitor& visitor) { visitor("levels", levels_)("dropout", dropout_); }

 private:
  struct Level {
    std::int64_t dilation;
    WeightNormLinear recur;   ///< W_1, W_2: (4 channels, 2 hidden), gates i, f, o, g one after another
    WeightNormLinear inject;  ///< U_1, U_2 and b
    void visit(Visitor& visitor) { visitor("recur", recur)("inject", inject); }
  };
  std::int64_t input_, hidden_;
  std::vector<Level> levels_;
  Dropout dropout_;
};

}  // namespace banach::nn
