#pragma once
// Internal: what the entries of elementwise operations share: samples, refusals, and the handling of
// broadcast operands.

#include <banach/engine/samples.hpp>
#include <banach/ops/shape_ops.hpp>

#include <limits>

namespace banach::entries {

inline constexpr double inf = std::numeric_limits<double>::infinity();
inline constexpr double nan = std::numeric_limits<double>::quiet_NaN();

inline Var unary(const Op& op, const Var& x, const Attrs& attrs = {}) {
  return apply(op, std::span(&x, 1), attrs);
}

inline Var constant_like(double value, const Var& x) { return Var(scalar(value, x.dtype())); }

inline Var reduce_to(Var x, const Shape& shape) {
  if (x.shape() == shape) return x;
  return sum_to(x, shape);
}

// Cotangent of input i, which may have been broadcast: f() summed to its shape, if anybody wants it.
template <class F>
Var to_input(const VjpContext& c, int i, F f) {
  return c.needs(i) ? reduce_to(f(), c.in(i).shape()) : Var();
}

inline Samples anywhere(SampleGen& g) {
  return {{{g.normal({3, 4})}},
          {{g.normal({2, 3, 5}, 0.0, 2.0)}},
          {{g.normal({})}},
          {{g.normal({1})}},
          {{g.uniform({17}, -5.0, 5.0)}},
          {{g.normal({0})}},
          {{g.normal({2, 0, 3})}},
          {{g.normal({67})}},
          {{g.normal(g.shape())}}};
}

inline Samples nonzero(SampleGen& g) {
  return {{{g.away_from_zero({3, 4})}}, {{g.away_from_zero({2, 3, 5}, 0.2, 3.0)}},
          {{g.away_from_zero({})}},     {{g.away_from_zero({17}, 0.05, 20.0)}},
          {{g.away_from_zero({67})}},   {{g.away_from_zero(g.shape())}},
          {{g.away_from_zero({0})}}};
}

inline Samples positive(SampleGen& g) {
  return {{{g.uniform({3, 4}, 0.5, 3.0)}}, {{g.uniform({2, 3, 5}, 1.0, 9.0)}},
          {{g.uniform({}, 0.5, 2.0)}},     {{g.uniform({17}, 0.4, 1.5)}},
          {{g.uniform({67}, 0.5, 4.0)}},   {{g.uniform(g.shape(), 0.5, 2.0)}},
          {{g.uniform({0}, 0.0, 1.0)}}};
}

// Pairs of shapes: equal, a row, a column, outer product, scalars, inner axes, high rank, empty, random.
inline std::vector<std::pair<Shape, Shape>> pairs_of_shapes(SampleGen& g) {
  return {{{3, 4}, {3, 4}},
          {{3, 4}, {4}},
          {{3, 4}, {3, 1}},
          {{3, 1}, {1, 4}},
          {{2, 3}, {}},
          {{1}, {2, 3}},
          {{2, 3, 4}, {2, 1, 4}},
          {{1}, {}},
          {{0, 3}, {3}},
          {{2, 1, 2, 3}, {2, 1, 3}},
          {{2, 1, 2, 1, 2}, {1, 2, 1, 3, 1}},
          {{35}, {35}},
          g.broadcasting_shapes(),
          g.broadcasting_shapes()};
}

inline Samples pairs(SampleGen& g) {
  Samples samples;
  for (const auto& [a, b] : pairs_of_shapes(g)) samples.push_back({{g.normal(a), g.normal(b)}});
  return samples;
}

inline Samples pairs_with_nonzero_second(SampleGen& g) {
  Samples samples;
  for (const auto& [a, b] : pairs_of_shapes(g)) samples.push_back({{g.normal(a), g.away_from_zero(b, 0.5)}});
  return samples;
}

inline Samples pairs_without_ties(SampleGen& g) {
  Samples samples;
  for (const auto& [a, b] : pairs_of_shapes(g)) {
    const Tensor both = g.distinct({a.size() + b.size()});
    samples.push_back({{both.rows(0, a.size()).reshape(a), both.rows(a.size(), both.size()).reshape(b)}});
  }
  return samples;
}

inline ErrorSamples refuses_integers() { return {{{Tensor::arange(3)}, {}, "expects f32 or f64"}}; }

inline ErrorSamples refuses_mismatch() {
  return {{{Tensor::zeros({2, 3}), Tensor::zeros({2})},
           {},
           "shapes must broadcast (equal extents, or 1): (2,3) with (2)"},
          {{Tensor::zeros({2}), Tensor::zeros({2}, DType::f64)},
           {},
           "dtypes must agree (cast one): f32 with f64"},
          {{Tensor::arange(2), Tensor::arange(2)}, {}, "expects f32 or f64"}};
}

}  // namespace banach::entries
