#pragma once

#include <banach/engine/op.hpp>
#include <banach/engine/random.hpp>

namespace banach {

/// Seeded source of test inputs for the samples of an operation. All tensors are f64 unless said otherwise.
class SampleGen {
 public:
  explicit SampleGen(std::uint64_t seed) : random_(seed) {}
  Tensor normal(const Shape& shape, double mean = 0.0, double deviation = 1.0);
  Tensor uniform(const Shape& shape, double low, double high);
  /// Magnitudes in [gap, gap + spread], random signs: for operations with a kink at zero.
  Tensor away_from_zero(const Shape& shape, double gap = 0.1, double spread = 2.0);
  /// A random order of values at least `gap` apart: for operations with ties.
  Tensor distinct(const Shape& shape, double gap = 0.05);
  /// i64 in [0, below).
  Tensor indices(const Shape& shape, std::int64_t below);
  /// i64 in [low, high].
  std::int64_t integer(std::int64_t low, std::int64_t high);

 private:
  Random random_;
};

}  // namespace banach
