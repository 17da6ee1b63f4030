#pragma once
// Internal: kernels on several rows at once, built once per instruction set: what a solver does with the rows
// that it remembers. Each row is read once, and what is multiplied with all of them stays in registers.

#include <cstdint>

namespace banach::simd {

/// Rows of n numbers, one after another, the first at `rows`. The order of every sum depends on n alone: a
/// row has the same bits whatever rows stand beside it.
template <class T>
struct HistoryKernels {
  /// out[i] = row_i^T x, products and blocks of 2048 of them in T.
  void (*dots)(const T* rows, std::int64_t count, const T* x, std::int64_t n, double* out);
  /// The same in double throughout, for f32 too.
  void (*wide_dots)(const T* rows, std::int64_t count, const T* x, std::int64_t n, double* out);
  /// The same for two vectors.
  void (*wide_dots_of_two)(const T* rows, std::int64_t count, const T* x, const T* y, std::int64_t n,
                           double* out_x, double* out_y);
  /// out = start + sum_i coefficients[i] row_i, in that order; `out` may be `start`.
  void (*combine)(const T* start, const T* rows, std::int64_t count, const double* coefficients,
                  std::int64_t n, T* out);
  /// ||a||^2, ||a - b||^2 and ||b - c||^2, as squared_norm and squared_distance (simd.hpp) find them.
  void (*squared_lengths)(const T* a, const T* b, const T* c, std::int64_t n, T* out);
};

/// The kernels of the active instruction set; T is float or double.
template <class T>
const HistoryKernels<T>& history();
template <>
const HistoryKernels<float>& history<float>();
template <>
const HistoryKernels<double>& history<double>();

// Constant data, safe to link on any processor.
namespace detail {
extern const HistoryKernels<float> sse2_history_float, avx2_history_float, avx512_history_float;
extern const HistoryKernels<double> sse2_history_double, avx2_history_double, avx512_history_double;
}  // namespace detail

}  // namespace banach::simd
