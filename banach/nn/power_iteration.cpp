#include <banach/engine/random.hpp>
#include <banach/nn/power_iteration.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace banach::nn {
namespace {

double norm(const Tensor& x) {
  return dispatch_floating(x.dtype(),
                           [&](auto zero) { return vec::norm(x.data<decltype(zero)>(), x.size()); });
}

// x / ||x||, in place where possible; as it is if the norm is zero or not finite.
Tensor unit(Tensor x, double length) {
  if (!(length > 0.0) || !std::isfinite(length)) return x;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = x.mutable_data<T>();
    for (std::int64_t i = 0; i < x.size(); ++i) out[i] = static_cast<T>(static_cast<double>(out[i]) / length);
  });
  return x;
}

Tensor fixed_start(const Shape& shape, DType dtype) {
  Tensor x = Tensor::empty(shape, dtype);
  dispatch_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    Random(0x706f776572).fill_normal(x.mutable_data<T>(), x.size());
  });
  const double length = norm(x);
  return unit(std::move(x), length);
}

// FNV-1a over 64-bit words, and never 0.
std::int64_t hash_of(const Tensor& x) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&](std::uint64_t word) { hash = (hash ^ word) * 0x100000001b3; };
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (const T value : x.values<T>()) {
      const auto wide = static_cast<double>(value);
      std::uint64_t word;
      std::memcpy(&word, &wide, sizeof word);
      mix(word ^ word >> 32);
    }
  });
  return static_cast<std::int64_t>(hash | 1);
}

}  // namespace

PowerIteration::PowerIteration(const Shape& input, const Shape& output, DType dtype,
                               const PowerIterationOptions& options)
    : options_(options),
      left_{Tensor::zeros(output, dtype)},
      right_{fixed_start(input, dtype)},
      sigma_{scalar(0.0, DType::f64)},
      origin_{Tensor::zeros({}, DType::i64)} {
  if (options.max_steps < 1 || !(options.tolerance >= 0.0))
    fail<ValueError>("power_iteration",
                     fmt::format("expects max_steps >= 1 and tolerance >= 0: got {} and {}",
                                 options.max_steps, options.tolerance));
}

void PowerIteration::update(const Parameter& weight, const Tensor& value, Map apply, Map apply_transposed) {
  // Another value than the parameter's own: one that stands for it (see Substitution).
  const bool own = value.same_storage(weight.value());
  const Seen now{weight.id(), weight.version()};
  if (own && seen_ == now) return;
  const std::int64_t hash = hash_of(value);
  if (*origin_.value.data<std::int64_t>() != hash) {
    const NoGrad off;
    iterate(apply, apply_transposed);
    *origin_.value.mutable_data<std::int64_t>() = hash;
  }
  if (own)
    seen_ = now;
  else
    seen_.reset();
}

void PowerIteration::iterate(Map apply, Map apply_transposed) {
  const double epsilon = right_.value.dtype() == DType::f32 ? std::numeric_limits<float>::epsilon()
                                                            : std::numeric_limits<double>::epsilon();
  const double tolerance = std::max(options_.tolerance, 4.0 * epsilon);
  constexpr double jump = 0.1;
  double before = sigma_.value.item();
  Tensor v = right_.value, u = apply(v);
  double length = norm(u);
  if (!(std::abs(length - before) <= jump * before)) {
    v = fixed_start(v.shape(), v.dtype());
    u = apply(v);
    length = norm(u);
    before = 0.0;
  }
  double sigma = 0.0;
  for (int step = 1;; ++step) {
    u = unit(std::move(u), length);
    v = apply_transposed(u);
    sigma = norm(v);
    v = unit(std::move(v), sigma);
    if (step == options_.max_steps || !(std::abs(sigma - before) > tolerance * sigma)) break;
    before = sigma;
    u = apply(v);
    length = norm(u);
  }
  // A zero or non-finite weight leaves no direction: the next one starts afresh.
  if (!(sigma > 0.0) || !std::isfinite(sigma)) {
    v = fixed_start(v.shape(), v.dtype());
    u = Tensor::zeros(u.shape(), u.dtype());
    sigma = 0.0;
  }
  left_.value = std::move(u);
  right_.value = std::move(v);
  sigma_.value = scalar(sigma, sigma_.value.dtype());
}

}  // namespace banach::nn
