#include <banach/nn/init.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace banach::nn::init {
namespace {

double xavier_deviation(const Shape& shape, double gain) {
  const Fans f = fans(shape);
  return gain * std::sqrt(2.0 / static_cast<double>(std::max<std::int64_t>(1, f.in + f.out)));
}

double kaiming_deviation(const Shape& shape, double slope) {
  return std::sqrt(2.0 /
                   ((1.0 + slope * slope) * static_cast<double>(std::max<std::int64_t>(1, fans(shape).in))));
}

// Uniform on (-a, a) has the deviation a / sqrt(3).
Tensor symmetric(const Shape& shape, double deviation, Random& random, DType dtype) {
  const double limit = std::sqrt(3.0) * deviation;
  return uniform(shape, -limit, limit, random, dtype);
}

// Makes `count` vectors of n entries orthonormal, by Gram-Schmidt run twice (Giraud et al. 2005: twice is
// enough).
void orthonormalize(std::vector<double>& vectors, std::int64_t count, std::int64_t n) {
  for (std::int64_t i = 0; i < count; ++i) {
    double* v = vectors.data() + i * n;
    for (int pass = 0; pass < 2; ++pass)
      for (std::int64_t j = 0; j < i; ++j) {
        const double* q = vectors.data() + j * n;
        const double along = std::inner_product(v, v + n, q, 0.0);
        for (std::int64_t k = 0; k < n; ++k) v[k] -= along * q[k];
      }
    const double norm = std::sqrt(std::inner_product(v, v + n, v, 0.0));
    for (std::int64_t k = 0; k < n; ++k) v[k] /= norm;
  }
}

}  // namespace

Fans fans(const Shape& weight) {
  if (weight.rank() < 2)
    fail<ShapeError>("init", "fans are those of (out,in) or (out,in,kh,kw): got " + weight.to_string());
  return {weight.size(1, weight.rank()), weight[0] * weight.size(2, weight.rank())};
}

Tensor uniform(const Shape& shape, double low, double high, Random& random, DType dtype) {
  if (!(low <= high))
    fail<ValueError>("init", fmt::format("low must be at most high: got {} and {}", low, high));
  Tensor result = Tensor::empty(shape, dtype);
  dispatch_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    random.fill_uniform(result.mutable_data<T>(), result.size(), static_cast<T>(low), static_cast<T>(high));
  });
  return result;
}

Tensor normal(const Shape& shape, double mean, double deviation, Random& random, DType dtype) {
  if (!(deviation >= 0.0))
    fail<ValueError>("init", fmt::format("deviation must be at least 0: got {}", deviation));
  Tensor result = Tensor::empty(shape, dtype);
  dispatch_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    random.fill_normal(result.mutable_data<T>(), result.size(), static_cast<T>(mean),
                       static_cast<T>(deviation));
  });
  return result;
}

Tensor xavier_uniform(const Shape& shape, Random& random, double gain, DType dtype) {
  return symmetric(shape, xavier_deviation(shape, gain), random, dtype);
}

Tensor xavier_normal(const Shape& shape, Random& random, double gain, DType dtype) {
  return normal(shape, 0.0, xavier_deviation(shape, gain), random, dtype);
}

Tensor kaiming_uniform(const Shape& shape, Random& random, double slope, DType dtype) {
  return symmetric(shape, kaiming_deviation(shape, slope), random, dtype);
}

Tensor kaiming_normal(const Shape& shape, Random& random, double slope, DType dtype) {
  return normal(shape, 0.0, kaiming_deviation(shape, slope), random, dtype);
}

Tensor orthogonal(const Shape& shape, Random& random, double gain, DType dtype) {
  const std::int64_t rows = shape.rank() < 2 ? 0 : shape[0], columns = fans(shape).in;
  const std::int64_t count = std::min(rows, columns), n = std::max(rows, columns);
  std::vector<double> vectors(static_cast<std::size_t>(count * n));
  random.fill_normal(vectors.data(), count * n);
  orthonormalize(vectors, count, n);
  Tensor result = Tensor::empty(shape, dtype);
  dispatch_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    T* out = result.mutable_data<T>();
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j) {
        const std::int64_t at = rows <= columns ? i * n + j : j * n + i;
        out[i * columns + j] = static_cast<T>(gain * vectors[static_cast<std::size_t>(at)]);
      }
  });
  return result;
}

}  // namespace banach::nn::init
