#pragma once

#include <banach/engine/op.hpp>

namespace banach {

/// x with another floating dtype; from i64 too. The derivative is cast back. Returns x itself if nothing
/// changes. Throws DTypeError for i64 as the target: rounding has no derivative (Tensor::to makes labels and
/// indices).
Var cast(const Var& x, DType dtype);

}  // namespace banach
