#pragma once
// Internal: when a linear system counts as solved.

#include <algorithm>
#include <cmath>

namespace banach {

/// ||r|| <= tolerance ||b||; or r = M x + b - x at rounding level, 2 epsilon ||M x + b||, while still small
/// against b (which rounding can no longer promise where I - M is nearly singular).
inline bool solved(double residual, double image_norm, double b_norm, double tolerance, double epsilon) {
  return residual <= tolerance * b_norm ||
         residual <= std::min(2.0 * epsilon * image_norm, std::sqrt(epsilon) * b_norm);
}

}  // namespace banach
