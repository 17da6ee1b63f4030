#pragma once
// Internal: what the interior point is written in: one double, or eight of them side by side, one of each
// problem. This is also compiled for each instruction set, so there are no standard containers here, and
// nothing with external linkage.

#include <cstdint>

namespace banach::qp {
namespace {

using Index = std::int64_t;

/// Eight problems side by side.
typedef double Lanes __attribute__((vector_size(64)));
typedef long LanesMask __attribute__((vector_size(64)));

template <class N>
struct Width;
template <>
struct Width<double> {
  using Mask = bool;
  static constexpr int value = 1;
};
template <>
struct Width<Lanes> {
  using Mask = LanesMask;
  static constexpr int value = 8;
};
template <class N>
using Mask = typename Width<N>::Mask;

template <class N>
N number(double x) {
  if constexpr (Width<N>::value == 1)
    return x;
  else
    return N{x, x, x, x, x, x, x, x};
}

inline double select(bool m, double a, double b) { return m ? a : b; }
inline Lanes select(LanesMask m, Lanes a, Lanes b) { return m ? a : b; }
/// b where a is NaN.
template <class N>
N smaller(N a, N b) {
  return select(a < b, a, b);
}
/// a where b is NaN.
template <class N>
N larger(N a, N b) {
  return select(b > a, b, a);
}
template <class N>
N magnitude(N a) {
  return select(a < number<N>(0.0), -a, a);
}
inline double square_root(double x) { return __builtin_sqrt(x); }
inline Lanes square_root(Lanes x) {
  for (int l = 0; l < 8; ++l) x[l] = __builtin_sqrt(x[l]);
  return x;
}
/// 2^-k where x is in [2^k, 2^(k+1)), for normal numbers x > 0 below 2^1023.
inline double inverse_power(double x) {
  constexpr long exponent = 0x7ff0000000000000, twice_one = 0x7fe0000000000000;
  return __builtin_bit_cast(double, twice_one - (__builtin_bit_cast(long, x) & exponent));
}
inline Lanes inverse_power(Lanes x) {
  for (int l = 0; l < 8; ++l) x[l] = inverse_power(x[l]);
  return x;
}
/// k where x is in [2^k, 2^(k+1)) or (-2^(k+1), -2^k], for normal numbers.
inline double exponent(double x) {
  return static_cast<double>((__builtin_bit_cast(long, x) >> 52 & 0x7ff) - 1023);
}
inline Lanes exponent(Lanes x) {
  for (int l = 0; l < 8; ++l) x[l] = exponent(x[l]);
  return x;
}
/// 2^k, of the whole number next to k, which is taken for -480 or 480 beyond these.
inline double power_of_two(double k) {
  const double next = (k < -480.0 ? -480.0 : k > 480.0 ? 480.0 : k) + 0x1.8p52;  // rounds
  return __builtin_bit_cast(double, (static_cast<long>(next - 0x1.8p52) + 1023) << 52);
}
inline Lanes power_of_two(Lanes x) {
  for (int l = 0; l < 8; ++l) x[l] = power_of_two(x[l]);
  return x;
}
inline bool any(bool m) { return m; }
inline bool any(LanesMask m) {
  long all = 0;
  for (int l = 0; l < 8; ++l) all |= m[l];
  return all != 0;
}
template <class N>
Mask<N> finite(N x) {
  return x - x == number<N>(0.0);
}

}  // namespace
}  // namespace banach::qp
