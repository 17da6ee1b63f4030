#pragma once
// Upper bounds of largest singular values that hold for certain and cost a few products, where power
// iteration only tells that a value is not smaller. In f64 whatever the weight's dtype; NaN for weights that
// are not finite.

#include <banach/ops/conv.hpp>

namespace banach::nn {

/// Upper bound of the largest singular value of W (m,n): ||(W^T W)^(2^k)||_F^(1 / 2^(k+1)) for rising k,
/// which falls towards it, being at most r^(1 / 2^(k+2)) times as large for rank r. Ends where a step gains
/// less than 1e-6. Delattre, Barthelemy, Araujo and Allauzen 2023, "Efficient bound of Lipschitz constant for
/// convolutional layers by Gram iteration", theorem 1 and algorithm 1.
double singular_bound(const Tensor& w);

/// Upper bound of the largest singular value of conv2d with w (out, in / groups, kh, kw) on images of this
/// size. Where an image, or what conv2d makes of it, has at most `most_dense` entries, by Gram iteration of
/// the map itself: as close as that of a matrix, for some 20 products of matrices of that size. Else the
/// image is set into zeros so wide that a periodic convolution agrees with ours, of which the map is then a
/// part, and a periodic one is a matrix for each frequency: Sedghi, Gupta and Long 2019, "The singular values
/// of convolutional layers", theorem 6. A stride s makes a channel of each of the s^2 grids of pixels that it
/// visits. Bounded at each frequency as above. What the padding's zeros take away at the borders it does not
/// see, so it exceeds the true value, by little for kernels that are small beside the image.
double conv_singular_bound(const Tensor& w, Pair image, const Conv2dOptions& geometry,
                           std::int64_t most_dense = 128);

}  // namespace banach::nn
