#include <banach/engine/tape.hpp>
#include <banach/nn/induced_norm.hpp>
#include <banach/ops/elementwise.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace banach::nn {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double conjugate(double p) { return p == 1.0 ? infinity : std::isinf(p) ? 1.0 : p / (p - 1.0); }

double largest_magnitude(const Tensor& x) {
  double largest = 0.0;
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const double magnitude = std::abs(x.at(i));
    if (!(magnitude <= largest)) largest = magnitude;  // NaN stays
  }
  return largest;
}

double p_norm(const Tensor& x, double p) {
  const double largest = largest_magnitude(x);
  if (std::isinf(p) || !(largest > 0.0) || std::isinf(largest)) return largest;
  double sum = 0.0;
  for (std::int64_t i = 0; i < x.size(); ++i) sum += std::pow(std::abs(x.at(i)) / largest, p);
  return largest * std::pow(sum, 1.0 / p);
}

// f(value, place) for each entry of x, as a tensor like x.
template <class F>
Tensor mapped(const Tensor& x, F f) {
  Tensor result = Tensor::empty(x.shape(), x.dtype());
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = result.mutable_data<T>();
    for (std::int64_t i = 0; i < x.size(); ++i) out[i] = static_cast<T>(f(static_cast<double>(in[i]), i));
  });
  return result;
}

std::int64_t place_of_largest(const Tensor& x) {
  std::int64_t best = 0;
  for (std::int64_t i = 1; i < x.size(); ++i)
    if (x.at(i) > x.at(best)) best = i;
  return best;
}

Tensor unit_vector(const Shape& shape, DType dtype, std::int64_t place) {
  return mapped(Tensor::zeros(shape, dtype), [=](double, std::int64_t i) { return i == place ? 1.0 : 0.0; });
}

// u with u^T y = ||y||_r, of length 1 in the norm conjugate to r.
Tensor dual(const Tensor& y, double r) {
  if (std::isinf(r)) {
    const std::int64_t place = place_of_largest(abs(Var(y)).value());
    const double sign = y.at(place) < 0.0 ? -1.0 : 1.0;
    return mapped(y, [=](double, std::int64_t i) { return i == place ? sign : 0.0; });
  }
  const double norm = p_norm(y, r);
  return mapped(y, [=](double value, std::int64_t) {
    const double magnitude = r == 1.0 ? 1.0 : norm > 0.0 ? std::pow(std::abs(value) / norm, r - 1.0) : 0.0;
    return value < 0.0 ? -magnitude : magnitude;
  });
}

// The s-norms of all columns of A(w), or of all rows: an entry of the matrix is one of w, so a power of it is
// one of w's powers.
Tensor line_norms(const WeightedMap& map, const Tensor& w, double s, bool columns) {
  const double largest = largest_magnitude(w);
  const double scale = largest > 0.0 && std::isfinite(largest) ? largest : 1.0;
  // Powers that underflow count as the smallest number: for a bound the norms must not come out too small.
  const double smallest =
      w.dtype() == DType::f32 ? std::numeric_limits<float>::min() : std::numeric_limits<double>::min();
  const Var powers(mapped(w, [=](double value, std::int64_t) {
    return value == 0.0 ? 0.0 : std::max(std::pow(std::abs(value) / scale, s), smallest);
  }));
  const Tensor ones = Tensor::ones(columns ? map.output : map.input, w.dtype());
  const Var sums = columns ? map.transposed(powers, Var(ones)) : map.apply(powers, Var(ones));
  // A convolution may leave rounding where there is nothing.
  return mapped(sums.value(), [=](double value, std::int64_t) {
    return scale * std::pow(value > 0.0 || std::isnan(value) ? value : 0.0, 1.0 / s);
  });
}

std::int64_t best_column(const WeightedMap& map, const Tensor& w, double q) {
  return place_of_largest(line_norms(map, w, std::isinf(q) ? 2.0 : q, true));
}

