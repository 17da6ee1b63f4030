#pragma once

#include <banach/ops/conv.hpp>

#include <optional>

namespace banach {

struct Pool2dOptions {
  Pair kernel = 2;
  std::optional<Pair> stride = {};  ///< as the kernel unless given
  Pair padding = 0;                 ///< positions on either side that never win; less than the kernel
};

/// Largest value of each window of x (n, c, h, w): (n, c, oh, ow) with oh = (h + 2 padding - kernel) / stride
/// + 1, rounded down. Where several are equal the first one, row by row, gets the gradient; a NaN wins.
/// Throws ShapeError if the kernel is larger than the padded image.
Var max_pool2d(const Var& x, const Pool2dOptions& options = {});

/// Where these values stand: positions in the flattened (h * w) image, i64 (n, c, oh, ow).
Var max_pool2d_indices(const Var& x, const Pool2dOptions& options = {});

}  // namespace banach
