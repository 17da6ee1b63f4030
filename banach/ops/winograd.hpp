#pragma once
// Internal: 3x3 convolutions of single precision with a fourth of the multiplications, by Winograd's minimal
// filtering; conv.cpp goes through it where it pays.

#include <banach/engine/memory.hpp>
#include <banach/ops/conv_geometry.hpp>

namespace banach::winograd {

/// Whether convolutions of such sizes, or their gradients, are computed here. The number of images does not
/// count, since a value's bits must not depend on it.
bool pays(const ConvGeometry& g);

/// The images whose sums were not finite: an infinity or NaN there spreads over a tile, and sums overflow
/// earlier, so they have to be computed directly.
using Images = PoolVector<std::int64_t>;

/// conv2d (and a bias, unless null), and its transpose in the images.
Images convolve(const float* x, const float* w, const float* bias, float* y, const ConvGeometry& g);
Images input_gradient(const float* y, const float* w, float* dx, const ConvGeometry& g);

/// The transpose in the filters; false if a sum was not finite, and all must be computed directly.
bool weight_gradient(const float* x, const float* y, float* dw, const ConvGeometry& g);

}  // namespace banach::winograd
