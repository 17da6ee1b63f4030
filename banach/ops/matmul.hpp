#pragma once

#include <banach/engine/op.hpp>

namespace banach {

struct MatmulOptions {
  bool transpose_a = false;  ///< a holds (..., k, m)
  bool transpose_b = false;  ///< b holds (..., n, k)
};

/// Matrix product (..., m, k) x (..., k, n) -> (..., m, n); leading axes broadcast. f32 and f64. k = 0 gives
/// zeros. Throws ShapeError if the inner dimensions or the leading axes do not fit, or on a rank below 2.
Var matmul(const Var& a, const Var& b, const MatmulOptions& options = {});

/// matmul(a, b) + c in one pass, for c of the product's shape or of its last axis, (n); for any other c that
/// broadcasts, in two.
Var matmul_add(const Var& a, const Var& b, const Var& c, const MatmulOptions& options = {});

}  // namespace banach
