#include <banach/nn/dequantize.hpp>
#include <banach/ops/elementwise.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace banach::nn {
namespace {

// Middles of 2^bits equal parts of (0, 1). x + u is exact then, and what the division and the product with
// `levels` round is less than the distance of u from 0 and 1.
template <class T>
double grid(std::int64_t levels) {
  const int bits = std::numeric_limits<T>::digits - 2 -
                   static_cast<int>(std::bit_width(static_cast<std::uint64_t>(levels)));
  return std::ldexp(1.0, bits);
}

}  // namespace

Dequantize::Dequantize(std::int64_t count, Random& random)
    : levels(count), generator{tensor({std::bit_cast<std::int64_t>(random.bits()), std::int64_t{0}})} {
  if (levels < 1 || levels > (1 << 20))
    fail<ValueError>("dequantize", fmt::format("levels must lie in [1, 2^20]: got {}", levels));
}

Transformed Dequantize::forward(const Var& x) const {
  Var log_det = constant_log_det(
      "dequantize", x,
      -std::log(static_cast<double>(levels)) * static_cast<double>(x.shape().size(1, x.rank())));
  std::int64_t* state = generator.value.mutable_data<std::int64_t>();
  Random random(std::bit_cast<std::uint64_t>(state[0]), static_cast<std::uint64_t>(state[1]++));
  Tensor u = Tensor::empty(x.shape(), x.dtype());
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = u.mutable_data<T>();
    random.fill_uniform(out, u.size());
    const double parts = grid<T>(levels);
    for (std::int64_t i = 0; i < u.size(); ++i)
      out[i] = static_cast<T>((std::floor(static_cast<double>(out[i]) * parts) + 0.5) / parts);
  });
  return {(x + Var(std::move(u))) / static_cast<double>(levels), std::move(log_det)};
}

Var Dequantize::inverse(const Var& y) const {
  Tensor x = y.value().clone();
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = x.mutable_data<T>();
    const auto number = static_cast<T>(levels);
    for (std::int64_t i = 0; i < x.size(); ++i)
      out[i] = std::clamp(std::floor(out[i] * number), T{0}, number - T{1});
  });
  return Var(std::move(x));
}

}  // namespace banach::nn
