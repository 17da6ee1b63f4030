#include <banach/engine/blas.hpp>
#include <banach/engine/random.hpp>
#include <banach/nn/power_iteration.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace banach::nn {
namespace {

double norm_of_row(const Tensor& rows, std::int64_t row) {
  const std::int64_t n = rows.size(1);
  return dispatch_floating(rows.dtype(),
                           [&](auto zero) { return vec::norm(rows.data<decltype(zero)>() + row * n, n); });
}

// Row by its length, in place where possible; as it is if that is zero or not finite.
void divide_row(Tensor& rows, std::int64_t row, double length) {
  if (!(length > 0.0) || !std::isfinite(length)) return;
  const std::int64_t n = rows.size(1);
  dispatch_floating(rows.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = rows.mutable_data<T>() + row * n;
    for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(static_cast<double>(out[i]) / length);
  });
}

Tensor fixed_start(std::int64_t count, std::int64_t n, DType dtype) {
  Tensor rows = Tensor::empty({count, n}, dtype);
  dispatch_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    Random(0x706f776572).fill_normal(rows.mutable_data<T>(), rows.size());
  });
  for (std::int64_t row = 0; row < count; ++row) divide_row(rows, row, norm_of_row(rows, row));
  return rows;
}

// `map` of each row of `from`, taken as a tensor of `shape`.
Tensor each_row(const Tensor& from, const Shape& shape, std::int64_t size,
                FunctionRef<Tensor(const Tensor&)> map) {
  const std::int64_t count = from.size(0);
  if (count == 1) return map(from.reshape(shape)).reshape({1, size});
  Tensor to = Tensor::empty({count, size}, from.dtype());
  dispatch_floating(from.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = to.mutable_data<T>();
    for (std::int64_t row = 0; row < count; ++row) {
      const Tensor one = map(from.rows(row, row + 1).reshape(shape));
      std::copy_n(one.data<T>(), size, out + row * size);
    }
  });
  return to;
}

// Turns the rows A v_i so that they are orthogonal and the first is as long as any of their span can be.
Tensor ritz_rows(Tensor rows) {
  const std::int64_t count = rows.size(0), n = rows.size(1);
  if (count == 1) return rows;
  PoolVector<double> gram(static_cast<std::size_t>(count * count)), values(static_cast<std::size_t>(count));
  return dispatch_floating(rows.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = rows.data<T>();
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t j = 0; j < count; ++j)
        gram[static_cast<std::size_t>(i * count + j)] = vec::dot(in + i * n, in + j * n, n);
    if (blas::symmetric_eigen(count, gram.data(), values.data(), true) != 0) return rows;
    Tensor turned = Tensor::zeros(rows.shape(), rows.dtype());
    T* out = turned.mutable_data<T>();
    for (std::int64_t i = 0; i < count; ++i)  // the largest eigenvalue is the last
      for (std::int64_t j = 0; j < count; ++j)
        vec::axpy(gram[static_cast<std::size_t>((count - 1 - i) * count + j)], in + j * n, out + i * n, n);
    return turned;
  });
}

// Gram and Schmidt, twice; a row that is nothing but the others starts afresh.
void orthonormalise(Tensor& rows, double first_length) {
  divide_row(rows, 0, first_length);
  const std::int64_t count = rows.size(0), n = rows.size(1);
  dispatch_floating(rows.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t row = 1; row < count; ++row) {
      const double before = norm_of_row(rows, row);
      PoolVector<double> overlaps(static_cast<std::size_t>(row));
      const auto project = [&] {
        for (int pass = 0; pass < 2; ++pass) {
          T* all = rows.mutable_data<T>();
          vec::project_out(all, row, all + row * n, n, overlaps.data());
          divide_row(rows, row, norm_of_row(rows, row));
        }
      };
      divide_row(rows, row, before);
      if (!(before > 0.0)) {
        const Tensor fresh = fixed_start(count, n, rows.dtype());
        std::copy_n(fresh.data<T>() + row * n, n, rows.mutable_data<T>() + row * n);
      }
      project();
    }
  });
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
      right_{fixed_start(1, input.size(), dtype).reshape(input)},
      sigma_{scalar(0.0, DType::f64)},
      origin_{Tensor::zeros({}, DType::i64)} {
  if (options.max_steps < 1 || !(options.tolerance >= 0.0) || options.vectors < 1)
    fail<ValueError>("power_iteration",
                     fmt::format("expects max_steps >= 1, tolerance >= 0 and vectors >= 1: got {}, {} and {}",
                                 options.max_steps, options.tolerance, options.vectors));
  check_norm("power_iteration", norm);
  const std::int64_t count = std::min<std::int64_t>({options.vectors, input.size(), output.size()});
  if (norm.spectral() && count > 1)
    others_ = Buffer{fixed_start(count, input.size(), dtype).rows(1, count).clone()};
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
    iterate(value, map);
    *origin_.value.mutable_data<std::int64_t>() = hash;
  }
  if (own)
    seen_ = now;
  else
    seen_.reset();
  return changed;
}

