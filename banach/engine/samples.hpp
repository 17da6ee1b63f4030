#pragma once

#include <banach/engine/op.hpp>
#include <banach/engine/random.hpp>

#include <initializer_list>
#include <utility>

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
  /// 0 to `largest_rank` axes with extents in [1, 4].
  Shape shape(int largest_rank = 4);
  /// Two shapes that broadcast, each with some axes of extent 1 or missing in front.
  std::pair<Shape, Shape> broadcasting_shapes();

 private:
  Random random_;
};

/// A vector of f64.
Tensor numbers(std::initializer_list<double> values);

/// f(x) = y, with the derivative dy.
struct EdgePoint {
  double x, y, dy;
};
/// For a function of one number, applied to each element: a row of special values, and one without elements.
Edges edge_points(std::initializer_list<EdgePoint> points, const Attrs& attrs = {});

/// f(a, b) = y, with the derivatives da and db.
struct EdgePair {
  double a, b, y, da, db;
};
/// For a function of two numbers that broadcasts: a row of special values, and one without elements.
Edges edge_pairs(std::initializer_list<EdgePair> points, const Attrs& attrs = {});

/// Rows after rows.
Edges operator+(Edges a, const Edges& b);

}  // namespace banach
