#pragma once
// Internal: elementary functions on xsimd batches, included only by the sources built per instruction set.
//
// Written here instead of taken from xsimd 8.1 because its exp flushes subnormal results to zero, its sin and
// cos choose a reduction by looking at the whole batch (an element's bits would depend on its neighbours),
// and its f64 conversions to integers go through memory without AVX-512. Everything below is branch-free
// within a lane, the same for every lane. Polynomials interpolate at Chebyshev points (exp, log, sin, cos) or
// at points crowded towards 1 (the tail of erf). Argument reduction follows Cody and Waite, "Software Manual
// for the Elementary Functions", 1980.
//
// All of it sits in an anonymous namespace: were two instruction sets to share one symbol, the linker could
// hand AVX-512 code to a processor that lacks it.

#include <cstddef>
#include <cstdint>
#include <utility>

namespace banach::simd {
namespace {

/// A vector that __builtin_shufflevector takes.
template <class T, std::size_t n>
struct Lanes {
  typedef T Type __attribute__((vector_size(n * sizeof(T))));
};

template <class T>
struct Constants;

template <>
struct Constants<float> {
  using Bits = std::uint32_t;
  static constexpr int mantissa_bits = 23;
  static constexpr float one_bits_bias = 127.0f;
  static constexpr Bits one = 0x3f800000u, sqrt_half = 0x3f3504f3u, mantissa_mask = 0x007fffffu;
  static constexpr float smallest_normal = 1.17549435e-38f, subnormal_scale = 33554432.0f,
                         subnormal_shift = 25.0f;
  static constexpr float epsilon = 1.1920929e-7f;
  // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer and leaves that integer in the low bits.
  static constexpr float magic = 12582912.0f;
  static constexpr Bits magic_bits = 0x4b400000u;
  // ln 2 with 12 bits in the leading part: n * ln2_high is exact for all |n| that occur.
  static constexpr float log2_e = 1.44269504f, ln2_high = 0.693115234375f, ln2_low = 3.1946184945309415e-05f;
  static constexpr float exp_low = -104.0f, exp_high = 89.0f, expm1_low = -18.0f, tanh_high = 10.0f;
  static constexpr float exp[] = {0.5f,           0.166666672f,   0.041666463f,
                                  0.00833331048f, 0.00139336742f, 0.000198910173f};
  static constexpr float log[] = {0.666666687f, 0.400001228f, 0.285507798f, 0.233316138f};
  // pi / 2 in pieces of 10 bits, so that products with n < 2^14 are exact.
  static constexpr float trig_limit = 20000.0f, two_over_pi = 0.636619772f;
  static constexpr float half_pi[] = {1.5703125f, 0.000483512878417969f, 3.13855707645416e-07f,
                                      6.07710050651e-11f};
  static constexpr float sin[] = {-0.166666672f, 0.00833333191f, -0.000198400841f, 2.72496209e-06f};
  static constexpr float cos[] = {0.0416666679f, -0.00138888881f, 2.48005981e-05f, -2.73007032e-07f};
  static constexpr float erf_high = 4.0f;
  static constexpr float erf_small[] = {1.12837923f,    -0.376126379f,    0.112837821f,    -0.0268654302f,
                                        0.00522103161f, -0.000848408032f, 0.000112659589f, -9.66704465e-06f};
  static constexpr float erf_tail[] = {-1.84960556f,  -2.63896751f,    -0.843108416f,  -0.0415508859f,
                                       0.0100100562f, -0.00196991884f, 0.00026890781f, -1.8100176e-05f};
};

template <>
struct Constants<double> {
  using Bits = std::uint64_t;
  static constexpr int mantissa_bits = 52;
  static constexpr double one_bits_bias = 1023.0;
  static constexpr Bits one = 0x3ff0000000000000u, sqrt_half = 0x3fe6a09e667f3bcdu,
                        mantissa_mask = 0x000fffffffffffffu;
  static constexpr double smallest_normal = 2.2250738585072014e-308, subnormal_scale = 18014398509481984.0,
                          subnormal_shift = 54.0;
  static constexpr double epsilon = 2.2204460492503131e-16;
  static constexpr double magic = 6755399441055744.0;
  static constexpr Bits magic_bits = 0x4338000000000000u;
  static constexpr double log2_e = 1.4426950408889634, ln2_high = 0.6931471805582987,
                          ln2_low = 1.6465949582897082e-12;
  static constexpr double exp_low = -746.0, exp_high = 710.0, expm1_low = -40.0, tanh_high = 22.0;
  static constexpr double exp[] = {0.5,
                                   0.1666666666666667,
                                   0.04166666666666667,
                                   0.00833333333332612,
                                   0.0013888888888883737,
                                   0.00019841269874873975,
                                   2.480158732558584e-05,
                                   2.755725533255441e-06,
                                   2.7557273594799413e-07,
                                   2.510524515390137e-08,
                                   2.0914707069612355e-09};
  static constexpr double log[] = {0.6666666666666666,  0.40000000000000885, 0.28571428570799784,
                                   0.22222222392581045, 0.18181795547521137, 0.15386244737621665,
                                   0.13268638369266825, 0.13088034850927555};
  static constexpr double trig_limit = 1.0e6, two_over_pi = 0.6366197723675814;
  // pi / 2 in pieces of 32 bits, so that products with n < 2^20 are exact.
  static constexpr double half_pi[] = {1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21,
                                       8.4784276603689e-32};
  static constexpr double sin[] = {-0.16666666666666666,  0.008333333333333331,  -0.0001984126984126504,
                                   2.755731921932058e-06, -2.50521062259944e-08, 1.6058530596645953e-10,
                                   -7.586636882825159e-13};
  static constexpr double cos[] = {0.041666666666666664,   -0.0013888888888888887, 2.4801587301584632e-05,
                                   -2.755731922139249e-07, 2.0876755787492604e-09, -1.1470460319209511e-11,
                                   4.745838412531023e-14};
  static constexpr double erf_high = 6.0;
  static constexpr double erf_small[] = {
      1.1283791670955126,     -0.37612638903183754,    0.1128379167095512,     -0.02686617064512984,
      0.0052239776254232985,  -0.000854832702193483,   0.00012055332902888736, -1.4925647567519332e-05,
      1.6462045441468418e-06, -1.6364642158167616e-07, 1.4792401209404813e-08, -1.216456005728345e-09,
      8.709045129053106e-11,  -4.230945824295338e-12};
  static constexpr double erf_tail[] = {
      -1.8496055099332482,     -2.6389675142347913,     -0.8431072563584854,     -0.041561098046524005,
      0.010033825434294173,    -0.0019779030210631842,  0.0002373247076281267,   2.6270370689871466e-05,
      -2.7141094487217702e-05, 9.577293997267298e-06,   -2.0185576967364396e-06, 1.0247541479419926e-07,
      1.274976064221816e-07,   -6.884659207136985e-08,  2.20185473387072e-08,    -5.100403760198198e-09,
      8.801386373851142e-10,   -1.1076059209400541e-10, 9.603616346535572e-12,   -5.118431801565935e-13,
      1.260669128379973e-14};
};

template <class B>
using Scalar = typename B::value_type;
template <class B>
using ConstantsOf = Constants<Scalar<B>>;
template <class B>
using BitsOf = xsimd::batch<typename ConstantsOf<B>::Bits, typename B::arch_type>;

template <class B>
BitsOf<B> to_bits(B x) {
  return xsimd::bitwise_cast<BitsOf<B>>(x);
}
template <class B>
B from_bits(BitsOf<B> bits) {
  return xsimd::bitwise_cast<B>(bits);
}
template <class B>
B sign_bit(B x) {
  return x & B(Scalar<B>(-0.0));
}
template <class B>
B magnitude(B x) {
  return x & from_bits<B>(~BitsOf<B>(0) >> 1);
}
/// Flips the sign of zeros too, which 0 - x does not.
template <class B>
B negative(B x) {
  return x ^ B(Scalar<B>(-0.0));
}

// a * b + c and c - a * b, fused where the instruction set can. xsimd 8.1 does not fuse on AVX-512.
#if defined(__AVX512F__)
template <class A>
xsimd::batch<float, A> multiply_add(xsimd::batch<float, A> a, xsimd::batch<float, A> b,
                                    xsimd::batch<float, A> c) {
  return _mm512_fmadd_ps(a, b, c);
}
template <class A>
xsimd::batch<double, A> multiply_add(xsimd::batch<double, A> a, xsimd::batch<double, A> b,
                                     xsimd::batch<double, A> c) {
  return _mm512_fmadd_pd(a, b, c);
}
template <class A>
xsimd::batch<float, A> negative_multiply_add(xsimd::batch<float, A> a, xsimd::batch<float, A> b,
                                             xsimd::batch<float, A> c) {
  return _mm512_fnmadd_ps(a, b, c);
}
template <class A>
xsimd::batch<double, A> negative_multiply_add(xsimd::batch<double, A> a, xsimd::batch<double, A> b,
                                              xsimd::batch<double, A> c) {
  return _mm512_fnmadd_pd(a, b, c);
}
#else
template <class B>
B multiply_add(B a, B b, B c) {
  return xsimd::fma(a, b, c);
}
template <class B>
B negative_multiply_add(B a, B b, B c) {
  return xsimd::fnma(a, b, c);
}
#endif

/// c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule; recursive so that it is unrolled at any optimisation
/// level.
template <int I = 0, class B, int N>
B polynomial(B x, const Scalar<B> (&c)[N]) {
  if constexpr (I == N - 1) {
    return B(c[I]);
  } else {
    return multiply_add(polynomial<I + 1>(x, c), x, B(c[I]));
  }
}

/// x + magic holds round(x) in its low bits (|x| < 2^22 or 2^51).
template <class B>
B round_to_magic(B x) {
  return x + B(ConstantsOf<B>::magic);
}

/// 2^n for n held in `magic + n`, as long as 2^n is a normal number.
template <class B>
B power_of_two(B magic_plus_n) {
  using C = ConstantsOf<B>;
  return from_bits<B>((to_bits(magic_plus_n) << C::mantissa_bits) + BitsOf<B>(C::one));
}

/// x 2^n for x in [1/2, 2] and an integer n, where 2^n itself may overflow, or be subnormal while the result
/// still has bits. One instruction on AVX-512; elsewhere by two factors.
#if defined(__AVX512F__)
template <class A>
xsimd::batch<float, A> times_power_of_two(xsimd::batch<float, A> x, xsimd::batch<float, A> n) {
  return _mm512_scalef_ps(x, n);
}
template <class A>
xsimd::batch<double, A> times_power_of_two(xsimd::batch<double, A> x, xsimd::batch<double, A> n) {
  return _mm512_scalef_pd(x, n);
}
#else
template <class B>
B times_power_of_two(B x, B n) {
  const B half = multiply_add(n, B(Scalar<B>(0.5)), B(ConstantsOf<B>::magic));
  const B rest = round_to_magic(n - (half - B(ConstantsOf<B>::magic)));
  return x * power_of_two(half) * power_of_two(rest);
}
#endif

/// x = n ln 2 + r with |r| <= ln(2) / 2; power = exp(r) - 1.
template <class B>
struct ReducedExp {
  B n_magic, n, power;

