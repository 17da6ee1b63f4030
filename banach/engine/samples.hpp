#pragma once

#include <banach/engine/op.hpp>
#include <banach/engine/random.hpp>

#include <initializer_list>

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

/// A vector of f64.
Tensor numbers(std::initializer_list<double> values);

/// f(x) = y, with the derivative dy.
struct EdgePoint {
  double x, y, dy;
};
/// One row of special values for a function of one number.
Edges edge_points(std::initializer_list<EdgePoint> points, const Attrs& attrs = {});

/// f(a, b) = y, with the derivatives da and db.
struct EdgePair {
  double a, b, y, da, db;
};
/// One row of special values for a function of two numbers.
Edges edge_pairs(std::initializer_list<EdgePair> points, const Attrs& attrs = {});

}  // namespace banach
