#pragma once

#include <banach/nn/flow.hpp>

#include <cstdint>

namespace banach::nn {

/// Activation normalisation, y = (x + shift) exp(log_scale) with a shift and a scale for each channel: x
/// (n,channels) or (n,channels,h,w). log |det| = h w times the sum of log_scale. Kingma and Dhariwal 2018,
/// "Glow: generative flow with invertible 1x1 convolutions", section 3.1.
///
/// The first batch seen in training decides the start: each channel of y then has mean 0 and variance 1 (a
/// channel that does not vary, or only by rounding, keeps scale 1). Until then it is the identity. An empty
/// batch, or one that is not finite, starts nothing. The first forward thus writes to the parameters.
struct ActNorm {
  mutable Parameter shift, log_scale;  ///< (channels), 0 at first
  mutable Buffer started;              ///< i64: 1 once the data have decided
  Mode mode;

  /// Throws ValueError unless channels >= 1.
  explicit ActNorm(std::int64_t channels, DType dtype = DType::f32);
  /// Throws ShapeError for another rank or number of channels, DTypeError for another dtype than the
  /// parameters', ValueError for a first batch that varies so widely that its scale underflows.
  Transformed forward(const Var& x) const;
  Var inverse(const Var& y) const;
  void visit(Visitor& visitor) {
    visitor("shift", shift)("log_scale", log_scale)("started", started)("mode", mode);
  }

 private:
  void start_from(const Tensor& x) const;
};

}  // namespace banach::nn
