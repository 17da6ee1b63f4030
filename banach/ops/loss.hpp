#pragma once
// Losses, averaged over the batch to a scalar. f32 and f64.

#include <banach/engine/op.hpp>

namespace banach {

/// Mean of -log softmax(logits)[label] over the batch: logits (b,c), labels (b) of i64 in [0, c), b >= 1.
/// Throws ShapeError where these do not fit, DTypeError unless labels are i64, ValueError on a label outside.
Var cross_entropy(const Var& logits, const Var& labels);

/// Mean of (prediction - target)^2 over all elements; the shapes must be equal, and not empty.
Var mse(const Var& prediction, const Var& target);

/// Mean over all elements of d^2 / 2 where |d| <= delta, and delta (|d| - delta / 2) elsewhere, with d =
/// prediction
/// - target (Huber 1964). One shape, not empty. Throws ValueError unless delta > 0.
Var huber(const Var& prediction, const Var& target, double delta = 1.0);

/// Binary cross entropy of logits x and targets t in [0, 1], the mean over all elements of -t log sigmoid(x)
/// - (1 - t) log sigmoid(-x), without overflow. One shape, not empty.
Var bce_with_logits(const Var& logits, const Var& target);

/// Kullback-Leibler divergence of `target` p from exp(input) = q, both distributions along the last axes: the
/// sum of p (log p - input), divided by the extent of axis 0, as torch's kl_div with reduction "batchmean".
/// `input` holds logarithms; so does `target` if log_target is set. Terms with p = 0 are 0. One shape, not
/// empty.
Var kl_div(const Var& input, const Var& target, bool log_target = false);

}  // namespace banach
