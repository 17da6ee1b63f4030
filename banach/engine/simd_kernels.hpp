#pragma once
// Internal: the kernels of simd.hpp, templated on the xsimd architecture; included only by the sources built
// per instruction set, after <xsimd/xsimd.hpp> in a namespace of their own. All in an anonymous namespace,
// see simd_math.hpp.

#include <banach/engine/simd.hpp>
#include <banach/engine/simd_math.hpp>

namespace banach::simd {
namespace {

// ---- Loops
// ----------------------------------------------------------------------------------------------------

/// Reads whole batches at offset i.
template <class B>
struct Whole {
  std::int64_t i;
  B operator()(const Scalar<B>* x, Scalar<B> = 0) const { return B::load_unaligned(x + i); }
};

#if defined(__AVX512F__)
/// The first `count` lanes from x, less than a batch; the others hold `padding`.
template <class B>
B load_first(const Scalar<B>* x, std::int64_t count, Scalar<B> padding) {
  if constexpr (sizeof(Scalar<B>) == 4)
    return _mm512_mask_loadu_ps(B(padding), static_cast<__mmask16>((1u << count) - 1), x);
  else
    return _mm512_mask_loadu_pd(B(padding), static_cast<__mmask8>((1u << count) - 1), x);
}
template <class B>
void store_first(B lanes, Scalar<B>* y, std::int64_t count) {
  if constexpr (sizeof(Scalar<B>) == 4)
    _mm512_mask_storeu_ps(y, static_cast<__mmask16>((1u << count) - 1), lanes);
  else
    _mm512_mask_storeu_pd(y, static_cast<__mmask8>((1u << count) - 1), lanes);
}
#elif defined(__AVX2__)
/// All bits set in the first `count` lanes.
template <class T>
__m256i first_lanes(std::int64_t count) {
  if constexpr (sizeof(T) == 4)
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  else
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
template <class B>
B load_first(const Scalar<B>* x, std::int64_t count, Scalar<B> padding) {
  const __m256i mask = first_lanes<Scalar<B>>(count);
  if constexpr (sizeof(Scalar<B>) == 4)
    return _mm256_blendv_ps(B(padding), _mm256_maskload_ps(x, mask), _mm256_castsi256_ps(mask));
  else
    return _mm256_blendv_pd(B(padding), _mm256_maskload_pd(x, mask), _mm256_castsi256_pd(mask));
}
template <class B>
void store_first(B lanes, Scalar<B>* y, std::int64_t count) {
  const __m256i mask = first_lanes<Scalar<B>>(count);
  if constexpr (sizeof(Scalar<B>) == 4)
    _mm256_maskstore_ps(y, mask, lanes);
  else
    _mm256_maskstore_pd(y, mask, lanes);
}
#else
template <class B>
B load_first(const Scalar<B>* x, std::int64_t count, Scalar<B> padding) {
  alignas(64) Scalar<B> lanes[B::size];
  for (std::int64_t j = 0; j < static_cast<std::int64_t>(B::size); ++j) lanes[j] = j < count ? x[j] : padding;
  return B::load_aligned(lanes);
}
template <class B>
void store_first(B batch, Scalar<B>* y, std::int64_t count) {
  alignas(64) Scalar<B> lanes[B::size];
  batch.store_aligned(lanes);
  for (std::int64_t j = 0; j < count; ++j) y[j] = lanes[j];
}
#endif

/// Reads the last, partial batch at offset i; lanes past the end hold `padding`.
template <class B>
struct Partial {
  std::int64_t i, n;
  B operator()(const Scalar<B>* x, Scalar<B> padding = 0) const {
    return load_first<B>(x + i, n - i, padding);
  }
};

/// y[i] = compute(load)[i], where compute reads its arguments through load. The tail goes through the same
/// batch operation as the rest, padded with ones, so that an element's bits do not depend on where it stands.
/// `unroll` batches a turn hide the latency of cheap operations.
template <class B, int unroll, class Compute>
void elementwise(Scalar<B>* y, std::int64_t n, const Compute& compute) {
  constexpr std::int64_t width = B::size;
  std::int64_t i = 0;
  if constexpr (unroll == 4) {
    for (; i + 4 * width <= n; i += 4 * width) {
      const B y0 = compute(Whole<B>{i}), y1 = compute(Whole<B>{i + width});
      const B y2 = compute(Whole<B>{i + 2 * width}), y3 = compute(Whole<B>{i + 3 * width});
      y0.store_unaligned(y + i);
      y1.store_unaligned(y + i + width);
      y2.store_unaligned(y + i + 2 * width);
      y3.store_unaligned(y + i + 3 * width);
    }
  }
  for (; i + width <= n; i += width) compute(Whole<B>{i}).store_unaligned(y + i);
  if (i < n) store_first<B>(compute(Partial<B>{i, n}), y + i, n - i);
}

/// Combines lane j with lane j + n / 2, and so on: a fixed tree.
template <class T, std::size_t n, class Combine>
T across(typename Lanes<T, n>::Type x, const Combine& combine) {
  if constexpr (n == 2) {
    return combine(x[0], x[1]);
  } else {
    const auto half = [&]<std::size_t... j>(std::size_t from, std::index_sequence<j...>) {
      return from == 0 ? __builtin_shufflevector(x, x, j...) : __builtin_shufflevector(x, x, (j + n / 2)...);
    };
    constexpr std::make_index_sequence<n / 2> half_lanes;
    return across<T, n / 2>(combine(half(0, half_lanes), half(1, half_lanes)), combine);
  }
}
template <class B, class Combine>
Scalar<B> across_lanes(B x, const Combine& combine) {
  return across<Scalar<B>, B::size>(x.data, combine);
}

template <class B>
Scalar<B> sum_of_lanes(B x) {
  return across_lanes(x, [](auto a, auto b) { return a + b; });
}

/// The sums of what step(accumulators, load) adds to `count` batches for elements begin to end, lanes past
/// the end adding nothing, in four batches each.
template <class B, int count, class Step>
void block_sums(std::int64_t begin, std::int64_t end, const Step& step, double* sums) {
  constexpr std::int64_t width = B::size;
  B s0[count], s1[count], s2[count], s3[count];
  for (int k = 0; k < count; ++k) s0[k] = s1[k] = s2[k] = s3[k] = B(Scalar<B>(0));
  std::int64_t i = begin;
  for (; i + 4 * width <= end; i += 4 * width) {
    step(s0, Whole<B>{i});
    step(s1, Whole<B>{i + width});
    step(s2, Whole<B>{i + 2 * width});
    step(s3, Whole<B>{i + 3 * width});
  }
  for (; i + width <= end; i += width) step(s0, Whole<B>{i});
  if (i < end) step(s1, Partial<B>{i, end});
  for (int k = 0; k < count; ++k)
    sums[k] = static_cast<double>(sum_of_lanes((s0[k] + s1[k]) + (s2[k] + s3[k])));
}

/// The same for n elements. Blocks of 2048 of them are added up in T, block sums in double, with compensation
/// (Neumaier 1974). The order depends on n only.
template <class B, int count, class Step>
void sums_of(std::int64_t n, const Step& step, double* sums) {
  constexpr std::int64_t block = 2048;
  if (n <= block) return block_sums<B, count>(0, n, step, sums);
  double lost[count] = {};
  for (int k = 0; k < count; ++k) sums[k] = 0;
  for (std::int64_t begin = 0; begin < n; begin += block) {
    double parts[count];
    block_sums<B, count>(begin, begin + block < n ? begin + block : n, step, parts);
    for (int k = 0; k < count; ++k) {
      const double next = sums[k] + parts[k], back = next - sums[k];
      lost[k] += (sums[k] - (next - back)) + (parts[k] - back);
      sums[k] = next;
    }
  }
  for (int k = 0; k < count; ++k)
    if (lost[k] == lost[k]) sums[k] += lost[k];  // an infinite total leaves NaN in lost
}

/// One such sum; step(accumulator, load) gives the accumulator's new value.
template <class B, class Step>
double sum_of(std::int64_t n, const Step& step) {
  double sum = 0;
  sums_of<B, 1>(
      n, [&](B(&s)[1], auto load) { s[0] = step(s[0], load); }, &sum);
  return sum;
}

// ---- One argument
// ----------------------------------------------------------------------------------------------

/// The kernel that applies op to every element.
template <class B, auto op, int unroll = 1>
void map(const Scalar<B>* x, Scalar<B>* y, std::int64_t n) {
  elementwise<B, unroll>(y, n, [=](auto load) { return op(load(x, 1)); });
}

template <class B>
B square_of(B x) {
  return x * x;
}
template <class B>
B reciprocal_of(B x) {
  return B(Scalar<B>(1)) / x;
}
template <class B>
B square_root(B x) {
  return xsimd::sqrt(x);
}
template <class B>
B reciprocal_square_root(B x) {
  return B(Scalar<B>(1)) / xsimd::sqrt(x);
}
template <class B>
B relu_of(B x) {
  return xsimd::max(B(Scalar<B>(0)), x);  // in this order NaN passes through
}
template <class B>
B sign_of(B x) {
  return xsimd::select(magnitude(x) > B(Scalar<B>(0)), sign_bit(x) | B(Scalar<B>(1)), x);
}

template <class B>
void leaky_relu(const Scalar<B>* x, Scalar<B> slope, Scalar<B>* y, std::int64_t n) {
  elementwise<B, 4>(y, n, [=](auto load) {
    const B v = load(x);
    return xsimd::select(v > B(Scalar<B>(0)), v, v * B(slope));
  });
}
template <class B>
void clamp(const Scalar<B>* x, Scalar<B> low, Scalar<B> high, Scalar<B>* y, std::int64_t n) {
  elementwise<B, 4>(y, n, [=](auto load) { return xsimd::min(B(high), xsimd::max(B(low), load(x))); });
}
template <class B>
void scale_add(const Scalar<B>* x, Scalar<B> scale, Scalar<B> shift, Scalar<B>* y, std::int64_t n) {
  elementwise<B, 4>(y, n, [=](auto load) { return multiply_add(load(x), B(scale), B(shift)); });
}

template <class B>
void elu(const Scalar<B>* x, Scalar<B> alpha, Scalar<B>* y, std::int64_t n) {
  using C = ConstantsOf<B>;
  elementwise<B, 1>(y, n, [=](auto load) {
    const B v = load(x);
    // exp(v) - 1 where v is not positive; tiny v are exact, and keep the sign of zero.
    const B power = expm1_in_range(xsimd::max(B(C::expm1_low), v));
    const B below = xsimd::select(v > B(-C::epsilon / 4), v, power);
    return xsimd::select(v > B(Scalar<B>(0)), v, B(alpha) * below);
  });
}
template <class B>
B elu_slope_of(B x, Scalar<B> alpha, Scalar<B> above) {
  return xsimd::select(x > B(Scalar<B>(0)), B(above), B(alpha) * exponential(x));
}
template <class B>
void elu_slope(const Scalar<B>* x, Scalar<B> alpha, Scalar<B> above, Scalar<B>* y, std::int64_t n) {
  elementwise<B, 1>(y, n, [=](auto load) { return elu_slope_of<B>(load(x), alpha, above); });
}
template <class B>
void elu_vjp(const Scalar<B>* g, const Scalar<B>* x, Scalar<B> alpha, Scalar<B> above, Scalar<B>* out,
             std::int64_t n) {
  elementwise<B, 1>(out, n, [=](auto load) { return load(g) * elu_slope_of<B>(load(x), alpha, above); });
}
template <class B>
void elu_vjp_vjp(const Scalar<B>* u, const Scalar<B>* g, const Scalar<B>* x, Scalar<B> alpha, Scalar<B> above,
                 Scalar<B>* of_g, Scalar<B>* of_x, std::int64_t n) {
  constexpr std::int64_t width = B::size;
  const auto both = [=](auto load, auto store) {
    const B at = load(x), of_u = load(u), bent = elu_slope_of<B>(at, alpha, 0), of_both = of_u * load(g);
    store(of_u * xsimd::select(at > B(Scalar<B>(0)), B(above), bent), of_g);
    store(of_both * bent, of_x);
  };
  std::int64_t i = 0;
  for (; i + width <= n; i += width)
    both(Whole<B>{i}, [i](B lanes, Scalar<B>* to) { lanes.store_unaligned(to + i); });
  if (i < n) both(Partial<B>{i, n}, [i, n](B lanes, Scalar<B>* to) { store_first<B>(lanes, to + i, n - i); });
}

/// The kernel that applies op to every pair of elements.
template <class B, auto op>
void zip(const Scalar<B>* a, const Scalar<B>* b, Scalar<B>* out, std::int64_t n) {
  elementwise<B, 4>(out, n, [=](auto load) { return op(load(a, 1), load(b, 1)); });
}

template <class B>
B tanh_vjp(B g, B y) {
  return g * (B(Scalar<B>(1)) - y * y);
}
template <class B>
B sigmoid_vjp(B g, B y) {
  return g * (y * (B(Scalar<B>(1)) - y));
}
template <class B>
B relu_vjp(B g, B y) {
  const B zero(Scalar<B>(0));
  return xsimd::select(y > zero, g, zero);
}

// ---- Two and three arguments
// -----------------------------------------------------------------------------------

template <class B, auto op>
constexpr Binary<Scalar<B>> binary() {
  using T = Scalar<B>;
  return {
      .vv = zip<B, op>,
      .vs =
          [](const T* a, T b, T* out, std::int64_t n) {
            elementwise<B, 4>(out, n, [=](auto load) { return op(load(a, 1), B(b)); });
          },
      .sv =
          [](T a, const T* b, T* out, std::int64_t n) {
            elementwise<B, 4>(out, n, [=](auto load) { return op(B(a), load(b, 1)); });
          },
  };
}

template <class B>
B plus(B a, B b) {
  return a + b;
}
template <class B>
B minus(B a, B b) {
  return a - b;
}
template <class B>
B times(B a, B b) {
  return a * b;
}
template <class B>
B over(B a, B b) {
  return a / b;
}
template <class B>
B larger(B a, B b) {
  return xsimd::select(a == a, xsimd::max(a, b), a);  // max itself gives b when either is NaN
}
template <class B>
B smaller(B a, B b) {
  return xsimd::select(a == a, xsimd::min(a, b), a);
}
template <class B>
B one_where(xsimd::batch_bool<Scalar<B>, typename B::arch_type> mask) {
  return xsimd::select(mask, B(Scalar<B>(1)), B(Scalar<B>(0)));
}
template <class B>
B is_equal(B a, B b) {
  return one_where<B>(a == b);
}
template <class B>
B is_not_equal(B a, B b) {
  return one_where<B>(!(a == b));  // xsimd's != is false for NaN on AVX
}
template <class B>
B is_less(B a, B b) {
  return one_where<B>(a < b);
}
template <class B>
B is_less_equal(B a, B b) {
  return one_where<B>(a <= b);
}
template <class B>
B is_greater(B a, B b) {
  return one_where<B>(a > b);
}
template <class B>
B is_greater_equal(B a, B b) {
  return one_where<B>(a >= b);
}

template <class B>
void choose(const Scalar<B>* condition, const Scalar<B>* a, const Scalar<B>* b, Scalar<B>* out,
            std::int64_t n) {
  elementwise<B, 4>(
      out, n, [=](auto load) { return xsimd::select(load(condition) == B(Scalar<B>(0)), load(b), load(a)); });
}
template <class B>
void axpy(Scalar<B> alpha, const Scalar<B>* x, Scalar<B>* y, std::int64_t n) {
  elementwise<B, 4>(y, n, [=](auto load) { return multiply_add(load(x), B(alpha), load(y)); });
}
template <class B>
void add_to(const Scalar<B>* x, Scalar<B>* y, std::int64_t n) {
  elementwise<B, 4>(y, n, [=](auto load) { return load(y) + load(x); });
}

// ---- Reductions
// ------------------------------------------------------------------------------------------------

template <class B>
Scalar<B> sum(const Scalar<B>* x, std::int64_t n) {
  return static_cast<Scalar<B>>(sum_of<B>(n, [=](B s, auto load) { return s + load(x); }));
}
template <class B>
Scalar<B> dot(const Scalar<B>* a, const Scalar<B>* b, std::int64_t n) {
  return static_cast<Scalar<B>>(
      sum_of<B>(n, [=](B s, auto load) { return multiply_add(load(a), load(b), s); }));
}
/// Eight lanes a vector, so that all instruction sets add in the same order; products of floats are exact.
inline double wide_dot_of_floats(const float* a, const float* b, std::int64_t n) {
  typedef float Narrow __attribute__((vector_size(32)));
  typedef double Wide __attribute__((vector_size(64)));
  Wide sums[4] = {};
  const auto add = [&](Wide& sum, const float* x, const float* y) {
    Narrow nx, ny;
    __builtin_memcpy(&nx, x, sizeof nx);
    __builtin_memcpy(&ny, y, sizeof ny);
    sum += __builtin_convertvector(nx, Wide) * __builtin_convertvector(ny, Wide);
  };
  std::int64_t i = 0;
  for (; i + 32 <= n; i += 32)
    for (int k = 0; k < 4; ++k) add(sums[k], a + i + 8 * k, b + i + 8 * k);
  for (; i + 8 <= n; i += 8) add(sums[0], a + i, b + i);
  const Wide all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double result = 0.0;
  for (; i < n; ++i) result += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (int lane = 0; lane < 8; ++lane) result += all[lane];
  return result;
}
template <class B>
double wide_dot(const Scalar<B>* a, const Scalar<B>* b, std::int64_t n) {
  if constexpr (sizeof(Scalar<B>) == sizeof(float))
    return wide_dot_of_floats(a, b, n);
  else
    return dot<B>(a, b, n);
}
template <class B>
Scalar<B> squared_norm(const Scalar<B>* x, std::int64_t n) {
  return dot<B>(x, x, n);
}
template <class B>
Scalar<B> squared_distance(const Scalar<B>* a, const Scalar<B>* b, std::int64_t n) {
  return static_cast<Scalar<B>>(sum_of<B>(n, [=](B s, auto load) {
    const B difference = load(a) - load(b);
    return multiply_add(difference, difference, s);
  }));
}
struct Largest {
  template <class V>  // a batch or a number
  V operator()(V a, V b) const {
    if constexpr (requires { typename V::arch_type; })
      return xsimd::max(a, b);
    else
      return a > b ? a : b;
  }
};
struct Smallest {
  template <class V>
  V operator()(V a, V b) const {
    if constexpr (requires { typename V::arch_type; })
      return xsimd::min(a, b);
    else
      return a < b ? a : b;
  }
};
/// The largest (or smallest) of all elements, NaN if any is; `nothing` for none. The instructions keep a NaN
/// on one side only, so it is looked for apart: quicker than a comparison that keeps it.
template <class B, class Combine>
Scalar<B> extremum(const Scalar<B>* x, std::int64_t n, Scalar<B> nothing, const Combine& combine) {
  constexpr std::int64_t width = B::size;
  B m0(nothing), m1(nothing), m2(nothing), m3(nothing);
  auto numbers = m0 == m0;
  std::int64_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
    const B x0 = Whole<B>{i}(x), x1 = Whole<B>{i + width}(x);
    const B x2 = Whole<B>{i + 2 * width}(x), x3 = Whole<B>{i + 3 * width}(x);
    m0 = combine(m0, x0), m1 = combine(m1, x1), m2 = combine(m2, x2), m3 = combine(m3, x3);
    numbers = numbers & ((x0 == x0) & (x1 == x1)) & ((x2 == x2) & (x3 == x3));
  }
  for (; i < n; i += width) {
    const B last = i + width <= n ? Whole<B>{i}(x) : Partial<B>{i, n}(x, nothing);
    m0 = combine(m0, last);
    numbers = numbers & (last == last);
  }
  if (!xsimd::all(numbers)) return static_cast<Scalar<B>>(__builtin_nan(""));
  return across_lanes(combine(combine(m0, m1), combine(m2, m3)), combine);
}
template <class B>
Scalar<B> maximum_of(const Scalar<B>* x, std::int64_t n) {
  return extremum<B>(x, n, static_cast<Scalar<B>>(-__builtin_inf()), Largest());
}
template <class B>
Scalar<B> minimum_of(const Scalar<B>* x, std::int64_t n) {
  return extremum<B>(x, n, static_cast<Scalar<B>>(__builtin_inf()), Smallest());
}

// ---- Rows
// ------------------------------------------------------------------------------------------------------

/// log(sum(exp(x - shift))), in double.
template <class B>
double log_sum_exp_shifted(const Scalar<B>* x, Scalar<B> shift, std::int64_t n) {
  const auto lowest = static_cast<Scalar<B>>(-__builtin_inf());
  return __builtin_log(
      sum_of<B>(n, [=](B s, auto load) { return s + exponential(load(x, lowest) - B(shift)); }));
}
template <class B>
Scalar<B> log_sum_exp(const Scalar<B>* x, std::int64_t n) {
  const Scalar<B> largest = maximum_of<B>(x, n);
  if (!(largest - largest == 0)) return largest;  // infinite or NaN
  return static_cast<Scalar<B>>(static_cast<double>(largest) + log_sum_exp_shifted<B>(x, largest, n));
}
template <class B>
void log_softmax_row(const Scalar<B>* x, Scalar<B>* y, std::int64_t n) {
  // The maximum goes off first: x - log_sum_exp(x) would lose the digits that rows far from 0 share.
  const Scalar<B> largest = maximum_of<B>(x, n);
  const auto rest = static_cast<Scalar<B>>(log_sum_exp_shifted<B>(x, largest, n));
  elementwise<B, 4>(y, n, [=](auto load) { return (load(x) - B(largest)) - B(rest); });
}
template <class B>
void softmax_row(const Scalar<B>* x, Scalar<B>* y, std::int64_t n) {
  const Scalar<B> largest = maximum_of<B>(x, n);
  elementwise<B, 1>(y, n, [=](auto load) { return exponential(load(x) - B(largest)); });
  const auto scale = static_cast<Scalar<B>>(1 / sum_of<B>(n, [=](B s, auto load) { return s + load(y); }));
  elementwise<B, 4>(y, n, [=](auto load) { return load(y) * B(scale); });
}
template <class B>
void softmax_vjp_row(const Scalar<B>* g, const Scalar<B>* y, Scalar<B>* out, std::int64_t n) {
  const B projection(dot<B>(g, y, n));
  elementwise<B, 4>(out, n, [=](auto load) { return load(y) * (load(g) - projection); });
}
/// p = exp(scale p - largest); their sum.
template <class B>
double attention_weights(Scalar<B>* p, Scalar<B> scale, Scalar<B> largest, std::int64_t n) {
  using T = Scalar<B>;
  constexpr std::int64_t width = B::size, block = 2048;
  const auto nothing = static_cast<T>(scale > 0 ? -__builtin_inf() : __builtin_inf());
  double total = 0;
  for (std::int64_t begin = 0; begin < n; begin += block) {
    const std::int64_t end = begin + block < n ? begin + block : n;
    B sum(T{0});
    const auto weight = [&](B x) {
      const B e = exponential(multiply_add(x, B(scale), B(-largest)));
      sum = sum + e;
      return e;
    };
    std::int64_t i = begin;
    for (; i + width <= end; i += width) weight(Whole<B>{i}(p)).store_unaligned(p + i);
    if (i < end) store_first<B>(weight(Partial<B>{i, end}(p, nothing)), p + i, end - i);
    total += static_cast<double>(across_lanes(sum, [](auto a, auto b) { return a + b; }));
  }
  return total;
}
template <class B>
void attention_rows(Scalar<B>* p, std::int64_t ld, std::int64_t rows, std::int64_t first, std::int64_t limit,
                    Scalar<B> scale) {
  using T = Scalar<B>;
  constexpr auto lowest = static_cast<T>(-__builtin_inf());
  constexpr std::int64_t most = 16, cached = 4096;
  const auto fill = [](T* x, T value, std::int64_t n) {
    elementwise<B, 1>(x, n, [=](auto) { return B(value); });
  };
  // Some rows at a time, step by step: a row has to wait for every step of its own, but not for other rows.
  const std::int64_t together = limit <= 0 ? most : limit > cached / most ? cached / limit + 1 : most;
  for (std::int64_t begin = 0; begin < rows; begin += together, p += together * ld) {
    const std::int64_t count = together < rows - begin ? together : rows - begin;
    std::int64_t n[most];
    T largest[most], share[most], factor = scale;
    double total[most];
    for (std::int64_t r = 0; r < count; ++r) {
      n[r] = first + begin + r < limit ? first + begin + r : limit;
      T* row = p + r * ld;
      if (scale == 0) {  // 0 * infinity is NaN
        elementwise<B, 4>(row, n[r], [=](auto load) { return load(row) * B(scale); });
        factor = 1;
      }
      largest[r] = factor > 0 ? maximum_of<B>(row, n[r]) * factor : minimum_of<B>(row, n[r]) * factor;
    }
    for (std::int64_t r = 0; r < count; ++r) {
      if (n[r] == 0) largest[r] = lowest;
      if (largest[r] == lowest) fill(p + r * ld, 0, n[r]);
      total[r] = largest[r] == lowest ? 1 : attention_weights<B>(p + r * ld, factor, largest[r], n[r]);
    }
    for (std::int64_t r = 0; r < count; ++r) share[r] = static_cast<T>(1 / total[r]);
    for (std::int64_t r = 0; r < count; ++r) {
      T* row = p + r * ld;
      const B of_row(share[r]);
      elementwise<B, 4>(row, n[r], [=](auto load) { return load(row) * of_row; });
      fill(row + n[r], 0, limit - n[r]);
    }
  }
}
template <class B>
void attention_vjp_row(const Scalar<B>* p, Scalar<B> scale, Scalar<B>* g, std::int64_t n) {
  const B zero(Scalar<B>(0));
  const auto projection = static_cast<Scalar<B>>(sum_of<B>(n, [=](B s, auto load) {
    const B weight = load(p);
    return multiply_add(weight, xsimd::select(weight == zero, zero, load(g)), s);
  }));
  elementwise<B, 4>(g, n, [=](auto load) {
    const B weight = load(p);
    return xsimd::select(weight == zero, zero, B(scale) * (weight * (load(g) - B(projection))));
  });
}

/// Mean, and 1 / sqrt(variance + eps).
template <class T>
struct Moments {
  T mean, rstd;
};
template <class B>
Moments<Scalar<B>> moments(const Scalar<B>* x, Scalar<B> eps, std::int64_t n) {
  const double count = n > 0 ? static_cast<double>(n) : 1.0;
  const auto mean = static_cast<Scalar<B>>(sum_of<B>(n, [=](B s, auto load) { return s + load(x); }) / count);
  const double variance = sum_of<B>(n,
                                    [=](B s, auto load) {
                                      const B difference = load(x, mean) - B(mean);
                                      return multiply_add(difference, difference, s);
                                    }) /
                          count;
  return {mean, static_cast<Scalar<B>>(1 / __builtin_sqrt(variance + static_cast<double>(eps)))};
}
template <class B>
void normalize_row(const Scalar<B>* x, Scalar<B> eps, Scalar<B>* normalised, std::int64_t n, Scalar<B>* mean,
                   Scalar<B>* rstd) {
  const auto m = moments<B>(x, eps, n);
  elementwise<B, 4>(normalised, n, [=](auto load) { return (load(x) - B(m.mean)) * B(m.rstd); });
  *mean = m.mean;
  *rstd = m.rstd;
}
template <class B>
void layer_norm_row(const Scalar<B>* x, const Scalar<B>* gamma, const Scalar<B>* beta, Scalar<B> eps,
                    Scalar<B>* y, std::int64_t n) {
  const auto m = moments<B>(x, eps, n);
  elementwise<B, 4>(y, n, [=](auto load) {
    return multiply_add((load(x) - B(m.mean)) * B(m.rstd), load(gamma), load(beta));
  });
}
template <class B, class H>
void normalize_vjp_of(const H& h, const Scalar<B>* y, Scalar<B> rstd, Scalar<B>* out, std::int64_t n) {
  const double count = n > 0 ? static_cast<double>(n) : 1.0;
  const auto mean = static_cast<Scalar<B>>(sum_of<B>(n, [=](B s, auto load) { return s + h(load); }) / count);
  const auto along = static_cast<Scalar<B>>(
      sum_of<B>(n, [=](B s, auto load) { return multiply_add(h(load), load(y), s); }) / count);
  elementwise<B, 4>(out, n,
                    [=](auto load) { return B(rstd) * multiply_add(load(y), B(-along), h(load) - B(mean)); });
}
template <class B>
void normalize_vjp_row(const Scalar<B>* g, const Scalar<B>* gamma, const Scalar<B>* y, Scalar<B> rstd,
                       Scalar<B>* out, std::int64_t n) {
  if (gamma == nullptr)
    normalize_vjp_of<B>([=](auto load) { return load(g); }, y, rstd, out, n);
  else
    normalize_vjp_of<B>([=](auto load) { return load(g) * load(gamma); }, y, rstd, out, n);
}

// ---- The table
// -------------------------------------------------------------------------------------------------

template <class T, class Arch>
constexpr Kernels<T> table() {
  using B = xsimd::batch<T, Arch>;
  return {
      .neg = map<B, negative<B>, 4>,
      .abs = map<B, magnitude<B>, 4>,
      .square = map<B, square_of<B>, 4>,
      .reciprocal = map<B, reciprocal_of<B>, 4>,
      .sqrt = map<B, square_root<B>, 4>,
      .rsqrt = map<B, reciprocal_square_root<B>, 4>,
      .exp = map<B, exponential<B>>,
      .log = map<B, logarithm<B>>,
      .log1p = map<B, log1p<B>>,
      .expm1 = map<B, expm1<B>>,
      .sin = map<B, sine<0, B>>,
      .cos = map<B, sine<1, B>>,
      .tanh = map<B, hyperbolic_tangent<B>>,
      .erf = map<B, error_function<B>>,
      .sigmoid = map<B, sigmoid<B>>,
      .relu = map<B, relu_of<B>, 4>,
      .softplus = map<B, softplus<B>>,
      .sign = map<B, sign_of<B>, 4>,
      .leaky_relu = leaky_relu<B>,
      .clamp = clamp<B>,
      .scale_add = scale_add<B>,
      .add = binary<B, plus<B>>(),
      .sub = binary<B, minus<B>>(),
      .mul = binary<B, times<B>>(),
      .div = binary<B, over<B>>(),
      .maximum = binary<B, larger<B>>(),
      .minimum = binary<B, smaller<B>>(),
      .equal = binary<B, is_equal<B>>(),
      .not_equal = binary<B, is_not_equal<B>>(),
      .less = binary<B, is_less<B>>(),
      .less_equal = binary<B, is_less_equal<B>>(),
      .greater = binary<B, is_greater<B>>(),
      .greater_equal = binary<B, is_greater_equal<B>>(),
      .tanh_vjp = zip<B, tanh_vjp<B>>,
      .sigmoid_vjp = zip<B, sigmoid_vjp<B>>,
      .relu_vjp = zip<B, relu_vjp<B>>,
      .select = choose<B>,
      .axpy = axpy<B>,
      .add_to = add_to<B>,
      .sum = sum<B>,
      .dot = dot<B>,
      .wide_dot = wide_dot<B>,
      .max = maximum_of<B>,
      .min = minimum_of<B>,
      .squared_distance = squared_distance<B>,
      .squared_norm = squared_norm<B>,
      .log_sum_exp = log_sum_exp<B>,
      .softmax_row = softmax_row<B>,
      .log_softmax_row = log_softmax_row<B>,
      .softmax_vjp_row = softmax_vjp_row<B>,
      .attention_rows = attention_rows<B>,
      .attention_vjp_row = attention_vjp_row<B>,
      .normalize_row = normalize_row<B>,
      .layer_norm_row = layer_norm_row<B>,
      .normalize_vjp_row = normalize_vjp_row<B>,
      .elu = elu<B>,
      .elu_slope = elu_slope<B>,
      .elu_vjp = elu_vjp<B>,
      .elu_vjp_vjp = elu_vjp_vjp<B>,
  };
}

}  // namespace

// One pair of tables per instruction set: constant data, so that nothing runs before the processor is
// checked.
namespace detail {
extern const Kernels<float> sse2_float, avx2_float, avx512_float;
extern const Kernels<double> sse2_double, avx2_double, avx512_double;
}  // namespace detail

}  // namespace banach::simd
