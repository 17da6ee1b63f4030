#pragma once
// Losses, averaged over the batch to a scalar. f32 and f64.

#include <banach/engine/op.hpp>

namespace banach {

/// Mean of -log softmax(logits)[label] over the batch: logits (b,c), labels (b) of i64 in [0, c), b >= 1.
/// Throws ShapeError where these do not fit, DTypeError unless labels are i64, ValueError on a label outside.
Var cross_entropy(const Var& logits, const Var& labels);

/// Mean of (prediction - target)^2 over all elements; the shapes must be equal, and not empty.
Var mse(const Var& prediction, const Var& target);

}  // namespace banach
