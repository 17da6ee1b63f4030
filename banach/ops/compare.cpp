#include <banach/engine/samples.hpp>
#include <banach/ops/broadcast.hpp>
#include <banach/ops/compare.hpp>

namespace banach {
namespace {

// Small whole numbers: many ties.
Samples whole_pairs(SampleGen& g) {
  const auto whole = [&](const Shape& shape) { return g.indices(shape, 3).to(DType::f64); };
  return {{{whole({3, 4}), whole({3, 4})}}, {{whole({3, 4}), whole({4})}}, {{whole({3, 1}), whole({1, 5})}},
          {{whole({2, 3}), whole({})}},     {{whole({}), whole({})}},      {{whole({0, 2}), whole({2})}}};
}

ErrorSamples refuses_mismatch() {
  return {{{Tensor::zeros({2, 3}), Tensor::zeros({2})},
           {},
           "shapes must broadcast (equal extents, or 1): (2,3) with (2)"},
          {{Tensor::zeros({2}), Tensor::zeros({2}, DType::f64)},
           {},
           "dtypes must agree (cast one): f32 with f64"},
          {{Tensor::arange(2), Tensor::arange(2)}, {}, "expects f32 or f64"}};
}

// All comparisons are this entry, but for the name and the kernel.
constexpr OpDef comparison(const char* name, const char* doc, void (*kernel)(const KernelContext&)) {
  return {.name = name,
          .doc = doc,
          .shape = broadcast_shape,
          .kernel = kernel,
          .kind = OpKind::elementwise,
          .saves = Saves::nothing,
          .samples = whole_pairs,
          .errors = refuses_mismatch,
          .nan = NanRule::compared};
}

const Op equal_op{comparison("equal", "1 where a == b, 0 elsewhere.",
                             [](auto& c) { binary_kernel(c, [](auto& k) { return k.equal; }); })};

const Op not_equal_op{comparison("not_equal", "1 where a != b, 0 elsewhere.",
                                 [](auto& c) { binary_kernel(c, [](auto& k) { return k.not_equal; }); })};

const Op less_op{comparison("less", "1 where a < b, 0 elsewhere.",
                            [](auto& c) { binary_kernel(c, [](auto& k) { return k.less; }); })};

const Op less_equal_op{comparison("less_equal", "1 where a <= b, 0 elsewhere.",
                                  [](auto& c) { binary_kernel(c, [](auto& k) { return k.less_equal; }); })};

const Op greater_op{comparison("greater", "1 where a > b, 0 elsewhere.",
                               [](auto& c) { binary_kernel(c, [](auto& k) { return k.greater; }); })};

const Op greater_equal_op{comparison("greater_equal", "1 where a >= b, 0 elsewhere.", [](auto& c) {
  binary_kernel(c, [](auto& k) { return k.greater_equal; });
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
    .errors =
        [] {
          return ErrorSamples{{{Tensor::arange(3)}, {}, "expects f32 or f64"}};
        },
}};

Var with_number(const Op& op, const Var& a, double b) { return apply(op, {a, Var(scalar(b, a.dtype()))}); }

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
