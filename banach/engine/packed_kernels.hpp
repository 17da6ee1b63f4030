#pragma once
// Internal: products with a packed matrix, and of gathered matrices, templated on the xsimd architecture;
// included only by the sources built per instruction set, after <xsimd/xsimd.hpp> in a namespace of their
// own. All in an anonymous namespace, see simd_math.hpp.
//
// C is cut into tiles that live in registers; a tile reads its panels of B once, from the cache they happen
// to be in, and broadcasts the entries of A from where they are. Cutting k, or long A, into blocks that fit a
// cache gained nothing at any size up to 2048 x 2048 (a tile needs 16 bytes of B a cycle), and is left out.

#include <banach/engine/panel_product.hpp>
#include <banach/engine/simd_kernels.hpp>

#include <cstring>

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

// Where the factors of a product lie. `rows` and `load` are what a tile reads, `from` starts further on.

/// A at constant distances.
template <class T>
struct Strided {
  const T* data;
  std::int64_t row, column;
  Strided from(std::int64_t i) const { return {data + i * row, row, column}; }
  template <int count>
  Strided rows() const {
    return *this;
  }
  T operator()(int r, std::int64_t p) const { return data[r * row + p * column]; }
};

/// A at row_starts[i] + columns[p].
template <class T>
struct Gathered {
  const T* data;
  const std::int64_t *row_starts, *columns;
  template <int count>
  struct Rows {
    const T* starts[count];
    const std::int64_t* columns;
    T operator()(int r, std::int64_t p) const { return starts[r][columns[p]]; }
  };
  Gathered from(std::int64_t i) const { return {data, row_starts + i, columns}; }
  template <int count>
  Rows<count> rows() const {
    Rows<count> result{{}, columns};
    for (int r = 0; r < count; ++r) result.starts[r] = data + row_starts[r];
    return result;
  }
};

/// B in panels of so many rows.
template <class B>
struct Panels {
  const Scalar<B>* data;
  std::int64_t rows;
  Panels from(std::int64_t j) const { return {data + j * rows, rows}; }
  B load(std::int64_t p, int v) const {
    return B::load_aligned(data + (v * rows + p) * std::int64_t{B::size});
  }
};

/// B in rows that begin at starts[p].
template <class B>
struct GatheredRows {
  const Scalar<B>* data;
  const std::int64_t* starts;
  GatheredRows from(std::int64_t j) const { return {data + j, starts}; }
  B load(std::int64_t p, int v) const {
    return B::load_unaligned(data + starts[p] + v * std::int64_t{B::size});
  }
};

/// C = start + A B for one shape of tile.
template <class B, class Left, class Right>
using Tile = void (*)(std::int64_t k, const Left& a, const Right& b, const Scalar<B>* start,
                      std::int64_t ld_start, Scalar<B>* c, std::int64_t ldc);

// The loops over rows and vectors are unrolled from the start: only then does the compiler see registers in
// `sums`, and not memory.
template <class B, class Left, class Right, int rows, int vectors>
void tile(std::int64_t k, const Left& left, const Right& right, const Scalar<B>* start, std::int64_t ld_start,
          Scalar<B>* c, std::int64_t ldc) {
  constexpr std::int64_t width = B::size;
  const auto a = left.template rows<rows>();
  const Right of_b = right;
  B sums[rows][vectors];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sums[r][v] = B::load_unaligned(start + r * ld_start + v * width);
  for (std::int64_t p = 0; p < k; ++p) {
    B b[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) b[v] = of_b.load(p, v);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const B entry(a(r, p));
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
template <class B, class Left, class Right>
struct Tiles {
  Tile<B, Left, Right> of[tile_shape.rows][most_vectors] = {};

  constexpr Tiles() { add<1, 1>(); }

 private:
  template <int rows, int vectors>
  constexpr void add() {
    of[rows - 1][vectors - 1] = tile<B, Left, Right, rows, vectors>;
    if constexpr (vectors < tile_shape.vectors(rows)) {
      add<rows, vectors + 1>();
    } else if constexpr (rows < tile_shape.rows) {
      add<rows + 1, 1>();
    }
  }
};

/// A tile that reaches past the last column, by way of a copy of C.
template <class B, class Left, class Right>
void edge_tile(Tile<B, Left, Right> whole, std::int64_t rows, std::int64_t columns, std::int64_t k,
               const Left& a, const Right& b, const Scalar<B>* start, std::int64_t ld_start, Scalar<B>* c,
               std::int64_t ldc) {
  constexpr std::int64_t ld = most_vectors * B::size;
  alignas(64) Scalar<B> copy[tile_shape.rows * ld] = {};
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t j = 0; j < columns; ++j) copy[r * ld + j] = start[r * ld_start + j];
  whole(k, a, b, copy, ld, copy, ld);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t j = 0; j < columns; ++j) c[r * ldc + j] = copy[r * ld + j];
}

