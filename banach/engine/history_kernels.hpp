#pragma once
// Internal: the kernels of history.hpp, templated on the xsimd architecture; included only by the sources
// built per instruction set, after <xsimd/xsimd.hpp> in a namespace of their own. All in an anonymous
// namespace, see simd_math.hpp.
//
// Rows go in groups: enough of them to keep the multiply-adds busy, and few enough for the registers.

#include <banach/engine/history.hpp>
#include <banach/engine/simd_kernels.hpp>

namespace banach::simd {
namespace {

/// A number known when compiling, as an argument.
template <int value>
struct Count {
  static constexpr int size = value;
};

/// body(first, Count<k>) for groups of k = `most` rows, and then groups of 4, 2 and 1 for the rest of them.
template <int most, class Body>
void for_groups(std::int64_t first, std::int64_t count, const Body& body) {
  for (; first + most <= count; first += most) body(first, Count<most>());
  if constexpr (most > 1) for_groups<most / 2>(first, count, body);
}

// ---- Inner products ------------------------------------------------------------------------------------

template <class B>
void dots(const Scalar<B>* rows, std::int64_t count, const Scalar<B>* x, std::int64_t n, double* out) {
  using T = Scalar<B>;
  constexpr std::int64_t width = B::size, block = 2048;
  for_groups<4>(0, count, [&](std::int64_t first, auto group) {
    const T* row = rows + first * n;
    double totals[group.size] = {};
    for (std::int64_t begin = 0; begin < n; begin += block) {
      const std::int64_t end = begin + block < n ? begin + block : n;
      B even[group.size], odd[group.size];
      for (int k = 0; k < group.size; ++k) even[k] = odd[k] = B(T(0));
      const auto add = [&](B* sums, auto load) {
        const B at = load(x);
        for (int k = 0; k < group.size; ++k) sums[k] = multiply_add(load(row + k * n), at, sums[k]);
      };
      std::int64_t i = begin;
      for (; i + 2 * width <= end; i += 2 * width) {
        add(even, Whole<B>{i});
        add(odd, Whole<B>{i + width});
      }
      for (; i + width <= end; i += width) add(even, Whole<B>{i});
      if (i < end) add(odd, Partial<B>{i, end});
      for (int k = 0; k < group.size; ++k) totals[k] += static_cast<double>(sum_of_lanes(even[k] + odd[k]));
    }
    for (int k = 0; k < group.size; ++k) out[first + k] = totals[k];
  });
}

/// Numbers from x on, in double: as many as a batch D holds.
template <class D>
D load_wide(const double* x) {
  return D::load_unaligned(x);
}
template <class D>
D load_wide(const float* x) {
#if defined(__AVX512F__)
  return _mm512_cvtps_pd(_mm256_loadu_ps(x));
#elif defined(__AVX2__)
  return _mm256_cvtps_pd(_mm_loadu_ps(x));
#else
  return _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x))));
#endif
}
/// The first `count` of them, less than a batch; the others are zero.
template <class D, class T>
D load_wide(const T* x, std::int64_t count) {
  alignas(64) double lanes[D::size] = {};
  for (std::int64_t j = 0; j < count; ++j) lanes[j] = static_cast<double>(x[j]);
  return D::load_aligned(lanes);
}

/// Products with `vectors` vectors, in batches D of doubles.
template <class D, int vectors, class T>
void dots_in_double(const T* rows, std::int64_t count, const T* const* x, std::int64_t n,
                    double* const* out) {
  constexpr std::int64_t width = D::size;
  for_groups<4>(0, count, [&](std::int64_t first, auto group) {
    const T* row = rows + first * n;
    D sums[vectors][group.size];
    for (int v = 0; v < vectors; ++v)
      for (int k = 0; k < group.size; ++k) sums[v][k] = D(0.0);
    const auto add = [&](std::int64_t i, auto load) {
      D at[vectors];
      for (int v = 0; v < vectors; ++v) at[v] = load(x[v] + i);
      for (int k = 0; k < group.size; ++k) {
        const D entry = load(row + k * n + i);
        for (int v = 0; v < vectors; ++v) sums[v][k] = multiply_add(entry, at[v], sums[v][k]);
      }
    };
    std::int64_t i = 0;
    for (; i + width <= n; i += width) add(i, [](const T* p) { return load_wide<D>(p); });
    if (i < n) add(i, [left = n - i](const T* p) { return load_wide<D>(p, left); });
    for (int v = 0; v < vectors; ++v)
      for (int k = 0; k < group.size; ++k) out[v][first + k] = sum_of_lanes(sums[v][k]);
  });
}

template <class D, class T>
void wide_dots(const T* rows, std::int64_t count, const T* x, std::int64_t n, double* out) {
  dots_in_double<D, 1>(rows, count, &x, n, &out);
}
template <class D, class T>
void wide_dots_of_two(const T* rows, std::int64_t count, const T* x, const T* y, std::int64_t n,
                      double* out_x, double* out_y) {
  const T* const both[] = {x, y};
  double* const out[] = {out_x, out_y};
  dots_in_double<D, 2>(rows, count, both, n, out);
}

// ---- Sums ----------------------------------------------------------------------------------------------

template <class B>
void combine(const Scalar<B>* start, const Scalar<B>* rows, std::int64_t count, const double* coefficients,
             std::int64_t n, Scalar<B>* out) {
  using T = Scalar<B>;
  if (count == 0 && out != start) elementwise<B, 4>(out, n, [=](auto load) { return load(start); });
  for_groups<8>(0, count, [&](std::int64_t first, auto group) {
    const T* row = rows + first * n;
    B factors[group.size];
    for (int k = 0; k < group.size; ++k) factors[k] = B(static_cast<T>(coefficients[first + k]));
    elementwise<B, 4>(out, n, [&, from = first == 0 ? start : out](auto load) {
      B sum = load(from);
      for (int k = 0; k < group.size; ++k) sum = multiply_add(load(row + k * n), factors[k], sum);
      return sum;
    });
  });
}

template <class B>
void squared_lengths(const Scalar<B>* a, const Scalar<B>* b, const Scalar<B>* c, std::int64_t n,
                     Scalar<B>* out) {
  double sums[3];
  sums_of<B, 3>(
      n,
      [=](B(&s)[3], auto load) {
        const B at = load(a), from = load(b), difference = at - from, step = from - load(c);
        s[0] = multiply_add(at, at, s[0]);
        s[1] = multiply_add(difference, difference, s[1]);
        s[2] = multiply_add(step, step, s[2]);
      },
      sums);
  for (int k = 0; k < 3; ++k) out[k] = static_cast<Scalar<B>>(sums[k]);
}

// ---- The table -----------------------------------------------------------------------------------------

template <class T, class Arch>
constexpr HistoryKernels<T> history_of() {
  using B = xsimd::batch<T, Arch>;
  using D = xsimd::batch<double, Arch>;
  return {
      .dots = dots<B>,
      .wide_dots = wide_dots<D, T>,
      .wide_dots_of_two = wide_dots_of_two<D, T>,
      .combine = combine<B>,
      .squared_lengths = squared_lengths<B>,
  };
}

}  // namespace
}  // namespace banach::simd