void PowerIteration::iterate(const Tensor& weight, const WeightedMap& map) {
  if (norm_.spectral()) return iterate_spectral(weight, map);
  NormingPair found = induced_norm(map, weight, norm_, right_.value,
                                   {.max_steps = options_.max_steps, .tolerance = options_.tolerance});
  if (!(found.value > 0.0) || !std::isfinite(found.value)) {
    found.left = Tensor::zeros(found.left.shape(), found.left.dtype());
    found.right = start().rows(0, 1).reshape(map.input);
    found.value = 0.0;
  }
  left_.value = std::move(found.left);
  right_.value = std::move(found.right);
  sigma_.value = scalar(found.value, DType::f64);
}

Tensor PowerIteration::start() const {
  return fixed_start(others_ ? 1 + others_->value.size(0) : 1, right_.value.size(), right_.value.dtype());
}

void PowerIteration::iterate_spectral(const Tensor& weight, const WeightedMap& map) {
  const double epsilon = right_.value.dtype() == DType::f32 ? std::numeric_limits<float>::epsilon()
                                                            : std::numeric_limits<double>::epsilon();
  const double tolerance = std::max(options_.tolerance, 4.0 * epsilon);
  constexpr double jump = 0.1;
  const std::int64_t n = map.input.size(), m = map.output.size();
  const Var w(weight);
  const auto apply = [&](const Tensor& rows) {
    return ritz_rows(
        each_row(rows, map.input, m, [&](const Tensor& x) { return map.apply(w, Var(x)).value(); }));
  };
  const auto apply_transposed = [&](const Tensor& rows) {
    return each_row(rows, map.output, n, [&](const Tensor& y) { return map.transposed(w, Var(y)).value(); });
  };
  double before = sigma_.value.item();
  Tensor v = right_.value.reshape({1, n});
  if (others_) v = concat({Var(v), Var(others_->value)}, 0).value();
  Tensor u = apply(v);
  double length = norm_of_row(u, 0);
  if (!(std::abs(length - before) <= jump * before)) {
    v = start();
    u = apply(v);
    length = norm_of_row(u, 0);
    before = 0.0;
  }
  double sigma = 0.0;
  for (int step = 1;; ++step) {
    divide_row(u, 0, length);
    for (std::int64_t row = 1; row < u.size(0); ++row) divide_row(u, row, norm_of_row(u, row));
    v = apply_transposed(u);
    sigma = norm_of_row(v, 0);
    orthonormalise(v, sigma);
    if (step == options_.max_steps || !(std::abs(sigma - before) > tolerance * sigma)) break;
    before = sigma;
    u = apply(v);
    length = norm_of_row(u, 0);
  }
  // A zero or non-finite weight leaves no direction: the next one starts afresh.
  if (!(sigma > 0.0) || !std::isfinite(sigma)) {
    v = start();
    u = Tensor::zeros(u.shape(), u.dtype());
    sigma = 0.0;
  }
  left_.value = u.rows(0, 1).reshape(map.output);
  right_.value = v.rows(0, 1).reshape(map.input);
  if (others_) others_->value = v.rows(1, v.size(0));
  sigma_.value = scalar(sigma, sigma_.value.dtype());
}

}  // namespace banach::nn
