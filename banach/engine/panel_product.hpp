#pragma once
// Internal: the products behind PackedMatrix (packed.hpp) and convolutions, built once per instruction set.

#include <cstdint>

namespace banach::simd {

/// C (m x n) = start + A (m x k) B, where B lies in panels: `width` columns each (the last one filled up),
/// panel_rows (k at least) rows of `width` entries one after another. Entry (i, p) of A is a[i * a_row + p *
/// a_column]. Row i of start begins at start + i * ld_start; a null start (ld_start = 0) stands for zeros. C
/// may be start, with the same distance between rows.
///
/// Every entry of C is one chain of multiply-adds, start first and k in ascending order: its bits depend on
/// its start, its row of A and its column of B, and on nothing else.
template <class T>
struct PanelProduct {
  std::int64_t width;
  void (*run)(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t a_row,
              std::int64_t a_column, const T* panels, std::int64_t panel_rows, const T* start,
              std::int64_t ld_start, T* c, std::int64_t ldc);

  /// Lays B (k x n) out in panels of k rows, filled up with zeros: panels_size(k, n) entries, aligned to 64
  /// bytes. Entry (p, j) of B is b[p * ldb + j] or, if transpose, b[j * ldb + p].
  void (*pack)(bool transpose, std::int64_t k, std::int64_t n, const T* b, std::int64_t ldb, T* panels);
  std::int64_t panels_size(std::int64_t k, std::int64_t n) const {
    return (n + width - 1) / width * width * k;
  }

  /// The same without copies, for factors whose entries stand anywhere: (i, p) of A at a[a_rows[i] +
  /// a_columns[p]], (p, j) of B at b[b_rows[p] + j]. Reads (and ignores) up to width - 1 entries past the end
  /// of a row of B.
  void (*run_gathered)(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, const std::int64_t* a_rows,
                       const std::int64_t* a_columns, const T* b, const std::int64_t* b_rows, const T* start,
                       std::int64_t ld_start, T* c, std::int64_t ldc);

  /// C += A B^T (m x n) where a row of either is `runs` runs of `length` entries, the first of them at a +
  /// a_rows[i] and b + b_rows[j], and each a_step or b_step after the one before. For a few long rows.
  void (*add_dots)(std::int64_t m, std::int64_t n, std::int64_t runs, std::int64_t length, const T* a,
                   const std::int64_t* a_rows, std::int64_t a_step, const T* b, const std::int64_t* b_rows,
                   std::int64_t b_step, T* c, std::int64_t ldc);

  /// to[j * ld_to + i] = from[i * ld_from + j] for i < rows and j < columns.
  void (*transpose)(std::int64_t rows, std::int64_t columns, const T* from, std::int64_t ld_from, T* to,
                    std::int64_t ld_to);

  /// to[i * ld_to + j] = from[i * ld_from + j] for i < rows and j < columns, plus *shift where it is not
  /// null. The two do not overlap.
  void (*copy_rows)(std::int64_t rows, std::int64_t columns, const T* from, std::int64_t ld_from, T* to,
                    std::int64_t ld_to, const T* shift);
};

/// The products of the active instruction set; T is float or double.
template <class T>
const PanelProduct<T>& product();
template <>
const PanelProduct<float>& product<float>();
template <>
const PanelProduct<double>& product<double>();

// Constant data, safe to link on any processor.
namespace detail {
extern const PanelProduct<float> sse2_product_float, avx2_product_float, avx512_product_float;
extern const PanelProduct<double> sse2_product_double, avx2_product_double, avx512_product_double;
}  // namespace detail

}  // namespace banach::simd
