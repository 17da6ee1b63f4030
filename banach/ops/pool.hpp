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

struct AvgPool2dOptions {
  Pair kernel = 2;
  std::optional<Pair> stride = {};  ///< as the kernel unless given
  Pair padding = 0;                 ///< zeros on either side; less than the kernel
  bool count_padding = true;        ///< whether these zeros count in the mean
};

/// Mean of each window of x (n, c, h, w): (n, c, oh, ow), sizes as in max_pool2d. Throws ShapeError if the
/// kernel is larger than the padded image.
Var avg_pool2d(const Var& x, const AvgPool2dOptions& options = {});

/// Mean of each bin of x (n, c, h, w), cut into size.h x size.w bins: (n, c, size.h, size.w). Bin i of the
/// rows holds rows floor(i h / size.h) to ceil((i + 1) h / size.h), so bins overlap where size does not
/// divide h. Size 1 is the mean of each image (global pooling). Throws ValueError unless both sizes are at
/// least 1, ShapeError if the image has no pixels.
Var adaptive_avg_pool2d(const Var& x, Pair size = 1);

/// Largest value of each such bin; of several equal ones the first, row by row, gets the gradient, and a NaN
/// wins.
Var adaptive_max_pool2d(const Var& x, Pair size = 1);

/// Where these values stand: positions in the flattened (h * w) image, i64 (n, c, size.h, size.w).
Var adaptive_max_pool2d_indices(const Var& x, Pair size = 1);

}  // namespace banach
