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

/// Largest and smallest value, NaN if there is one. Ties share the cotangent evenly, over all axes or over
/// some: as torch.amax and amin do, whose names are here too. For the winner's index there are argmax and
/// argmin (<banach/ops/order.hpp>). Throws ShapeError over no elements.
Var max(const Var& x, const Axes& axes = {}, bool keep_dims = false);
Var min(const Var& x, const Axes& axes = {}, bool keep_dims = false);
inline Var amax(const Var& x, const Axes& axes = {}, bool keep_dims = false) {
  return max(x, axes, keep_dims);
}
inline Var amin(const Var& x, const Axes& axes = {}, bool keep_dims = false) {
  return min(x, axes, keep_dims);
}

/// Variance: squared distances from the mean (found first, so nothing cancels), added up and divided by n -
/// correction. Correction 1 estimates from a sample, 0 is the population's. Throws ShapeError unless n >
/// correction, ValueError on a negative one.
Var var(const Var& x, const Axes& axes = {}, int correction = 1, bool keep_dims = false);

/// Vector norm for p = 1, 2 or infinity; derivative 0 where it is 0; 0 over no elements (p = infinity throws
/// ShapeError). For p = 2 the sum of squares must not overflow. Throws ValueError on another p.
Var norm(const Var& x, const Axes& axes = {}, double p = 2.0, bool keep_dims = false);

/// Sum of products along the last axis, which goes: (n) with (n) gives a number, (b,n) with (b,n) gives (b).
/// Throws ShapeError unless the shapes are equal, with at least one axis.
Var dot(const Var& a, const Var& b);

/// For kernels of other operations: writes the sum of x over `axes` (normalised, see normalize_axes) to
/// `out`, whose shape only matters by its size. Same dtype, f32 or f64.
void sum_over(const Tensor& x, const Axes& axes, Tensor& out);

}  // namespace banach
