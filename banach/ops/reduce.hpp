#pragma once
// Reductions over axes. An empty list of axes means all of them; negative ones count from the back. Reduced
// axes go, or stay with extent 1 under keep_dims. The order of summation depends on the shape alone; sums of
// f32 are gathered in double over short blocks. f32 and f64; throws ShapeError on bad axes, DTypeError on
// i64.

#include <banach/engine/op.hpp>

namespace banach {

/// Sum; 0 over no elements.
Var sum(const Var& x, const Axes& axes = {}, bool keep_dims = false);

/// Arithmetic mean. Throws ShapeError over no elements.
Var mean(const Var& x, const Axes& axes = {}, bool keep_dims = false);

/// Largest value, NaN if there is one; ties share the cotangent evenly. Throws ShapeError over no elements.
Var max(const Var& x, const Axes& axes = {}, bool keep_dims = false);

/// For kernels of other operations: writes the sum of x over `axes` (normalised, see normalize_axes) to
/// `out`, whose shape only matters by its size. Same dtype, f32 or f64.
void sum_over(const Tensor& x, const Axes& axes, Tensor& out);

}  // namespace banach
