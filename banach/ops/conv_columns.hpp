#pragma once
// Internal: convolutions from few channels to many or from many to few, such as an image's first and last, as
// products with the columns of the few; conv.cpp goes through it where it pays.

#include <banach/ops/conv_geometry.hpp>

namespace banach::columns {

/// Whether convolutions of such sizes, or their gradients, are computed here. The number of images does not
/// count, since a value's bits must not depend on it.
bool pays(const ConvGeometry& g);

// For T float and double.

/// conv2d (and a bias, unless null), and its transpose in the images. Weights must be finite: zeros meet them
/// in other places than padding does.
template <class T>
void convolve(const T* x, const T* w, const T* bias, T* y, const ConvGeometry& g);
template <class T>
void input_gradient(const T* y, const T* w, T* dx, const ConvGeometry& g);

/// The transpose in the filters; false if a sum is not finite: then others may not be what padding makes
/// them.
template <class T>
bool weight_gradient(const T* x, const T* y, T* dw, const ConvGeometry& g);

}  // namespace banach::columns