  explicit ReducedExp(B x) {
    using C = ConstantsOf<B>;
    n_magic = multiply_add(x, B(C::log2_e), B(C::magic));
    n = n_magic - B(C::magic);
    B r = negative_multiply_add(n, B(C::ln2_high), x);
    r = negative_multiply_add(n, B(C::ln2_low), r);
    power = multiply_add(r * r, polynomial(r, C::exp), r);
  }
};

// min and max return their second argument when either is NaN: bounds stand first, so that NaN passes
// through.

template <class B>
B exponential(B x) {
  using C = ConstantsOf<B>;
  const ReducedExp<B> reduced(xsimd::min(B(C::exp_high), xsimd::max(B(C::exp_low), x)));
  return times_power_of_two(B(Scalar<B>(1)) + reduced.power, reduced.n);
}

/// exp(x) - 1 for x in the range where neither 2^n nor the result overflows or is subnormal.
template <class B>
B expm1_in_range(B x) {
  const ReducedExp<B> reduced(x);
  const B scale = power_of_two(reduced.n_magic);
  return multiply_add(scale, reduced.power, scale - B(Scalar<B>(1)));
}

template <class B>
B expm1(B x) {
  using C = ConstantsOf<B>;
  const ReducedExp<B> reduced(xsimd::min(B(C::exp_high), xsimd::max(B(C::expm1_low), x)));
  // Half of 2^n, doubled at the end, so that n = 128 (1024) does not overflow too early.
  const B half_scale = power_of_two(reduced.n_magic - B(Scalar<B>(1)));
  const B half_result = multiply_add(half_scale, reduced.power, half_scale - B(Scalar<B>(0.5)));
  // Tiny x: exact, and keeps the sign of zero and the last bit of subnormals.
  return xsimd::select(magnitude(x) < B(C::epsilon / 4), x, half_result + half_result);
}

/// log(x) + low, for x > 0; `low` is a small correction added before the last roundings.
template <class B>
B log_positive(B x, B low) {
  using C = ConstantsOf<B>;
  const auto subnormal = x < B(C::smallest_normal);
  const B scaled = xsimd::select(subnormal, x * B(C::subnormal_scale), x);
  const auto bits = to_bits(scaled) + BitsOf<B>(C::one - C::sqrt_half);
  const B shift = xsimd::select(subnormal, B(C::magic + C::one_bits_bias + C::subnormal_shift),
                                B(C::magic + C::one_bits_bias));
  const B k = from_bits<B>((bits >> C::mantissa_bits) + BitsOf<B>(C::magic_bits)) - shift;
  // x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); log(1 + f) = 2 atanh(s) with s = f / (2 + f), arranged so
  // that the leading term is f itself, which is exact.
  const B f = from_bits<B>((bits & BitsOf<B>(C::mantissa_mask)) + BitsOf<B>(C::sqrt_half)) - B(Scalar<B>(1));
  const B s = f / (f + B(Scalar<B>(2)));
  const B z = s * s;
  const B half_square = B(Scalar<B>(0.5)) * f * f;
  const B tail = multiply_add(s, multiply_add(z, polynomial(z, C::log), half_square),
                              multiply_add(k, B(C::ln2_low), low));
  return multiply_add(k, B(C::ln2_high), f - (half_square - tail));
}

/// Gives `y`, the value of a logarithm that is right for finite x > 0, its special values.
template <class B>
B log_special_values(B x, B y) {
  const B infinity(static_cast<Scalar<B>>(__builtin_inf())), nan(static_cast<Scalar<B>>(__builtin_nan("")));
  y = xsimd::select(x == infinity, infinity, y);
  return xsimd::select(x > B(Scalar<B>(0)), y, xsimd::select(x == B(Scalar<B>(0)), negative(infinity), nan));
}

template <class B>
B logarithm(B x) {
  return log_special_values(x, log_positive(x, B(Scalar<B>(0))));
}

template <class B>
B log1p(B x) {
  using C = ConstantsOf<B>;
  const B one(Scalar<B>(1));
  const B u = one + x;
  const B back = u - one;
  const B lost = (one - (u - back)) + (x - back);  // 1 + x = u + lost exactly (Knuth's two-sum)
  const B y = log_special_values(u, log_positive(u, lost / u));
  return xsimd::select(magnitude(x) < B(C::epsilon / 4), x, y);
}

template <class B>
B hyperbolic_tangent(B x) {
  using C = ConstantsOf<B>;
  const B two(Scalar<B>(2));
  // tanh(a) = t / (t + 2) with t = exp(2a) - 1, accurate also near 0; the bound is where tanh rounds to 1.
  const B a = xsimd::min(B(C::tanh_high), magnitude(x));
  const B t = expm1_in_range(a + a);
  return (t / (t + two)) | sign_bit(x);
}

template <class B>
B sigmoid(B x) {
  const B one(Scalar<B>(1));
  const B e = exponential(magnitude(x) | B(Scalar<B>(-0.0)));  // exp(-|x|) cannot overflow
  return xsimd::select(x < B(Scalar<B>(0)), e, one) / (one + e);
}

template <class B>
B softplus(B x) {
  const B zero(Scalar<B>(0)), one(Scalar<B>(1));
  const B e = exponential(magnitude(x) | B(Scalar<B>(-0.0)));
  // log1p(e) for 0 <= e <= 1. Where u = 1 + e rounds to 1, lost = e and log(u) + lost / u = e, subnormals
  // included.
  const B u = one + e;
  const B lost = e - (u - one);
  return xsimd::max(zero, x) + log_positive(u, lost / u);
}

template <class B>
B error_function(B x) {
  using C = ConstantsOf<B>;
  const B one(Scalar<B>(1));
  const B a = xsimd::min(B(C::erf_high), magnitude(x));
  const B small = a * polynomial(a * a, C::erf_small);
  // erfc falls fast, so a fit of its logarithm over [1, high] needs care only near 1.
  const B tail = one - exponential(polynomial(a - one, C::erf_tail));
  return xsimd::select(a < one, small, tail) | sign_bit(x);
}

inline float scalar_sin(float x) { return __builtin_sinf(x); }
inline double scalar_sin(double x) { return __builtin_sin(x); }
inline float scalar_cos(float x) { return __builtin_cosf(x); }
inline double scalar_cos(double x) { return __builtin_cos(x); }

/// sin(x + quadrant * pi / 2), for quadrant = 0 (sin) or 1 (cos).
template <int quadrant, class B>
B sine(B x) {
  using C = ConstantsOf<B>;
  const auto n_magic = multiply_add(x, B(C::two_over_pi), B(C::magic));
  const B n = n_magic - B(C::magic);
  B r = x;
  for (const Scalar<B> piece : C::half_pi) r = negative_multiply_add(n, B(piece), r);
  const B z = r * r;
  const B one(Scalar<B>(1));
  const B sin_r = multiply_add(z * r, polynomial(z, C::sin), r);
  const B cos_r =
      multiply_add(z * z, polynomial(z, C::cos), negative_multiply_add(z, B(Scalar<B>(0.5)), one));
  const BitsOf<B> count = to_bits(n_magic) + BitsOf<B>(quadrant);
  const auto odd = from_bits<B>((count & BitsOf<B>(1)) + BitsOf<B>(C::one)) != one;
  const B sign = from_bits<B>((count & BitsOf<B>(2)) << (8 * static_cast<int>(sizeof(Scalar<B>)) - 2));
  B y = xsimd::select(odd, cos_r, sin_r) ^ sign;
  if constexpr (quadrant == 0) y = xsimd::select(magnitude(x) < B(C::epsilon / 4), x, y);

  // Huge, infinite and NaN arguments: the C library, lane by lane.
  const auto far = !(magnitude(x) <= B(C::trig_limit));
  if (xsimd::any(far)) {
    alignas(64) Scalar<B> in[B::size], out[B::size];
    x.store_aligned(in);
    y.store_aligned(out);
    for (std::size_t i = 0; i < B::size; ++i) {
      if (in[i] >= -C::trig_limit && in[i] <= C::trig_limit) continue;
      out[i] = quadrant == 0 ? scalar_sin(in[i]) : scalar_cos(in[i]);
    }
    y = B::load_aligned(out);
  }
  return y;
}

}  // namespace
}  // namespace banach::simd
