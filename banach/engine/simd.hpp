#pragma once

#include <cstdint>
#include <string_view>

/// Vector kernels on raw arrays, built once per instruction set and picked when first used.
///
/// Every elementwise kernel gives an element the same bits wherever it stands in the array, and may run in
/// place (output == an input; other overlaps are not allowed). Reductions add in an order that depends on n
/// alone. Different instruction sets agree to rounding, not bit for bit (some have fused multiply-add).
namespace banach::simd {

enum class Isa { sse2, avx2, avx512 };

/// The best instruction set this processor has.
Isa best();
/// Whether this processor (and its operating system) can run the kernels of `isa`.
bool supported(Isa isa);
/// The instruction set in use: `best()`, unless lowered by the environment variable BANACH_ISA (sse2, avx2 or
/// avx512; any other value is ignored) or changed by `select`.
Isa active();
/// Changes the instruction set from now on; meant for tests. Throws std::invalid_argument if the processor
/// lacks it.
void select(Isa isa);
std::string_view name(Isa isa);

/// A binary operation on vector and vector, vector and scalar, scalar and vector.
template <class T>
struct Binary {
  void (*vv)(const T* a, const T* b, T* out, std::int64_t n);
  void (*vs)(const T* a, T b, T* out, std::int64_t n);
  void (*sv)(T a, const T* b, T* out, std::int64_t n);
};

template <class T>
using Unary = void (*)(const T* x, T* y, std::int64_t n);

/// The table of kernels of one instruction set. Special values (signed zeros, infinities, NaN, subnormals)
/// behave as the functions of <cmath> do unless said otherwise. Measured errors: tests/engine/simd_test.cpp.
template <class T>
struct Kernels {
  // One argument.
  Unary<T> neg, abs, square, reciprocal, sqrt, rsqrt;
  Unary<T> exp, log, log1p, expm1, sin, cos, tanh, erf;
  Unary<T> sigmoid;   ///< 1 / (1 + exp(-x))
  Unary<T> relu;      ///< max(x, 0); NaN stays NaN
  Unary<T> softplus;  ///< log(1 + exp(x)), without overflow
  Unary<T> sign;      ///< -1, 0, 1; NaN stays NaN, a zero keeps its sign

  // One argument and parameters.
  void (*leaky_relu)(const T* x, T slope, T* y, std::int64_t n);          ///< x > 0 ? x : slope * x
  void (*clamp)(const T* x, T low, T high, T* y, std::int64_t n);         ///< NaN stays NaN
  void (*scale_add)(const T* x, T scale, T shift, T* y, std::int64_t n);  ///< y = scale * x + shift

  // Two arguments. A NaN on either side gives NaN in maximum and minimum; comparisons give 1 or 0, and follow
  // IEEE: with a NaN only not_equal holds.
  Binary<T> add, sub, mul, div, maximum, minimum;
  Binary<T> equal, not_equal, less, less_equal, greater, greater_equal;

  // Vjps at the cotangent g, given the output y.
  void (*tanh_vjp)(const T* g, const T* y, T* out, std::int64_t n);     ///< g (1 - y^2)
  void (*sigmoid_vjp)(const T* g, const T* y, T* out, std::int64_t n);  ///< g y (1 - y)
  void (*relu_vjp)(const T* g, const T* y, T* out, std::int64_t n);     ///< y > 0 ? g : 0

  /// out = condition != 0 ? a : b; a NaN counts as true.
  void (*select)(const T* condition, const T* a, const T* b, T* out, std::int64_t n);
  void (*axpy)(T alpha, const T* x, T* y, std::int64_t n);  ///< y += alpha * x
  void (*add_to)(const T* x, T* y, std::int64_t n);         ///< y += x

  // Reductions: sums in vector lanes over blocks of 2048, blocks added in double with compensation.
  T (*sum)(const T* x, std::int64_t n);
  T (*dot)(const T* a, const T* b, std::int64_t n);
  /// Products and sums in double, for f32 too.
  double (*wide_dot)(const T* a, const T* b, std::int64_t n);
  T (*max)(const T* x, std::int64_t n);  ///< NaN if any is NaN; -infinity for n = 0
  T (*min)(const T* x, std::int64_t n);  ///< NaN if any is NaN; infinity for n = 0
  T (*squared_distance)(const T* a, const T* b, std::int64_t n);
  T (*squared_norm)(const T* x, std::int64_t n);

  // Whole rows.
  T(*log_sum_exp)
  (const T* x, std::int64_t n);  ///< -infinity for n = 0 or all x = -infinity; NaN if any is NaN
  void (*softmax_row)(const T* x, T* y, std::int64_t n);
  void (*log_softmax_row)(const T* x, T* y, std::int64_t n);
  void (*softmax_vjp_row)(const T* g, const T* y, T* out, std::int64_t n);  ///< out = y (g - <g, y>)
  /// Of rows that are ld apart: of row r, p = softmax(scale p) on the first n = min(first + r, limit)
  /// entries, scale being finite, or zeros where all of scale p is -infinity; zeros from there to limit.
  void (*attention_rows)(T* p, std::int64_t ld, std::int64_t rows, std::int64_t first, std::int64_t limit,
                         T scale);
  /// g = scale p (g - <g, p>), where entries with p = 0 count as 0 whatever g is there.
  void (*attention_vjp_row)(const T* p, T scale, T* g, std::int64_t n);
  /// y = (x - mean) / sqrt(variance + eps), with the population variance (divided by n), in two passes;
  /// also gives the mean and rstd = 1 / sqrt(variance + eps).
  void (*normalize_row)(const T* x, T eps, T* normalised, std::int64_t n, T* mean, T* rstd);
  /// The same times gamma, plus beta.
  void (*layer_norm_row)(const T* x, const T* gamma, const T* beta, T eps, T* y, std::int64_t n);
  /// out = rstd (h - mean(h) - y mean(h y)), with h = g gamma, or g if gamma is null.
  void (*normalize_vjp_row)(const T* g, const T* gamma, const T* y, T rstd, T* out, std::int64_t n);

  // The exponential linear unit, and its derivatives of any order: 1 or 0 above 0.
  void (*elu)(const T* x, T alpha, T* y, std::int64_t n);  ///< x > 0 ? x : alpha * (exp(x) - 1)
  void (*elu_slope)(const T* x, T alpha, T above, T* y, std::int64_t n);  ///< x > 0 ? above : alpha * exp(x)
  /// g times that slope.
  void (*elu_vjp)(const T* g, const T* x, T alpha, T above, T* out, std::int64_t n);
  /// Its own cotangents where its result has u: u times the slope for g, and u g times the next one for x.
  void (*elu_vjp_vjp)(const T* u, const T* g, const T* x, T alpha, T above, T* of_g, T* of_x, std::int64_t n);
};

/// The kernels of the active instruction set; T is float or double.
template <class T>
const Kernels<T>& kernels();

template <>
const Kernels<float>& kernels<float>();
template <>
const Kernels<double>& kernels<double>();

}  // namespace banach::simd
