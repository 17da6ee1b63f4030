#pragma once
// Internal: the sizes of a convolution, for the ways to compute it.

#include <banach/engine/simd.hpp>
#include <banach/ops/conv.hpp>

#include <cmath>

namespace banach {

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Of one number or more.
template <class T>
bool all_finite(const T* x, std::int64_t size) {
  const simd::Kernels<T>& kernels = simd::kernels<T>();
  return std::isfinite(kernels.max(x, size)) && std::isfinite(kernels.min(x, size));
}

/// All three operations are parts of one trilinear form in x (n, c, h, w), w (o, c / groups, kh, kw) and
/// y (n, o, oh, ow): <conv2d(x, w), y> = <x, input_grad(y, w)> = <w, weight_grad(x, y)>. So each one's
/// derivatives are the other two.
struct ConvGeometry {
  std::int64_t images, channels, outputs;
  Pair input, kernel, output, stride, padding, dilation;
  std::int64_t groups;

  std::int64_t group_channels() const { return channels / groups; }
  std::int64_t group_outputs() const { return outputs / groups; }
  std::int64_t taps() const { return group_channels() * kernel.h * kernel.w; }  // inputs of one output value
  std::int64_t pixels() const { return output.h * output.w; }
  Shape x() const { return {images, channels, input.h, input.w}; }
  Shape w() const { return {outputs, group_channels(), kernel.h, kernel.w}; }
  Shape y() const { return {images, outputs, output.h, output.w}; }
};

}  // namespace banach
