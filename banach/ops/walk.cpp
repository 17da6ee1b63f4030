#include <banach/engine/parallel.hpp>
#include <banach/ops/walk.hpp>

#include <algorithm>

namespace banach {

Ints row_major_strides(const Shape& shape) {
  Ints strides = shape;
  std::int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= std::max<std::int64_t>(shape[i], 1);
  }
  return strides;
}

Ints broadcast_strides(const Shape& from, const Shape& to) {
  const Ints strides = row_major_strides(from);
  Ints result;
  for (int i = 0; i < to.rank(); ++i) {
    const int axis = i - (to.rank() - from.rank());
    result.push_back(axis < 0 || from[axis] == 1 ? 0 : strides[axis]);
  }
  return result;
}

Walk merged(const Walk& w) {
  Walk result;
  for (int i = 0; i < w.extents.count(); ++i) {
    if (w.extents[i] == 1) continue;
    const int last = result.extents.count() - 1;
    if (last >= 0 && result.out[last] == w.extents[i] * w.out[i] &&
        result.in[last] == w.extents[i] * w.in[i]) {
      result.extents[last] *= w.extents[i];
      result.out[last] = w.out[i];
      result.in[last] = w.in[i];
    } else {
      result.extents.push_back(w.extents[i]);
      result.out.push_back(w.out[i]);
      result.in.push_back(w.in[i]);
    }
  }
  return result;
}

std::pair<std::int64_t, std::int64_t> offsets(const Walk& w, int axes, std::int64_t index) {
  std::int64_t out = 0, in = 0;
  for (int i = axes - 1; i >= 0; --i) {
    const std::int64_t position = index % w.extents[i];
    index /= w.extents[i];
    out += position * w.out[i];
    in += position * w.in[i];
  }
  return {out, in};
}

namespace {

struct Plane {
  std::int64_t rows, columns;
  std::int64_t out_row, out_column, in_row, in_column;  // strides
};

constexpr std::int64_t tile = 16;
constexpr std::int64_t piece = 1 << 15;  // elements worth a task of their own

// Rows of the output are runs of the input's columns: both sides of a tile stay in the first cache.
template <class T>
void transpose_plane(T* out, const T* in, const Plane& p) {
  for (std::int64_t r0 = 0; r0 < p.rows; r0 += tile)
    for (std::int64_t c0 = 0; c0 < p.columns; c0 += tile) {
      const std::int64_t rows = std::min(tile, p.rows - r0), columns = std::min(tile, p.columns - c0);
      T* to = out + r0 * p.out_row + c0;
      const T* from = in + r0 + c0 * p.in_column;
      if (rows == tile && columns == tile) {
        for (std::int64_t r = 0; r < tile; ++r)
          for (std::int64_t c = 0; c < tile; ++c) to[r * p.out_row + c] = from[r + c * p.in_column];
      } else {
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t c = 0; c < columns; ++c) to[r * p.out_row + c] = from[r + c * p.in_column];
      }
    }
}

template <class T>
void copy_plane(T* out, const T* in, const Plane& p) {
  if (p.out_column == 1 && p.in_row == 1 && p.in_column != 1 && p.in_column != 0)
    return transpose_plane(out, in, p);
  for (std::int64_t r = 0; r < p.rows; ++r, out += p.out_row, in += p.in_row) {
    if (p.out_column == 1 && p.in_column == 1)
      std::copy_n(in, p.columns, out);
    else if (p.out_column == 1 && p.in_column == 0)
      std::fill_n(out, p.columns, *in);
    else
      for (std::int64_t c = 0; c < p.columns; ++c) out[c * p.out_column] = in[c * p.in_column];
  }
}

// Splits the last two axes of the walk into blocks of rows, and runs these in parallel.
template <class T>
void copy(T* out, const T* in, const Walk& walk) {
  Walk w = merged(walk);
  const std::int64_t total = Shape(w.extents).size();
  if (total == 0) return;
  const int axes = w.extents.count();
  if (axes < 2) {
    const std::int64_t out_step = axes ? w.out[0] : 1, in_step = axes ? w.in[0] : 1;
    parallel_for(total, piece, [&](std::int64_t begin, std::int64_t end) {
      copy_plane(out + begin * out_step, in + begin * in_step, {1, end - begin, 0, out_step, 0, in_step});
    });
    return;
  }
  // A transposition: the axis along which the input is contiguous becomes the rows' axis of the plane.
  if (w.in[axes - 1] > 1)
    for (int i = axes - 2; i >= 0; --i)
      if (w.in[i] == 1) {
        for (Ints* ints : {&w.extents, &w.out, &w.in})
          std::rotate(ints->begin() + i, ints->begin() + i + 1, ints->end() - 1);
        break;
      }
  const int r = axes - 2, c = axes - 1;
  const std::int64_t rows = w.extents[r], columns = w.extents[c];
  const std::int64_t block = std::min(rows, (piece / std::min(columns, piece) / tile + 1) * tile);
  const std::int64_t blocks = (rows + block - 1) / block;
  const std::int64_t grain = std::max<std::int64_t>(1, piece / (block * std::min(columns, piece)));
  parallel_for(total / (rows * columns) * blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto [to, from] = offsets(w, r, i / blocks);
      const std::int64_t row = i % blocks * block;
      copy_plane(out + to + row * w.out[r], in + from + row * w.in[r],
                 {std::min(block, rows - row), columns, w.out[r], w.out[c], w.in[r], w.in[c]});
    }
  });
}

}  // namespace

void copy_elements(Tensor& out, std::int64_t out_offset, const Tensor& in, std::int64_t in_offset,
                   const Walk& walk) {
  dispatch_any(out.dtype(), [&](auto zero) {
    using T = decltype(zero);
    copy(out.mutable_data<T>() + out_offset, in.data<T>() + in_offset, walk);
  });
}

}  // namespace banach
