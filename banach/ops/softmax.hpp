#pragma once
// The softmax family, computed with the maximum taken off first: no overflow. f32 and f64.

#include <banach/engine/op.hpp>

namespace banach {

/// log(sum(exp(x))) over axes (none given: all); -infinity over no elements. Where all entries are -infinity,
/// so is the result, and the derivative is 0.
Var logsumexp(const Var& x, const Axes& axes = {}, bool keep_dims = false);

/// exp(x) / sum(exp(x)) along one axis. An entry of -infinity gives 0; NaN where all are -infinity, or one is
/// infinity.
Var softmax(const Var& x, int axis = -1);

/// x - logsumexp(x) along one axis.
Var log_softmax(const Var& x, int axis = -1);

}  // namespace banach
