#pragma once
// Internal: the product with a packed matrix, templated on the xsimd architecture; included only by the
// sources built per instruction set, after <xsimd/xsimd.hpp> in a namespace of their own. All in an anonymous
// namespace, see simd_math.hpp.
//
// C is cut into tiles that live in registers; a tile reads its panels of B once, from the cache they happen
// to be in, and broadcasts the entries of A from where they are. Cutting k, or long A, into blocks that fit a
// cache gained nothing at any size up to 2048 x 2048 (a tile needs 16 bytes of B a cycle), and is left out.

#include <banach/engine/panel_product.hpp>
#include <banach/engine/simd_math.hpp>

namespace banach::simd {
namespace {

constexpr int most_vectors = 8;

/// How large a tile may be: rows, and vectors in all its rows, `sums`. Registers have to hold these and, of
/// one k, the vectors of B and an entry of A; about ten chains keep two multiply-adds a cycle busy.
struct TileShape {
  int rows, sums;
  /// Vectors in each of r rows.
  constexpr int vectors(int r) const { return sums / r < most_vectors ? sums / r : most_vectors; }
};
#if defined(__AVX512F__)
constexpr TileShape tile_shape{8, 24};  // of 32 registers
#elif defined(__FMA__)
constexpr TileShape tile_shape{4, 12};  // of 16 registers
#else
constexpr TileShape tile_shape{4, 8};  // of 16 registers; a product needs one before it is added
#endif

/// C = start + A B for one shape of tile, the panels being panel_size entries apart.
template <class T>
using Tile = void (*)(std::int64_t k, const T* a, std::int64_t a_row, std::int64_t a_column, const T* panels,
                      std::int64_t panel_size, const T* start, std::int64_t ld_start, T* c, std::int64_t ldc);

// The loops over rows and vectors are unrolled from the start: only then does the compiler see registers in
// `sums`, and not memory.
template <class B, int rows, int vectors>
void tile(std::int64_t k, const Scalar<B>* a, std::int64_t a_row, std::int64_t a_column,
          const Scalar<B>* panels, std::int64_t panel_size, const Scalar<B>* start, std::int64_t ld_start,
          Scalar<B>* c, std::int64_t ldc) {
  constexpr std::int64_t width = B::size;
  B sums[rows][vectors];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sums[r][v] = B::load_unaligned(start + r * ld_start + v * width);
  for (std::int64_t p = 0; p < k; ++p) {
    B b[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) b[v] = B::load_aligned(panels + v * panel_size + p * width);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const B entry(a[r * a_row + p * a_column]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sums[r][v] = multiply_add(entry, b[v], sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sums[r][v].store_unaligned(c + r * ldc + v * width);
}

/// The tiles of all shapes, by rows - 1 and vectors - 1.
template <class B>
struct Tiles {
  Tile<Scalar<B>> of[tile_shape.rows][most_vectors] = {};

  constexpr Tiles() { add<1, 1>(); }

 private:
  template <int rows, int vectors>
  constexpr void add() {
    of[rows - 1][vectors - 1] = tile<B, rows, vectors>;
    if constexpr (vectors < tile_shape.vectors(rows)) {
      add<rows, vectors + 1>();
    } else if constexpr (rows < tile_shape.rows) {
      add<rows + 1, 1>();
    }
  }
};

/// A tile that reaches past the last column, by way of a copy of C.
template <class B>
void edge_tile(Tile<Scalar<B>> whole, std::int64_t rows, std::int64_t columns, std::int64_t k,
               const Scalar<B>* a, std::int64_t a_row, std::int64_t a_column, const Scalar<B>* panels,
               std::int64_t panel_size, const Scalar<B>* start, std::int64_t ld_start, Scalar<B>* c,
               std::int64_t ldc) {
  constexpr std::int64_t ld = most_vectors * B::size;
  alignas(64) Scalar<B> copy[tile_shape.rows * ld] = {};
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t j = 0; j < columns; ++j) copy[r * ld + j] = start[r * ld_start + j];
  whole(k, a, a_row, a_column, panels, panel_size, copy, ld, copy, ld);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t j = 0; j < columns; ++j) c[r * ldc + j] = copy[r * ld + j];
}

constexpr std::int64_t pieces(std::int64_t size, std::int64_t most) { return (size + most - 1) / most; }

template <class B>
void panel_product(std::int64_t m, std::int64_t n, std::int64_t k, const Scalar<B>* a, std::int64_t a_row,
                   std::int64_t a_column, const Scalar<B>* panels, const Scalar<B>* start,
                   std::int64_t ld_start, Scalar<B>* c, std::int64_t ldc) {
  static constexpr Tiles<B> tiles;
  static constexpr Scalar<B> zeros[most_vectors * B::size] = {};
  constexpr std::int64_t width = B::size;
  if (m == 0 || n == 0) return;
  // Rows and panels are shared out evenly, since small tiles are slow.
  const std::int64_t panel_count = pieces(n, width), row_groups = pieces(m, tile_shape.rows);
  const int most_rows = static_cast<int>(pieces(m, row_groups));
  const std::int64_t panel_groups = pieces(panel_count, tile_shape.vectors(most_rows));
  for (std::int64_t g = 0; g < panel_groups; ++g) {
    const std::int64_t panel = g * panel_count / panel_groups;
    const std::int64_t vectors = (g + 1) * panel_count / panel_groups - panel;
    const std::int64_t j = panel * width, columns = vectors * width < n - j ? vectors * width : n - j;
    for (std::int64_t h = 0; h < row_groups; ++h) {
      const std::int64_t i = h * m / row_groups, rows = (h + 1) * m / row_groups - i;
      const Tile<Scalar<B>> whole = tiles.of[rows - 1][vectors - 1];
      const Scalar<B>* a_rows = a + i * a_row;
      const Scalar<B>* b = panels + j * k;
      const Scalar<B>* first = start == nullptr ? zeros : start + i * ld_start + j;
      Scalar<B>* corner = c + i * ldc + j;
      if (columns == vectors * width)
        whole(k, a_rows, a_row, a_column, b, width * k, first, ld_start, corner, ldc);
      else
        edge_tile<B>(whole, rows, columns, k, a_rows, a_row, a_column, b, width * k, first, ld_start, corner,
                     ldc);
    }
  }
}

template <class T, class Arch>
constexpr PanelProduct<T> product() {
  using B = xsimd::batch<T, Arch>;
  return {.width = B::size, .run = panel_product<B>};
}

}  // namespace
}  // namespace banach::simd
