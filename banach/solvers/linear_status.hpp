#pragma once
// Internal: when a linear system counts as solved.

#include <algorithm>
#include <cmath>

namespace banach {

/// r = M x + b - x is at rounding level, ||r|| <= times epsilon `size`, size being (||M|| + 1) ||x|| + ||b||:
/// x then solves exactly a system within rounding of the given one (Rigal and Gaches 1967), in whatever
/// units. But only while r is still small against b, which rounding can no longer promise where I - M is
/// nearly singular.
inline bool is_rounding(double residual, double size, double b_norm, double epsilon, double times) {
  return residual <= std::min(times * epsilon * size, std::sqrt(epsilon) * b_norm);
}

}  // namespace banach
