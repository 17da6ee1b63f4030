#pragma once
// What the tests of every layer do with tensors.

#include <banach/engine/random.hpp>
#include <banach/engine/var.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace banach::test {

/// Normal numbers of mean 0, in f64.
inline Tensor normal(Random& random, const Shape& shape, double deviation = 1.0) {
  Tensor x = Tensor::empty(shape, DType::f64);
  random.fill_normal(x.mutable_data<double>(), x.size(), 0.0, deviation);
  return x;
}
inline Tensor normal(const Shape& shape, std::uint64_t seed, double deviation = 1.0) {
  Random random(seed);
  return normal(random, shape, deviation);
}

/// max |a - b|, infinite if an entry of either is NaN. Shapes must agree, dtypes need not.
inline double largest_difference(const Var& a, const Var& b) {
  REQUIRE(a.shape() == b.shape());
  double largest = 0.0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a.value().at(i) - b.value().at(i));
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, difference);
  }
  return largest;
}

/// Shape, dtype and every bit: -0 is not 0, and NaN is the same NaN.
inline bool same_bits(const Var& a, const Var& b) {
  if (!(a.shape() == b.shape()) || a.dtype() != b.dtype()) return false;
  return dispatch_any(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    return a.size() == 0 || std::memcmp(a.value().data<T>(), b.value().data<T>(),
                                        static_cast<std::size_t>(a.size()) * sizeof(T)) == 0;
  });
}

}  // namespace banach::test
