#pragma once

#include <banach/engine/op.hpp>

namespace banach {

/// Entries of x picked along one axis: result[.., j, ..] = x[.., index[.., j, ..], ..]. `index` is i64 of x's
/// rank; its other extents are x's, or all 1 (the same index everywhere). The result has x's shape but
/// index's extent along `axis`. Throws ShapeError where extents do not agree or an index lies outside [0,
/// extent).
Var gather(const Var& x, int axis, const Var& index);

/// Transpose of gather: zeros of `shape`, with source[.., j, ..] added at [.., index[.., j, ..], ..]. Entries
/// that meet are added in the order of j.
Var scatter_add(const Shape& shape, int axis, const Var& index, const Var& source);

/// Whole slices picked along one axis by a list of indices (j): embeddings, minibatches.
Var take(const Var& x, int axis, const Var& index);

}  // namespace banach
