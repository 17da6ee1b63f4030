#pragma once
// Internal: what the operations on stacks of matrices, (..., rows, columns), share.

#include <banach/engine/op.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/ops/shape_ops.hpp>

#include <algorithm>
#include <string>

namespace banach {

/// The axes before the last two.
inline Shape leading(const Shape& shape) {
  Ints extents;
  for (int i = 0; i < shape.rank() - 2; ++i) extents.push_back(shape[i]);
  return Shape(extents);
}
inline std::int64_t rows(const Shape& shape) { return shape[shape.rank() - 2]; }
inline std::int64_t columns(const Shape& shape) { return shape[shape.rank() - 1]; }

/// `lead` with more axes behind it.
inline Shape extended(Ints lead, std::initializer_list<std::int64_t> extents) {
  for (const std::int64_t extent : extents) lead.push_back(extent);
  return Shape(lead);
}

/// Position in an operand's leading axes, which broadcast to `lead`, of the index-th matrix of `lead`.
inline std::int64_t matrix_index(const Shape& lead, const Shape& operand, std::int64_t index) {
  if (operand == lead) return index;
  std::int64_t position = 0, stride = 1;
  for (int i = lead.rank() - 1, j = operand.rank() - 1; j >= 0; --i, --j) {
    if (operand[j] != 1) position += index % lead[i] * stride;
    index /= lead[i];
    stride *= operand[j];
  }
  return position;
}

/// Throws ShapeError unless x is a stack of matrices.
inline void check_matrices(std::string_view op, const Shape& x) {
  if (x.rank() < 2) fail<ShapeError>(op, "expects matrices, (..., m, n): got " + x.to_string());
}

/// Extent n of (..., n, n). Throws ShapeError.
inline std::int64_t square_extent(std::string_view op, const Shape& x) {
  if (x.rank() < 2 || rows(x) != columns(x))
    fail<ShapeError>(op, "expects square matrices, (..., n, n): got " + x.to_string());
  return rows(x);
}

/// Shape (..., n, k) of the solutions of A X = B for a of (..., n, n) and b of (..., n, k). Throws
/// ShapeError.
inline Shape solution_shape(std::string_view op, const Shape& a, const Shape& b) {
  const std::int64_t n = square_extent(op, a);
  const auto refuse = [&](std::string_view rule) {
    fail<ShapeError>(op, std::string(rule) + ": " + a.to_string() + " with " + b.to_string());
  };
  if (b.rank() < 2 || rows(b) != n) refuse("right-hand sides must have as many rows as the matrices");
  for (int i = 3; i <= std::min(a.rank(), b.rank()); ++i) {
    const std::int64_t ea = a[a.rank() - i], eb = b[b.rank() - i];
    if (ea != eb && ea != 1 && eb != 1) refuse("leading axes must broadcast (equal extents, or 1)");
  }
  return extended(broadcast(leading(a), leading(b), op), {n, columns(b)});
}

/// Rules about axis 0 for stacks of matrices: of one operand and of operands whose leading axes broadcast.
/// One matrix has no rows of its own.
inline RowInputs stack_rows(const RowsContext& c) { return all_by_rows_along(c, {-2, -1}); }
inline RowInputs broadcast_stack_rows(const RowsContext& c) {
  return c.out().rank() > 2 ? broadcast_rows(c) : RowInputs{};
}

/// body(i) for each of `count` matrices that cost `work` multiplications each, in parallel pieces that depend
/// on the sizes alone.
template <class Body>
void for_matrices(std::int64_t count, double work, Body&& body) {
  constexpr double piece = 1 << 15;
  const auto grain = static_cast<std::int64_t>(std::max(1.0, piece / std::max(work, 1.0)));
  parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) body(i);
  });
}

/// n^2 k in doubles, where no product of sizes overflows.
inline double cubic(std::int64_t n, std::int64_t k) {
  return static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(k);
}

/// For X = A^-1 B: copies each right-hand side b of (n, k) into its place x in `out` and calls body(i, x), i
/// being the position of its matrix in leading axes `lead`.
template <class T, class Body>
void for_systems(const Shape& lead, const Tensor& b, Tensor& out, Body&& body) {
  if (out.size() == 0) return;
  const Shape all = leading(out.shape()), lead_b = leading(b.shape());
  const std::int64_t size = rows(b.shape()) * columns(b.shape());
  const T* right = b.data<T>();
  T* x = out.mutable_data<T>();
  for_matrices(all.size(), cubic(rows(b.shape()), columns(b.shape())), [&](std::int64_t i) {
    std::copy_n(right + matrix_index(all, lead_b, i) * size, size, x + i * size);
    body(matrix_index(all, lead, i), x + i * size);
  });
}

/// f(a matrix of right-hand sides), for one vector (n) too: as a column, which is dropped again.
template <class F>
Var with_columns(const Var& b, F&& f) {
  if (!b.defined() || b.rank() != 1) return f(b);
  const Var x = f(reshape(b, {b.size(), 1}));
  Ints shape;
  for (int i = 0; i + 1 < x.rank(); ++i) shape.push_back(x.size(i));
  return reshape(x, shape);
}

}  // namespace banach
