#include <banach/ops/broadcast.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/entries.hpp>

#include <array>

namespace banach {
namespace {

using namespace entries;

// Small whole numbers: many ties.
Samples whole_pairs(SampleGen& g) {
  const auto whole = [&](const Shape& shape) { return g.indices(shape, 3).to(DType::f64); };
  Samples samples;
  for (const auto& [a, b] : pairs_of_shapes(g)) samples.push_back({{whole(a), whole(b)}});
  return samples;
}

// `y`: with a NaN, for equals, for less, for greater. The derivatives are zeros.
Edges comparison_edges(const std::array<double, 4>& y) {
  return edge_pairs({{nan, 1.0, y[0], 0.0, 0.0},
                     {1.0, nan, y[0], 0.0, 0.0},
                     {nan, nan, y[0], 0.0, 0.0},
                     {1.0, 1.0, y[1], 0.0, 0.0},
                     {0.0, -0.0, y[1], 0.0, 0.0},
                     {-0.0, 0.0, y[1], 0.0, 0.0},
                     {inf, inf, y[1], 0.0, 0.0},
                     {-inf, -inf, y[1], 0.0, 0.0},
                     {-inf, inf, y[2], 0.0, 0.0},
                     {1.0, inf, y[2], 0.0, 0.0},
                     {inf, -inf, y[3], 0.0, 0.0},
                     {1.0, -inf, y[3], 0.0, 0.0}});
}

// All comparisons are this entry, but for the name and the kernel.
constexpr OpDef comparison(const char* name, const char* doc, void (*kernel)(const KernelContext&),
                           Edges (*edges)()) {
  return {.name = name,
          .doc = doc,
          .shape = broadcast_shape,
          .kernel = kernel,
          .kind = OpKind::elementwise,
          .saves = Saves::nothing,
          .samples = whole_pairs,
          .errors = refuses_mismatch,
          .edges = edges,
          .nan = NanRule::compared};
}

const Op equal_op{comparison(
    "equal", "1 where a == b, 0 elsewhere.",
    [](auto& c) { binary_kernel(c, [](auto& k) { return k.equal; }); },
    [] {
      return comparison_edges({0.0, 1.0, 0.0, 0.0});
    })};

const Op not_equal_op{comparison(
    "not_equal", "1 where a != b, 0 elsewhere.",
    [](auto& c) { binary_kernel(c, [](auto& k) { return k.not_equal; }); },
    [] {
      return comparison_edges({1.0, 0.0, 1.0, 1.0});
    })};

const Op less_op{comparison(
    "less", "1 where a < b, 0 elsewhere.", [](auto& c) { binary_kernel(c, [](auto& k) { return k.less; }); },
    [] {
      return comparison_edges({0.0, 0.0, 1.0, 0.0});
    })};

const Op less_equal_op{comparison(
    "less_equal", "1 where a <= b, 0 elsewhere.",
    [](auto& c) { binary_kernel(c, [](auto& k) { return k.less_equal; }); },
    [] {
      return comparison_edges({0.0, 1.0, 1.0, 0.0});
    })};

const Op greater_op{comparison(
    "greater", "1 where a > b, 0 elsewhere.",
    [](auto& c) { binary_kernel(c, [](auto& k) { return k.greater; }); },
    [] {
      return comparison_edges({0.0, 0.0, 0.0, 1.0});
    })};

const Op greater_equal_op{comparison(
    "greater_equal", "1 where a >= b, 0 elsewhere.",
    [](auto& c) { binary_kernel(c, [](auto& k) { return k.greater_equal; }); },
    [] {
      return comparison_edges({0.0, 1.0, 0.0, 1.0});
    })};

const Op sign_op{{
    .name = "sign",
    .doc = "-1, 0 or 1, elementwise; NaN stays NaN.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.sign; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::nothing,
    .samples =
        [](SampleGen& g) {
          return Samples{
              {{g.normal({3, 4})}}, {{Tensor::zeros({2}, DType::f64)}}, {{g.normal({})}}, {{g.normal({0})}}};
        },
    .errors = refuses_integers,
    .edges =
        [] {
          return edge_points({{0.0, 0.0, 0.0},
                              {-0.0, -0.0, 0.0},
                              {inf, 1.0, 0.0},
                              {-inf, -1.0, 0.0},
                              {0x1p-120, 1.0, 0.0},
                              {nan, nan, 0.0}});
        },
}};

Var with_number(const Op& op, const Var& a, double b) { return apply(op, {a, constant_like(b, a)}); }

}  // namespace

Var equal(const Var& a, const Var& b) { return apply(equal_op, {a, b}); }
Var not_equal(const Var& a, const Var& b) { return apply(not_equal_op, {a, b}); }
Var less(const Var& a, const Var& b) { return apply(less_op, {a, b}); }
Var less_equal(const Var& a, const Var& b) { return apply(less_equal_op, {a, b}); }
Var greater(const Var& a, const Var& b) { return apply(greater_op, {a, b}); }
Var greater_equal(const Var& a, const Var& b) { return apply(greater_equal_op, {a, b}); }

Var equal(const Var& a, double b) { return with_number(equal_op, a, b); }
Var not_equal(const Var& a, double b) { return with_number(not_equal_op, a, b); }
Var less(const Var& a, double b) { return with_number(less_op, a, b); }
Var less_equal(const Var& a, double b) { return with_number(less_equal_op, a, b); }
Var greater(const Var& a, double b) { return with_number(greater_op, a, b); }
Var greater_equal(const Var& a, double b) { return with_number(greater_equal_op, a, b); }

Var sign(const Var& x) { return apply(sign_op, std::span(&x, 1)); }

}  // namespace banach
