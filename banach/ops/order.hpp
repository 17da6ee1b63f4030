#pragma once
// Operations that compare the elements along one axis: f32 and f64. NaN counts as larger than everything;
// among equals (0 and -0 are) the first comes first. Indices are i64. They throw ShapeError on a bad axis.

#include <banach/engine/op.hpp>

#include <optional>

namespace banach {

struct Ordered {
  Var values, indices;  ///< values = gather(x, axis, indices); the derivative follows the values
};

/// All entries in rising order (NaN last), or in falling order (NaN first). Stable.
Ordered sort(const Var& x, int axis = -1, bool descending = false);

/// The k largest entries in falling order, or the k smallest in rising order. Throws ShapeError unless 0 <= k
/// <= extent.
Ordered topk(const Var& x, std::int64_t k, int axis = -1, bool largest = true);

/// Index of the largest entry along one axis, or, without an axis, in x as one row. Throws ShapeError over no
/// elements. A constant for every derivative.
Var argmax(const Var& x, std::optional<int> axis = {}, bool keep_dims = false);
/// Index of the smallest entry; NaN counts as smaller than everything here, as in torch.
Var argmin(const Var& x, std::optional<int> axis = {}, bool keep_dims = false);

}  // namespace banach
