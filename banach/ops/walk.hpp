#pragma once
// Internal: the loop nest that moves the elements of every operation that only moves them.

#include <banach/engine/tensor.hpp>

#include <utility>

namespace banach {

/// Extents, and how far a step along each axis goes in the output and in the input, in elements (0: the same
/// element again; negative: backwards).
struct Walk {
  Ints extents, out, in;
};

Ints row_major_strides(const Shape& shape);

/// Strides that read `from` as if it had been broadcast to `to`.
Ints broadcast_strides(const Shape& from, const Shape& to);

/// Drops axes of extent 1 and merges neighbours that one loop can run over.
Walk merged(const Walk& walk);

/// Where the index-th step of a row-major walk over the first `axes` axes stands in the output and in the
/// input.
std::pair<std::int64_t, std::int64_t> offsets(const Walk& walk, int axes, std::int64_t index);

/// Copies between tensors of one element type, any, starting so many elements into them; in parallel.
void copy_elements(Tensor& out, std::int64_t out_offset, const Tensor& in, std::int64_t in_offset,
                   const Walk& walk);

}  // namespace banach