NormingPair at_column(const WeightedMap& map, const Tensor& w, double q) {
  NormingPair found;
  found.right = unit_vector(map.input, w.dtype(), best_column(map, w, q));
  const Tensor y = map.apply(Var(w), Var(found.right)).value();
  found.value = p_norm(y, q);
  found.left = dual(y, q);
  return found;
}

NormingPair at_row(const WeightedMap& map, const Tensor& w, double conjugate_p) {
  NormingPair found;
  const std::int64_t row = place_of_largest(line_norms(map, w, conjugate_p, false));
  found.left = unit_vector(map.output, w.dtype(), row);
  const Tensor z = map.transposed(Var(w), Var(found.left)).value();
  found.value = p_norm(z, conjugate_p);
  found.right = dual(z, conjugate_p);
  return found;
}

NormingPair boyd(const WeightedMap& map, const Tensor& w, const InducedNorm& norm, const Tensor& start,
                 const NormingOptions& options) {
  NormingPair found;
  const double length = p_norm(start, norm.p);
  found.right =
      length > 0.0 ? mapped(start, [=](double value, std::int64_t) { return value / length; }) : start;
  for (int step = 1;; ++step) {
    const Tensor y = map.apply(Var(w), Var(found.right)).value();
    const double before = found.value;
    found.value = p_norm(y, norm.q);
    found.left = dual(y, norm.q);
    if (step >= options.max_steps || !(std::abs(found.value - before) > options.tolerance * found.value))
      return found;
    const Tensor z = map.transposed(Var(w), Var(found.left)).value();
    found.right = dual(z, conjugate(norm.p));
  }
}

}  // namespace

void check_norm(std::string_view name, const InducedNorm& norm) {
  if (!(norm.p >= 1.0 && norm.q >= 1.0))
    fail<ValueError>(name, fmt::format("norms need p and q of at least 1: got {} and {}", norm.p, norm.q));
  if (norm.p == 1.0 && std::isinf(norm.q))
    fail<ValueError>(name, "the norm from p = 1 to q = infinity, the largest entry, is not offered");
}

NormingPair induced_norm(const WeightedMap& map, const Tensor& w, const InducedNorm& norm,
                         const Tensor& start, const NormingOptions& options) {
  check_norm("induced_norm", norm);
  const NoGrad off;
  if (norm.p == 1.0) return at_column(map, w, norm.q);
  if (std::isinf(norm.q)) return at_row(map, w, conjugate(norm.p));
  NormingPair uphill = boyd(map, w, norm, start, options);
  const Tensor column = unit_vector(map.input, w.dtype(), best_column(map, w, norm.q));
  NormingPair other = boyd(map, w, norm, column, options);
  return other.value > uphill.value ? other : uphill;
}

double induced_norm_bound(const WeightedMap& map, const Tensor& weight, const InducedNorm& norm,
                          double spectral) {
  check_norm("induced_norm_bound", norm);
  const NoGrad off;
  const Tensor w = weight.to(DType::f64);
  const double p = norm.p, q = norm.q, conjugate_p = conjugate(p);
  const auto n = static_cast<double>(map.input.size()), m = static_cast<double>(map.output.size());
  double bound =
      spectral * std::pow(m, std::max(0.0, 1.0 / q - 0.5)) * std::pow(n, std::max(0.0, 0.5 - 1.0 / p));
  const auto take = [&](double other) { bound = std::isnan(other) || other < bound ? other : bound; };
  if (!std::isinf(conjugate_p)) take(p_norm(line_norms(map, w, conjugate_p, false), q));
  if (!std::isinf(q)) take(p_norm(line_norms(map, w, q, true), conjugate_p));
  if (p == q)
    take(std::pow(p_norm(line_norms(map, w, 1.0, true), infinity), 1.0 / p) *
         std::pow(p_norm(line_norms(map, w, 1.0, false), infinity), 1.0 - 1.0 / p));
  return bound * (1.0 + (n + m + 64.0) * std::numeric_limits<double>::epsilon());
}

}  // namespace banach::nn
