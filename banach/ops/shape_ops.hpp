#pragma once
// Operations that move elements without computing on them, and sum_to, which undoes a broadcast. All take
// f32, f64 and i64 (sum_to: f32 and f64); all are linear, and each one's transpose is here too. Where nothing
// has to move (the shapes agree already), they return x itself and record nothing.

#include <banach/engine/op.hpp>

#include <initializer_list>
#include <span>

namespace banach {

/// The same elements under another shape; shares the buffer. One extent may be -1: what is left over.
/// Throws ShapeError if the sizes differ.
Var reshape(const Var& x, const Ints& shape);

/// Axes [from, rank) as one: (n,c,h,w) -> (n,c*h*w) for from = 1.
Var flatten(const Var& x, int from = 1);

/// x repeated along axes of extent 1 and new leading axes (NumPy's rule), to exactly `shape`.
Var broadcast_to(const Var& x, const Shape& shape);

/// Transpose of broadcast_to: sums over the axes along which `shape` was broadcast to x's shape. f32 and f64.
Var sum_to(const Var& x, const Shape& shape);

/// Axis i of the result is axis axes[i] of x; `axes` names each axis once, negative ones counted from the
/// back.
Var permute(const Var& x, const Axes& axes);

/// Swaps the last two axes.
Var transpose(const Var& x);

/// Entries begin, begin + step, ... before end along one axis; step >= 1. Negative positions count from the
/// back. Throws ShapeError unless 0 <= begin <= end <= extent, ValueError on a step below 1.
Var slice(const Var& x, int axis, std::int64_t begin, std::int64_t end, std::int64_t step = 1);

/// Joins tensors whose extents agree but for `axis`.
Var concat(std::span<const Var> parts, int axis);
inline Var concat(std::initializer_list<Var> parts, int axis) {
  return concat(std::span(parts.begin(), parts.size()), axis);
}

/// Joins tensors of one shape along a new axis, which is axis `axis` of the result.
Var stack(std::span<const Var> parts, int axis = 0);
inline Var stack(std::initializer_list<Var> parts, int axis = 0) {
  return stack(std::span(parts.begin(), parts.size()), axis);
}

/// The entries in reverse order along `axes`, distinct; an empty list means all axes.
Var flip(const Var& x, const Axes& axes = {});

/// The whole of x counts[i] times side by side along each axis: (2) repeated (3) times is a, b, a, b, a, b.
/// The lists are aligned at their ends: more counts than axes add leading axes, for fewer the leading axes
/// stay as they are. Throws ValueError on a negative count; 0 gives an empty result.
Var repeat(const Var& x, const Ints& counts);

/// x with `before[i]` entries of `value` in front of axis i and `after[i]` behind it.
Var pad(const Var& x, const Ints& before, const Ints& after, double value = 0.0);

}  // namespace banach
