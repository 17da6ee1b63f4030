#pragma once
// The softmax family, computed with the maximum taken off first: no overflow. f32 and f64.

#include <banach/engine/op.hpp>

namespace banach {

/// log(sum(exp(x))) over axes (none given: all); -infinity over no elements.
Var logsumexp(const Var& x, const Axes& axes = {}, bool keep_dims = false);

/// exp(x) / sum(exp(x)) along one axis.
Var softmax(const Var& x, int axis = -1);

/// x - logsumexp(x) along one axis.
Var log_softmax(const Var& x, int axis = -1);

}  // namespace banach