constexpr std::int64_t pieces(std::int64_t size, std::int64_t most) { return (size + most - 1) / most; }

/// C = start + A B, cut into tiles.
template <class B, class Left, class Right>
void tiled_product(std::int64_t m, std::int64_t n, std::int64_t k, const Left& a, const Right& b,
                   const Scalar<B>* start, std::int64_t ld_start, Scalar<B>* c, std::int64_t ldc) {
  static constexpr Tiles<B, Left, Right> tiles;
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
      const auto whole = tiles.of[rows - 1][vectors - 1];
      const Scalar<B>* first = start == nullptr ? zeros : start + i * ld_start + j;
      Scalar<B>* corner = c + i * ldc + j;
      if (columns == vectors * width)
        whole(k, a.from(i), b.from(j), first, ld_start, corner, ldc);
      else
        edge_tile<B, Left, Right>(whole, rows, columns, k, a.from(i), b.from(j), first, ld_start, corner,
                                  ldc);
    }
  }
}

template <class B>
void panel_product(std::int64_t m, std::int64_t n, std::int64_t k, const Scalar<B>* a, std::int64_t a_row,
                   std::int64_t a_column, const Scalar<B>* panels, std::int64_t panel_rows,
                   const Scalar<B>* start, std::int64_t ld_start, Scalar<B>* c, std::int64_t ldc) {
  tiled_product<B>(m, n, k, Strided<Scalar<B>>{a, a_row, a_column}, Panels<B>{panels, panel_rows}, start,
                   ld_start, c, ldc);
}

template <class B>
void gathered_product(std::int64_t m, std::int64_t n, std::int64_t k, const Scalar<B>* a,
                      const std::int64_t* a_rows, const std::int64_t* a_columns, const Scalar<B>* b,
                      const std::int64_t* b_rows, const Scalar<B>* start, std::int64_t ld_start, Scalar<B>* c,
                      std::int64_t ldc) {
  tiled_product<B>(m, n, k, Gathered<Scalar<B>>{a, a_rows, a_columns}, GatheredRows<B>{b, b_rows}, start,
                   ld_start, c, ldc);
}

/// The rows that add_dots takes two by two.
template <class B>
struct DotRows {
  std::int64_t runs, length, a_step, b_step;
  const Scalar<B>*a, *b;
};

template <class B>
using DotTile = void (*)(const DotRows<B>& of, const std::int64_t* a_rows, const std::int64_t* b_rows,
                         Scalar<B>* c, std::int64_t ldc);

template <class B, int rows, int columns>
void dot_tile(const DotRows<B>& of, const std::int64_t* a_rows, const std::int64_t* b_rows, Scalar<B>* c,
              std::int64_t ldc) {
  constexpr std::int64_t width = B::size;
  B sums[rows][columns];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < columns; ++v) sums[r][v] = B(Scalar<B>{0});
  for (std::int64_t run = 0; run < of.runs; ++run) {
    const Scalar<B>*a = of.a + run * of.a_step, *b = of.b + run * of.b_step;
    const auto add = [&](auto load) {
      B of_b[columns];
#pragma GCC unroll 8
      for (int v = 0; v < columns; ++v) of_b[v] = load(b + b_rows[v]);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) {
        const B of_a = load(a + a_rows[r]);
#pragma GCC unroll 8
        for (int v = 0; v < columns; ++v) sums[r][v] = multiply_add(of_a, of_b[v], sums[r][v]);
      }
    };
    std::int64_t p = 0;
    for (; p + width <= of.length; p += width) add(Whole<B>{p});
    if (p < of.length) add(Partial<B>{p, of.length});
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < columns; ++v)
      c[r * ldc + v] += across_lanes(sums[r][v], [](auto x, auto y) { return x + y; });
}

