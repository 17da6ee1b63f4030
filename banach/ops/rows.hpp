#pragma once
// Internal: kernels that work row by row along the last axis.

#include <banach/engine/op.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>

#include <algorithm>

namespace banach {

struct Rows {
  std::int64_t count, length;
};

/// x as rows along its last axis; a ShapeError for a scalar.
inline Rows rows_of(const Shape& shape, std::string_view op) {
  if (shape.rank() == 0) fail<ShapeError>(op, "expects at least one axis: got " + shape.to_string());
  return {shape.size(0, shape.rank() - 1), shape[shape.rank() - 1]};
}

/// Rule about axis 0: rows along the last axis, unless the two are one.
inline RowInputs last_axis_rows(const RowsContext& c) { return all_by_rows_along(c, {-1}); }

/// body(row) for each of them, in parallel pieces that depend on the shape only.
template <class Body>
void for_rows(const Rows& rows, Body&& body) {
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(1, rows.length));
  const auto run = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) body(row);
  };
  if (rows.count > grain)
    parallel_for(rows.count, grain, run);
  else
    run(0, rows.count);
}

/// out[row] = the sum of what partial(begin, end) gives for pieces of that row, [begin, end) counted from the
/// first row on. Pieces depend on the shape only.
template <class T, class F>
void sum_pieces_of_rows(const Rows& rows, T* out, F partial) {
  constexpr std::int64_t piece = 1 << 16;
  const std::int64_t n = rows.length, parts = std::max<std::int64_t>(1, (n + piece - 1) / piece);
  PoolVector<T> partials(static_cast<std::size_t>(rows.count * parts));
  for_rows({rows.count * parts, std::min(n, piece)}, [&](std::int64_t unit) {
    const std::int64_t row = unit / parts, begin = unit % parts * piece, end = std::min(n, begin + piece);
    partials[static_cast<std::size_t>(unit)] = partial(row * n + begin, row * n + end);
  });
  for (std::int64_t row = 0; row < rows.count; ++row)
    out[row] = parts == 1 ? partials[static_cast<std::size_t>(row)]
                          : simd::kernels<T>().sum(partials.data() + row * parts, parts);
}

}  // namespace banach
