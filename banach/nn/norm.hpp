#pragma once

#include <banach/nn/module.hpp>

#include <cstdint>
#include <optional>

namespace banach::nn {

struct LayerNormOptions {
  double eps = 1e-5;
  bool affine = true;  ///< with a trained weight and bias
  DType dtype = DType::f32;
};

/// (x - mean) / sqrt(variance + eps) along the last axis, times weight, plus bias: x (..., features) -> the
/// same shape. Ba, Kiros and Hinton 2016, "Layer normalization". It looks at each sample alone, so it may
/// stand inside a fixed point solved sample by sample.
struct LayerNorm {
  std::optional<Parameter> weight, bias;  ///< (features), 1 and 0 at first
  std::int64_t features;
  double eps;

  explicit LayerNorm(std::int64_t features, const LayerNormOptions& options = {});
  Var operator()(const Var& x) const;
  void visit(Visitor& visitor) { visitor("weight", weight)("bias", bias); }
};

struct GroupNormOptions {
  double eps = 1e-5;
  bool affine = true;
  DType dtype = DType::f32;
};

/// Normalised over the channels of each group and all later axes, times weight, plus bias: x (n,channels,...)
/// -> the same shape; see banach::group_norm. It looks at each sample alone, so it may stand inside a fixed
/// point solved sample by sample.
struct GroupNorm {
  std::optional<Parameter> weight, bias;  ///< (channels), 1 and 0 at first
  std::int64_t groups;
  double eps;

  /// Throws ValueError unless groups divides channels.
  GroupNorm(std::int64_t groups, std::int64_t channels, const GroupNormOptions& options = {});
  /// Throws ShapeError unless groups divides x's channels and weight and bias fit them.
  Var operator()(const Var& x) const;
  void visit(Visitor& visitor) { visitor("weight", weight)("bias", bias); }
};

struct BatchNormOptions {
  double eps = 1e-5;
  double momentum = 0.1;  ///< weight of the newest batch in the running statistics
  bool affine = true;
  DType dtype = DType::f32;
};

/// (x - mean) / sqrt(variance + eps) for each channel, times weight, plus bias: x (n,channels) or
/// (n,channels,h,w) -> the same shape. Ioffe and Szegedy 2015, "Batch normalization", algorithm 1. In
/// training the statistics are the batch's, with the population variance; in evaluation the running ones,
/// which hold the unbiased variance.
///
/// The running statistics move when an evaluation in training is *recorded* (on a tape, outside NoGrad), and
/// not if the batch's are not finite. So inside a fixed point they move once a solve, with the statistics at
/// the solution, and not at every step (with Unrolled, which records every step, at every one). In training
/// this layer couples the samples of a batch: a fixed point with it inside needs Batch::none.
struct BatchNorm {
  std::optional<Parameter> weight, bias;          ///< (channels), 1 and 0 at first
  mutable Buffer running_mean, running_variance;  ///< (channels), 0 and 1 at first
  Mode mode;
  double eps, momentum;

  explicit BatchNorm(std::int64_t channels, const BatchNormOptions& options = {});
  /// Throws ShapeError for another rank or number of channels, or if a channel has but one value in training.
  Var operator()(const Var& x) const;
  void visit(Visitor& visitor) {
    visitor("weight", weight)("bias", bias)("mode", mode);
    visitor("running_mean", running_mean)("running_variance", running_variance);
  }

 private:
  void check(const Shape& x) const;
  void move_running(const Tensor& mean, const Tensor& variance, std::int64_t count) const;
};

}  // namespace banach::nn
