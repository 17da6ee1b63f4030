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

/// Rows of a table (n, ...) picked by indices of any shape: result[.., :] = table[index[..], :], of shape
/// index's + table's after its first axis. In the derivative the cotangents of a row picked several times
/// add up. Throws ShapeError naming the first index outside [0, n) and its position.
Var embedding(const Var& table, const Var& index);

/// 1 at its index and 0 elsewhere, along a new last axis of `classes` entries. A constant for every
/// derivative. Throws ShapeError naming the first index outside [0, classes) and its position.
Var one_hot(const Var& index, std::int64_t classes, DType dtype = DType::f32);

}  // namespace banach
