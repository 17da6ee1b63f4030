#pragma once

#include <banach/nn/linear.hpp>
#include <banach/ops/conv.hpp>

namespace banach::nn {

struct ConvOptions {
  Pair stride = 1;
  Pair padding = 0;
  Pair dilation = 1;
  std::int64_t groups = 1;
  bool bias = true;
  DType dtype = DType::f32;

  Conv2dOptions geometry() const {
    return {.stride = stride, .padding = padding, .dilation = dilation, .groups = groups};
  }
};

/// Convolution (cross-correlation) of images: x (n,in,h,w) -> (n,out,oh,ow), see banach::conv2d. Weight and
/// bias start uniform on (-1, 1) / sqrt(fan in).
struct Conv2d {
  Parameter weight;               ///< (out, in / groups, kh, kw)
  std::optional<Parameter> bias;  ///< (out)
  Conv2dOptions geometry;

  /// Throws ValueError unless channels, kernel and groups are at least 1 and groups divides both channels.
  Conv2d(std::int64_t in, std::int64_t out, Pair kernel, Random& random, const ConvOptions& options = {});
  /// Throws ShapeError unless x is (n,in,h,w).
  Var operator()(const Var& x) const;
  void visit(Visitor& visitor) { visitor("weight", weight)("bias", bias); }
};

struct ConvTransposeOptions {
  Pair stride = 1;
  Pair padding = 0;
  Pair output_padding = 0;
  Pair dilation = 1;
  std::int64_t groups = 1;
  bool bias = true;
  DType dtype = DType::f32;

  ConvTranspose2dOptions geometry() const {
    return {.stride = stride,
            .padding = padding,
            .output_padding = output_padding,
            .dilation = dilation,
            .groups = groups};
  }
};

/// Transposed convolution of images: x (n,in,h,w) -> (n,out,oh,ow), see banach::conv_transpose2d. Weight and
/// bias start uniform on (-1, 1) / sqrt(out / groups kh kw).
struct ConvTranspose2d {
  Parameter weight;               ///< (in, out / groups, kh, kw)
  std::optional<Parameter> bias;  ///< (out)
  ConvTranspose2dOptions geometry;

  /// Throws ValueError unless channels, kernel and groups are at least 1 and groups divides both channels.
  ConvTranspose2d(std::int64_t in, std::int64_t out, Pair kernel, Random& random,
                  const ConvTransposeOptions& options = {});
  /// Throws ShapeError unless x is (n,in,h,w).
  Var operator()(const Var& x) const;
  void visit(Visitor& visitor) { visitor("weight", weight)("bias", bias); }
};

struct Conv1dLayerOptions {
  std::int64_t stride = 1;
  std::int64_t padding = 0;
  std::int64_t dilation = 1;
  std::int64_t groups = 1;
  bool causal = false;  ///< zeros in front only: no entry sees a later one
  bool bias = true;
  DType dtype = DType::f32;

  Conv1dOptions geometry() const {
    return {.stride = stride, .padding = padding, .dilation = dilation, .groups = groups, .causal = causal};
  }
};

/// Convolution of signals: x (n,in,l) -> (n,out,m), see banach::conv1d. Weight and bias start uniform on
/// (-1, 1) / sqrt(fan in).
struct Conv1d {
  Parameter weight;               ///< (out, in / groups, k)
  std::optional<Parameter> bias;  ///< (out)
  Conv1dOptions geometry;

  /// Throws ValueError unless channels, kernel and groups are at least 1 and groups divides both channels.
  Conv1d(std::int64_t in, std::int64_t out, std::int64_t kernel, Random& random,
         const Conv1dLayerOptions& options = {});
  /// Throws ShapeError unless x is (n,in,l).
  Var operator()(const Var& x) const;
  void visit(Visitor& visitor) { visitor("weight", weight)("bias", bias); }
};

/// conv2d with a bias (out), which may be left out.
Var conv2d_with_bias(const Var& x, const Var& weight, const Var& bias, const Conv2dOptions& geometry);

}  // namespace banach::nn
