#include <banach/engine/random.hpp>
#include <banach/nn/golub_kahan.hpp>
#include <banach/nn/power_iteration.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace banach::nn {
namespace {

double norm_of(const Tensor& x) {
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

Tensor random_unit(const Shape& shape, DType dtype, std::int64_t seed) {
  Tensor x = Tensor::empty(shape, dtype);
  dispatch_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    Random(static_cast<std::uint64_t>(seed)).fill_normal(x.mutable_data<T>(), x.size());
  });
  const double length = norm_of(x);
  return unit(std::move(x), length);
}

Tensor fixed_start(const Shape& shape, DType dtype) { return random_unit(shape, dtype, 0x706f776572); }

double epsilon_of(DType dtype) {
  return dtype == DType::f32 ? std::numeric_limits<float>::epsilon() : std::numeric_limits<double>::epsilon();
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
                               const PowerIterationOptions& options, const InducedNorm& norm)
    : options_(options),
      norm_(norm),
      left_{Tensor::zeros(output, dtype)},
      right_{fixed_start(input, dtype)},
      sigma_{scalar(0.0, DType::f64)},
      origin_{Tensor::zeros({}, DType::i64)} {
  if (options.max_steps < 1 || !(options.tolerance >= 0.0) || options.krylov < 1)
    fail<ValueError>("power_iteration",
                     fmt::format("expects max_steps >= 1, tolerance >= 0 and krylov >= 1: got {}, {} and {}",
                                 options.max_steps, options.tolerance, options.krylov));
  check_norm("power_iteration", norm);
}

bool PowerIteration::update(const Parameter& weight, const Tensor& value, const WeightedMap& map) {
  // Another value than the parameter's own: one that stands for it (see Substitution).
  const bool own = value.same_storage(weight.value());
  const Seen now{weight.id(), weight.version()};
  if (own && seen_ == now) return false;
  const std::int64_t hash = hash_of(value);
  const bool changed = *origin_.value.data<std::int64_t>() != hash;
  if (changed) {
    const NoGrad off;
    if (norm_.spectral() && options_.krylov == 1)
      iterate(value, map);
    else
      solve(value, map, hash);
    *origin_.value.mutable_data<std::int64_t>() = hash;
  }
  if (own)
    seen_ = now;
  else
    seen_.reset();
  return changed;
}

void PowerIteration::solve(const Tensor& weight, const WeightedMap& map, std::int64_t hash) {
  const DType dtype = right_.value.dtype();
  NormingPair found;
  if (norm_.spectral()) {
    // Half is where it was, half is random: what has grown in a direction not followed so far is found.
    Tensor start = (Var(right_.value) + Var(random_unit(right_.value.shape(), dtype, hash))).value();
    // The two may cancel: with one input they do half of the time.
    if (!(norm_of(start) > 1e-3)) start = right_.value;
    found = golub_kahan(map, weight, start,
                        {.max_steps = options_.max_steps,
                         .tolerance = std::max(options_.tolerance, 4.0 * epsilon_of(dtype)),
                         .dimension = options_.krylov});
  } else {
    found = induced_norm(map, weight, norm_, right_.value,
                         {.max_steps = options_.max_steps, .tolerance = options_.tolerance});
  }
  keep(found);
}

// A zero or non-finite weight leaves no direction: the next one starts afresh.
void PowerIteration::keep(NormingPair found) {
  if (!(found.value > 0.0) || !std::isfinite(found.value)) {
    found.left = Tensor::zeros(left_.value.shape(), left_.value.dtype());
    found.right = fixed_start(right_.value.shape(), right_.value.dtype());
    found.value = 0.0;
  }
  left_.value = std::move(found.left);
  right_.value = std::move(found.right);
  sigma_.value = scalar(found.value, sigma_.value.dtype());
}

void PowerIteration::iterate(const Tensor& weight, const WeightedMap& map) {
  const Var w(weight);
  const auto apply = [&](const Tensor& x) { return map.apply(w, Var(x)).value(); };
  const double tolerance = std::max(options_.tolerance, 4.0 * epsilon_of(right_.value.dtype()));
  constexpr double jump = 0.1;
  double before = sigma_.value.item();
  Tensor v = right_.value, u = apply(v);
  double length = norm_of(u);
  if (!(std::abs(length - before) <= jump * before)) {
    v = fixed_start(v.shape(), v.dtype());
    u = apply(v);
    length = norm_of(u);
    before = 0.0;
  }
  double sigma = 0.0;
  for (int step = 1;; ++step) {
    u = unit(std::move(u), length);
    v = map.transposed(w, Var(u)).value();
    sigma = norm_of(v);
    v = unit(std::move(v), sigma);
    if (step == options_.max_steps || !(std::abs(sigma - before) > tolerance * sigma)) break;
    before = sigma;
    u = apply(v);
    length = norm_of(u);
  }
  keep({sigma, std::move(u), std::move(v)});
}

}  // namespace banach::nn
