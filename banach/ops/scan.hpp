#pragma once

#include <banach/engine/op.hpp>

namespace banach {

/// Sums of the first 1, 2, ... entries along one axis; reversed, of the last ones. Added up in double. f32
/// and f64; throws ShapeError on a bad axis.
Var cumsum(const Var& x, int axis, bool reverse = false);

}  // namespace banach
