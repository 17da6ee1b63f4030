#pragma once

#include <banach/ops/conv.hpp>

namespace banach {

/// Each pixel of x (n, c, h, w) as a block of factor.h x factor.w equal ones: (n, c, h factor.h, w factor.w).
/// Throws ValueError unless both factors are at least 1.
Var upsample_nearest(const Var& x, Pair factor);

/// x (n, c, h, w) on a grid of `size` pixels, interpolated linearly between the four nearest ones: (n, c,
/// size.h, size.w). Both images cover the same area (align_corners = false elsewhere): the centre of row i
/// lies at (i + 1/2) h / size.h - 1/2 in rows of x, and beyond the outermost centres values stay constant. A
/// pixel of weight 0 is not looked at. There is no smoothing before a reduction. Throws ValueError unless
/// both sizes are at least 1, ShapeError if the image has no pixels.
Var upsample_bilinear(const Var& x, Pair size);

}  // namespace banach
