#pragma once

#include <banach/engine/op.hpp>

namespace banach {

/// Two numbers for the two spatial axes, height first; one number stands for both.
struct Pair {
  std::int64_t h, w;
  Pair(std::int64_t both) : h(both), w(both) {}  // NOLINT: implicit on purpose, so that .stride = 2 reads
  Pair(std::int64_t height, std::int64_t width) : h(height), w(width) {}
  bool operator==(const Pair&) const = default;
};

struct Conv2dOptions {
  Pair stride = 1;
  Pair padding = 0;  ///< zeros on either side
  Pair dilation = 1;
  std::int64_t groups = 1;
};

/// Cross-correlation of x (n, c, h, w) with the filters w (o, c / groups, kh, kw): y (n, o, oh, ow) with
/// oh = (h + 2 padding - dilation (kh - 1) - 1) / stride + 1, rounded down. A bias is added by broadcasting.
/// Throws ShapeError if the channels do not fit or the filter is larger than the padded image.
Var conv2d(const Var& x, const Var& w, const Conv2dOptions& options = {});

/// Transpose of conv2d in x: y (n, o, oh, ow) and w give (n, c, input.h, input.w).
Var conv2d_input_grad(const Var& y, const Var& w, Pair input, const Conv2dOptions& options = {});

/// Transpose of conv2d in w: x (n, c, h, w) and y (n, o, oh, ow) give (o, c / groups, kernel.h, kernel.w).
Var conv2d_weight_grad(const Var& x, const Var& y, Pair kernel, const Conv2dOptions& options = {});

struct ConvTranspose2dOptions {
  Pair stride = 1;
  Pair padding = 0;         ///< rows and columns taken off either side of the result
  Pair output_padding = 0;  ///< rows and columns more at the far side, less than stride
  Pair dilation = 1;
  std::int64_t groups = 1;
};

/// Transposed convolution of x (n, c, h, w) with the filters w (c, o / groups, kh, kw): the transpose of
/// conv2d in its image, y (n, o, oh, ow) with
/// oh = (h - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1. output_padding tells which one
/// of the sizes that conv2d with this stride takes to h. Throws ShapeError if the channels do not fit or
/// nothing is left.
Var conv_transpose2d(const Var& x, const Var& w, const ConvTranspose2dOptions& options = {});

struct Conv1dOptions {
  std::int64_t stride = 1;
  std::int64_t padding = 0;  ///< zeros on either side
  std::int64_t dilation = 1;
  std::int64_t groups = 1;
  /// dilation (k - 1) zeros in front and none behind: entry i of the result sees nothing after stride * i.
  bool causal = false;
};

/// Cross-correlation of signals x (n, c, l) with the filters w (o, c / groups, k): y (n, o, m) with
/// m = (l + 2 padding - dilation (k - 1) - 1) / stride + 1, rounded down; causal, (l - 1) / stride + 1.
/// Throws ShapeError if the channels do not fit or the filter is larger than the padded signal.
Var conv1d(const Var& x, const Var& w, const Conv1dOptions& options = {});

}  // namespace banach