/// The tiles of all shapes, by rows - 1 and columns - 1: four rows at most.
template <class B>
struct DotTiles {
  static constexpr int most_rows = 4;
  DotTile<B> of[most_rows][most_vectors] = {};

  constexpr DotTiles() { add<1, 1>(); }

 private:
  template <int rows, int columns>
  constexpr void add() {
    of[rows - 1][columns - 1] = dot_tile<B, rows, columns>;
    if constexpr (columns < tile_shape.vectors(rows)) {
      add<rows, columns + 1>();
    } else if constexpr (rows < most_rows) {
      add<rows + 1, 1>();
    }
  }
};

template <class B>
void add_dots(std::int64_t m, std::int64_t n, std::int64_t runs, std::int64_t length, const Scalar<B>* a,
              const std::int64_t* a_rows, std::int64_t a_step, const Scalar<B>* b, const std::int64_t* b_rows,
              std::int64_t b_step, Scalar<B>* c, std::int64_t ldc) {
  static constexpr DotTiles<B> tiles;
  if (m == 0 || n == 0) return;
  const DotRows<B> of{runs, length, a_step, b_step, a, b};
  const std::int64_t row_groups = pieces(m, DotTiles<B>::most_rows);
  const std::int64_t column_groups = pieces(n, tile_shape.vectors(static_cast<int>(pieces(m, row_groups))));
  for (std::int64_t h = 0; h < row_groups; ++h) {
    const std::int64_t i = h * m / row_groups, rows = (h + 1) * m / row_groups - i;
    for (std::int64_t g = 0; g < column_groups; ++g) {
      const std::int64_t j = g * n / column_groups, columns = (g + 1) * n / column_groups - j;
      tiles.of[rows - 1][columns - 1](of, a_rows + i, b_rows + j, c + i * ldc + j, ldc);
    }
  }
}

/// Rows become columns. Each round takes the top bit of the row's number for the lowest of the lane's, and
/// the top one of the lane's for the lowest of the row's, by interleaving rows that lie half of them apart.
template <class T, std::size_t n>
void transpose(typename Lanes<T, n>::Type (&rows)[n]) {
  using Row = typename Lanes<T, n>::Type;
  const auto interleave = []<std::size_t... j>(Row a, Row b, std::index_sequence<j...>, auto from) {
    return __builtin_shufflevector(a, b, (from() + j / 2 + j % 2 * n)...);
  };
  constexpr std::make_index_sequence<n> lanes;
  constexpr auto low = [] { return std::size_t{0}; };
  constexpr auto high = [] { return n / 2; };
#pragma GCC unroll 4
  for (std::size_t round = 1; round < n; round *= 2) {
    Row next[n];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < n / 2; ++i) {
      next[2 * i] = interleave(rows[i], rows[i + n / 2], lanes, low);
      next[2 * i + 1] = interleave(rows[i], rows[i + n / 2], lanes, high);
    }
#pragma GCC unroll 16
    for (std::size_t i = 0; i < n; ++i) rows[i] = next[i];
  }
}

template <class B>
void transpose(std::int64_t rows, std::int64_t columns, const Scalar<B>* from, std::int64_t ld_from,
               Scalar<B>* to, std::int64_t ld_to) {
  constexpr std::int64_t width = B::size;
  for (std::int64_t i = 0; i < rows; i += width) {
    const bool whole = i + width <= rows;
    std::int64_t j = 0;
    for (; whole && j + width <= columns; j += width) {
      typename Lanes<Scalar<B>, B::size>::Type block[width];
#pragma GCC unroll 16
      for (std::int64_t r = 0; r < width; ++r)
        block[r] = B::load_unaligned(from + (i + r) * ld_from + j).data;
      transpose<Scalar<B>, B::size>(block);
#pragma GCC unroll 16
      for (std::int64_t r = 0; r < width; ++r) B(block[r]).store_unaligned(to + (j + r) * ld_to + i);
    }
    const std::int64_t end = whole ? i + width : rows;
    for (; j < columns; ++j)
      for (std::int64_t r = i; r < end; ++r) to[j * ld_to + r] = from[r * ld_from + j];
  }
}

