#pragma once
// Internal: the product behind PackedMatrix (packed.hpp), built once per instruction set.

#include <cstdint>

namespace banach::simd {

/// C (m x n) = start + A (m x k) B, where B lies in panels: `width` columns each (the last one filled up), k
/// rows of `width` entries one after another. Entry (i, p) of A is a[i * a_row + p * a_column]. Row i of
/// start begins at start + i * ld_start; a null start stands for zeros. C may be start, with the same
/// distance between rows.
///
/// Every entry of C is one chain of multiply-adds, start first and k in ascending order: its bits depend on
/// its start, its row of A and its column of B, and on nothing else.
template <class T>
struct PanelProduct {
  std::int64_t width;
  void (*run)(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t a_row,
              std::int64_t a_column, const T* panels, const T* start, std::int64_t ld_start, T* c,
              std::int64_t ldc);
};

// Constant data, safe to link on any processor.
namespace detail {
extern const PanelProduct<float> sse2_product_float, avx2_product_float, avx512_product_float;
extern const PanelProduct<double> sse2_product_double, avx2_product_double, avx512_product_double;
}  // namespace detail

}  // namespace banach::simd
