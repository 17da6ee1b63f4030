#pragma once
// Internal: conv2d whose sums get their bias where they are written; nn::conv2d_with_bias is its public name.

#include <banach/ops/conv.hpp>

namespace banach {

/// conv2d(x, w) + bias, one number for each filter: shape (o).
Var conv2d(const Var& x, const Var& w, const Var& bias, const Conv2dOptions& options);

}  // namespace banach