/// to[j] = change(from[j]) for j < n, by vectors of so many lanes; the last one may begin before the one in
/// front of it ends.
template <std::size_t lanes, class T, class Change>
void change_row(std::int64_t n, const T* from, T* to, Change change) {
  constexpr auto width = static_cast<std::int64_t>(lanes);
  const auto move = [&](std::int64_t j) {
    typename Lanes<T, lanes>::Type vector;
    std::memcpy(&vector, from + j, sizeof vector);
    vector = change(vector);
    std::memcpy(to + j, &vector, sizeof vector);
  };
  for (std::int64_t j = 0; j < n - width; j += width) move(j);
  move(n - width);
}

template <class B, class Change>
void change_rows(std::int64_t rows, std::int64_t columns, const Scalar<B>* from, std::int64_t ld_from,
                 Scalar<B>* to, std::int64_t ld_to, Change change) {
  constexpr std::size_t few = 16 / sizeof(Scalar<B>);
  for (std::int64_t i = 0; i < rows; ++i, from += ld_from, to += ld_to) {
    if (columns >= static_cast<std::int64_t>(B::size))
      change_row<B::size>(columns, from, to, change);
    else if (columns >= static_cast<std::int64_t>(few))
      change_row<few>(columns, from, to, change);
    else
      for (std::int64_t j = 0; j < columns; ++j) to[j] = change(from[j]);
  }
}

template <class B>
void copy_rows(std::int64_t rows, std::int64_t columns, const Scalar<B>* from, std::int64_t ld_from,
               Scalar<B>* to, std::int64_t ld_to, const Scalar<B>* shift) {
  if (shift == nullptr)
    return change_rows<B>(rows, columns, from, ld_from, to, ld_to, [](auto x) { return x; });
  const Scalar<B> by = *shift;
  change_rows<B>(rows, columns, from, ld_from, to, ld_to, [by](auto x) { return x + by; });
}

template <class B>
void pack(bool transposed, std::int64_t k, std::int64_t n, const Scalar<B>* b, std::int64_t ldb,
          Scalar<B>* panels) {
  using T = Scalar<B>;
  constexpr std::int64_t width = B::size;
  for (std::int64_t first = 0; first < n; first += width, panels += k * width) {
    const std::int64_t columns = n - first < width ? n - first : width;
    std::int64_t p = 0;
    if (columns == width && !transposed)
      for (; p < k; ++p) B::load_unaligned(b + p * ldb + first).store_aligned(panels + p * width);
    if (columns == width && transposed)
      for (; p + width <= k; p += width) {
        typename Lanes<T, B::size>::Type rows[width];
#pragma GCC unroll 16
        for (std::int64_t j = 0; j < width; ++j) rows[j] = B::load_unaligned(b + (first + j) * ldb + p).data;
        transpose<T, B::size>(rows);
#pragma GCC unroll 16
        for (std::int64_t i = 0; i < width; ++i) B(rows[i]).store_aligned(panels + (p + i) * width);
      }
    for (; p < k; ++p)
      for (std::int64_t j = 0; j < width; ++j)
        panels[p * width + j] = j >= columns ? T{0}
                                : transposed ? b[(first + j) * ldb + p]
                                             : b[p * ldb + first + j];
  }
}

template <class T, class Arch>
constexpr PanelProduct<T> products_of() {
  using B = xsimd::batch<T, Arch>;
  return {.width = B::size,
          .run = panel_product<B>,
          .pack = pack<B>,
          .run_gathered = gathered_product<B>,
          .add_dots = add_dots<B>,
          .transpose = transpose<B>,
          .copy_rows = copy_rows<B>};
}

}  // namespace
}  // namespace banach::simd
