#pragma once
// Internal: what the solvers do with one sample's row of n numbers. Inner products and norms are doubles for
// f32 rows too, and no norm overflows or underflows on the way: only where the result itself does.

#include <banach/engine/history.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>
#include <banach/engine/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

namespace banach::vec {

/// Summed in double: a Gram matrix squares the condition of its vectors, which single precision does not
/// stand.
template <class T>
double dot(const T* a, const T* b, std::int64_t n) {
  return simd::kernels<T>().wide_dot(a, b, n);
}

/// The square root of the sum of value(i)^2, which is NaN or infinite only if a value is, or the root itself.
template <class Value>
double scaled_norm(std::int64_t n, Value value) {
  double largest = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double magnitude = std::abs(value(i));
    if (!std::isfinite(magnitude)) return magnitude;
    largest = std::max(largest, magnitude);
  }
  if (largest == 0.0) return 0.0;
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double ratio = value(i) / largest;
    sum += ratio * ratio;
  }
  return largest * std::sqrt(sum);
}

/// The root of a sum of squares that a kernel has found, or `exact()` where squares may have over- or
/// underflowed.
template <class T, class Exact>
double root(T sum, Exact exact) {
  constexpr T low = std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon();
  return sum > low && sum < std::numeric_limits<T>::infinity() ? std::sqrt(static_cast<double>(sum))
                                                               : exact();
}

/// ||a||_2, of which a kernel has found the square.
template <class T>
double norm(const T* a, std::int64_t n, T square) {
  return root(square,
              [&] { return scaled_norm(n, [&](std::int64_t i) { return static_cast<double>(a[i]); }); });
}
template <class T>
double norm(const T* a, std::int64_t n) {
  return norm(a, n, simd::kernels<T>().squared_norm(a, n));
}

/// ||a - b||_2, of which a kernel has found the square.
template <class T>
double distance(const T* a, const T* b, std::int64_t n, T square) {
  return root(square, [&] {
    return scaled_norm(n,
                       [&](std::int64_t i) { return static_cast<double>(a[i]) - static_cast<double>(b[i]); });
  });
}
template <class T>
double distance(const T* a, const T* b, std::int64_t n) {
  return distance(a, b, n, simd::kernels<T>().squared_distance(a, b, n));
}

/// Rows of n elements that are worth a piece of a parallel loop.
inline std::int64_t row_grain(std::int64_t n) {
  return std::max<std::int64_t>(1, (1 << 13) / std::max<std::int64_t>(1, n));
}

/// ||a||_2, or ||a - b||_2, of each row.
inline PoolVector<double> row_norms(const Tensor& a, const Tensor& b = {}) {
  const std::int64_t n = a.shape()[1];
  PoolVector<double> result(static_cast<std::size_t>(a.shape()[0]));
  dispatch_floating(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *rows = a.data<T>(), *others = b.defined() ? b.data<T>() : nullptr;
    parallel_for(a.shape()[0], row_grain(n), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t s = begin; s < end; ++s)
        result[static_cast<std::size_t>(s)] =
            others ? distance(rows + s * n, others + s * n, n) : norm(rows + s * n, n);
    });
  });
  return result;
}

template <class T>
bool all_finite(const T* a, std::int64_t n) {
  if (std::isfinite(simd::kernels<T>().squared_norm(a, n))) return true;
  return std::all_of(a, a + n, [](T x) { return std::isfinite(x); });
}

/// y += alpha x
template <class T>
void axpy(double alpha, const T* x, T* y, std::int64_t n) {
  simd::kernels<T>().axpy(static_cast<T>(alpha), x, y, n);
}

/// Gram and Schmidt, up to 32 rows at a time: x loses its parts along `count` orthonormal rows, one after
/// another from `rows` on; the inner products are added to `overlaps`.
template <class T>
void project_out(const T* rows, std::int64_t count, T* x, std::int64_t n, double* overlaps) {
  constexpr std::int64_t most = 32;
  std::array<double, most> parts;
  for (std::int64_t first = 0; first < count; first += most) {
    const std::int64_t taken = std::min(most, count - first);
    simd::history<T>().wide_dots(rows + first * n, taken, x, n, parts.data());
    for (std::int64_t i = 0; i < taken; ++i) {
      double& part = parts[static_cast<std::size_t>(i)];
      overlaps[first + i] += part;
      part = -part;
    }
    simd::history<T>().combine(x, rows + first * n, taken, parts.data(), n, x);
  }
}

/// out = a - b; may be in place.
template <class T>
void subtract(const T* a, const T* b, T* out, std::int64_t n) {
  simd::kernels<T>().sub.vv(a, b, out, n);
}

/// out = a / divisor, which may lie outside the range of T; may be in place.
template <class T>
void divide(const T* a, double divisor, T* out, std::int64_t n) {
  const auto near = static_cast<T>(divisor);
  if (std::isnormal(near)) return simd::kernels<T>().div.vs(a, near, out, n);
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(static_cast<double>(a[i]) / divisor);
}

template <class T>
void copy(const T* from, T* to, std::int64_t n) {
  std::copy_n(from, n, to);
}

/// out = z + damping (f - z); with damping 1, f itself.
template <class T>
void damped_step(const T* z, const T* f, double damping, T* out, std::int64_t n) {
  if (damping == 1.0) return copy(f, out, n);
  const T factor = static_cast<T>(damping);
  for (std::int64_t i = 0; i < n; ++i) out[i] = z[i] + factor * (f[i] - z[i]);
}

/// Whether a difference of two residuals f - z is no more than the rounding of f: it then says nothing about
/// the Jacobian, and a step that relied on it could land anywhere.
template <class T>
bool is_rounding(const T* difference, const T* f, std::int64_t n) {
  return norm(difference, n) <= 10.0 * static_cast<double>(std::numeric_limits<T>::epsilon()) * norm(f, n);
}

/// Calls body(begin, end) on pieces of the batch whose size depends on n alone, possibly at the same time.
inline void for_pieces(std::int64_t batch, std::int64_t n,
                       FunctionRef<void(std::int64_t, std::int64_t)> body) {
  constexpr std::int64_t elements = 8192;  // some microseconds of work
  parallel_for(batch, std::max<std::int64_t>(1, elements / std::max<std::int64_t>(1, n)), body);
}

/// Calls body(sample, work) for every active sample, possibly at the same time; work = make() is for one
/// sample after another.
template <class Make, class Body>
void for_active(std::span<const char> active, std::int64_t n, Make make, Body body) {
  for_pieces(static_cast<std::int64_t>(active.size()), n, [&](std::int64_t begin, std::int64_t end) {
    auto work = make();
    for (std::int64_t s = begin; s < end; ++s)
      if (active[static_cast<std::size_t>(s)]) body(s, work);
  });
}

/// The same without work.
inline void for_active(std::span<const char> active, std::int64_t n, FunctionRef<void(std::int64_t)> body) {
  for_active(
      active, n, [] { return 0; }, [&](std::int64_t s, int) { body(s); });
}

}  // namespace banach::vec
