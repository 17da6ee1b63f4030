#include <banach/engine/samples.hpp>
#include <banach/ops/broadcast.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/shape_ops.hpp>

#include <cmath>

namespace banach {
namespace {

// ---- What the entries below share -------------------------------------------------------------------------

Var unary(const Op& op, const Var& x, const Attrs& attrs = {}) { return apply(op, std::span(&x, 1), attrs); }

Var constant_like(double value, const Var& x) { return Var(scalar(value, x.dtype())); }

Var reduce_to(const Var& x, const Shape& shape) { return x.shape() == shape ? x : sum_to(x, shape); }

// Cotangent of input i, which may have been broadcast: f() summed to its shape, if anybody wants it.
template <class F>
Var to_input(const VjpContext& c, int i, F f) {
  return c.needs(i) ? reduce_to(f(), c.in(i).shape()) : Var();
}

Samples anywhere(SampleGen& g) {
  return {{{g.normal({3, 4})}},   {{g.normal({2, 3, 5}, 0.0, 2.0)}}, {{g.normal({})}},
          {{g.normal({1})}},      {{g.uniform({17}, -5.0, 5.0)}},    {{g.normal({0})}},
          {{g.normal({2, 0, 3})}}};
}

Samples nonzero(SampleGen& g) {
  return {{{g.away_from_zero({3, 4})}},
          {{g.away_from_zero({2, 3, 5}, 0.2, 3.0)}},
          {{g.away_from_zero({})}},
          {{g.away_from_zero({17}, 0.05, 20.0)}},
          {{g.away_from_zero({0})}}};
}

Samples positive(SampleGen& g) {
  return {{{g.uniform({3, 4}, 0.5, 3.0)}},
          {{g.uniform({2, 3, 5}, 1.0, 9.0)}},
          {{g.uniform({}, 0.5, 2.0)}},
          {{g.uniform({17}, 0.4, 1.5)}},
          {{g.uniform({0}, 0.0, 1.0)}}};
}

// Pairs of shapes: equal, a row, a column, outer product, scalars, inner axes, high rank, empty.
std::vector<std::pair<Shape, Shape>> pairs_of_shapes() {
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
          {{2, 1, 2, 1, 2}, {1, 2, 1, 3, 1}}};
}

Samples pairs(SampleGen& g) {
  Samples samples;
  for (const auto& [a, b] : pairs_of_shapes()) samples.push_back({{g.normal(a), g.normal(b)}});
  return samples;
}

Samples pairs_with_nonzero_second(SampleGen& g) {
  Samples samples;
  for (const auto& [a, b] : pairs_of_shapes()) samples.push_back({{g.normal(a), g.away_from_zero(b, 0.5)}});
  return samples;
}

Samples pairs_without_ties(SampleGen& g) {
  Samples samples;
  for (const auto& [a, b] : pairs_of_shapes()) {
    const Tensor both = g.distinct({a.size() + b.size()});
    samples.push_back({{both.rows(0, a.size()).reshape(a), both.rows(a.size(), both.size()).reshape(b)}});
  }
  return samples;
}

ErrorSamples refuses_integers() { return {{{Tensor::arange(3)}, {}, "expects f32 or f64"}}; }

ErrorSamples refuses_mismatch() {
  return {{{Tensor::zeros({2, 3}), Tensor::zeros({2})},
           {},
           "shapes must broadcast (equal extents, or 1): (2,3) with (2)"},
          {{Tensor::zeros({2}), Tensor::zeros({2}, DType::f64)},
           {},
           "dtypes must agree (cast one): f32 with f64"},
          {{Tensor::arange(2), Tensor::arange(2)}, {}, "expects f32 or f64"}};
}

// ---- Arithmetic -------------------------------------------------------------------------------------------

const Op add_op{{
    .name = "add",
    .doc = "a + b, elementwise, broadcasting.",
    .shape = broadcast_shape,
    .kernel = [](auto& c) { binary_kernel(c, [](auto& k) { return k.add; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          return Vars{to_input(c, 0, [&] { return c.cotangent; }),
                      to_input(c, 1, [&] { return c.cotangent; })};
        },
    .samples = pairs,
    .errors = refuses_mismatch,
}};

const Op sub_op{{
    .name = "sub",
    .doc = "a - b, elementwise, broadcasting.",
    .shape = broadcast_shape,
    .kernel = [](auto& c) { binary_kernel(c, [](auto& k) { return k.sub; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          return Vars{to_input(c, 0, [&] { return c.cotangent; }),
                      to_input(c, 1, [&] { return -reduce_to(c.cotangent, c.in(1).shape()); })};
        },
    .samples = pairs,
    .errors = refuses_mismatch,
}};

const Op mul_op{{
    .name = "mul",
    .doc = "a * b, elementwise, broadcasting.",
    .shape = broadcast_shape,
    .kernel = [](auto& c) { binary_kernel(c, [](auto& k) { return k.mul; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{to_input(c, 0, [&] { return c.cotangent * c.in(1); }),
                      to_input(c, 1, [&] { return c.cotangent * c.in(0); })};
        },
    .samples = pairs,
    .errors = refuses_mismatch,
}};

const Op div_op{{
    .name = "div",
    .doc = "a / b, elementwise, broadcasting.",
    .shape = broadcast_shape,
    .kernel = [](auto& c) { binary_kernel(c, [](auto& k) { return k.div; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var quotient = c.cotangent / c.in(1);
          return Vars{to_input(c, 0, [&] { return quotient; }),
                      to_input(c, 1, [&] { return -(quotient * (c.in(0) / c.in(1))); })};
        },
    .samples = pairs_with_nonzero_second,
    .errors = refuses_mismatch,
}};

struct Affine {
  double scale = 1.0, shift = 0.0;
};

const Op affine_op{{
    .name = "affine",
    .doc = "scale * x + shift for two numbers.",
    .shape = same_shape,
    .kernel =
        [](const KernelContext& c) {
          const auto [scale, shift] = c.attrs.as<Affine>();
          map_kernel(c, [scale = scale, shift = shift](auto* x, auto* y, std::int64_t n, const auto& k) {
            using T = std::remove_pointer_t<decltype(y)>;
            k.scale_add(x, static_cast<T>(scale), static_cast<T>(shift), y, n);
          });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::nothing,
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent * c.attrs.as<Affine>().scale}; },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({3, 4})}, Affine{2.0, -1.0}},
                         {{g.normal({7})}, Affine{-1.0, 0.0}},
                         {{g.normal({})}, Affine{0.5, 3.0}},
                         {{g.normal({2, 2, 2})}, Affine{-3.5, 0.25}},
                         {{g.normal({0, 2})}, Affine{2.0, 1.0}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::arange(3)}, Affine{}, "expects f32 or f64"}};
        },
}};

// ---- One argument -----------------------------------------------------------------------------------------

const Op neg_op{{
    .name = "neg",
    .doc = "-x, elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.neg; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::nothing,
    .vjp = [](const VjpContext& c) { return Vars{-c.cotangent}; },
    .samples = anywhere,
    .errors = refuses_integers,
}};

const Op square_op{{
    .name = "square",
    .doc = "x * x, elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.square; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent * c.in() * 2.0}; },
    .samples = anywhere,
    .errors = refuses_integers,
}};

const Op reciprocal_op{{
    .name = "reciprocal",
    .doc = "1 / x, elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.reciprocal; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::outputs,
    .vjp = [](const VjpContext& c) { return Vars{-(c.cotangent * square(c.out))}; },
    .samples = positive,
    .errors = refuses_integers,
}};

const Op abs_op{{
    .name = "abs",
    .doc = "|x|, elementwise; derivative 0 at 0.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.abs; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent * sign(c.in())}; },
    .samples = nonzero,
    .errors = refuses_integers,
}};

const Op sqrt_op{{
    .name = "sqrt",
    .doc = "Square root, elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.sqrt; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::outputs,
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent * 0.5 / c.out}; },
    .samples = positive,
    .errors = refuses_integers,
}};

const Op rsqrt_op{{
    .name = "rsqrt",
    .doc = "1 / sqrt(x), elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.rsqrt; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::outputs,
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent * -0.5 * (c.out * square(c.out))}; },
    .samples = positive,
    .errors = refuses_integers,
}};

const Op exp_op{{
    .name = "exp",
    .doc = "e^x, elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.exp; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::outputs,
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent * c.out}; },
    .samples = anywhere,
    .errors = refuses_integers,
}};

const Op expm1_op{{
    .name = "expm1",
    .doc = "e^x - 1, elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.expm1; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::outputs,
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent * (c.out + 1.0)}; },
    .samples = anywhere,
    .errors = refuses_integers,
}};

const Op log_op{{
    .name = "log",
    .doc = "Natural logarithm, elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.log; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent / c.in()}; },
    .samples = positive,
    .errors = refuses_integers,
}};

const Op log1p_op{{
    .name = "log1p",
    .doc = "log(1 + x), elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.log1p; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent / (c.in() + 1.0)}; },
    .samples = positive,
    .errors = refuses_integers,
}};

const Op sin_op{{
    .name = "sin",
    .doc = "Sine, elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.sin; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent * cos(c.in())}; },
    .samples = anywhere,
    .errors = refuses_integers,
}};

const Op cos_op{{
    .name = "cos",
    .doc = "Cosine, elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.cos; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp = [](const VjpContext& c) { return Vars{-(c.cotangent * sin(c.in()))}; },
    .samples = anywhere,
    .errors = refuses_integers,
}};

// ---- Activations: the hot ones have a fused kernel for their vjp, itself an operation ---------------------

Spec equal_shape(const ShapeContext& c) {
  const DType dtype = common_floating(c);
  if (!(c.shape(0) == c.shape(1)))
    fail<ShapeError>(c.op,
                     "shapes must be equal: " + c.shape(0).to_string() + " with " + c.shape(1).to_string());
  return {c.shape(), dtype};
}

// out = f(a, b) for equal shapes.
template <class F>
void fused_kernel(const KernelContext& c, F f) {
  dispatch_floating(c.in().dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *a = c.in(0).data<T>(), *b = c.in(1).data<T>();
    T* out = c.out().mutable_data<T>();
    for_pieces(c.out().size(), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) out[i] = f(a[i], b[i]);
    });
  });
}

Samples equal_pairs(SampleGen& g) {
  return {{{g.normal({3, 4}), g.normal({3, 4})}},
          {{g.normal({7}), g.normal({7})}},
          {{g.normal({}), g.normal({})}},
          {{g.normal({2, 1, 3}), g.normal({2, 1, 3})}},
          {{g.normal({0}), g.normal({0})}}};
}

Samples equal_pairs_nonzero(SampleGen& g) {
  return {{{g.normal({3, 4}), g.away_from_zero({3, 4})}},
          {{g.normal({7}), g.away_from_zero({7})}},
          {{g.normal({}), g.away_from_zero({})}},
          {{g.normal({0}), g.away_from_zero({0})}}};
}

ErrorSamples refuses_unequal() {
  return {{{Tensor::zeros({2, 3}), Tensor::zeros({3})}, {}, "shapes must be equal: (2,3) with (3)"},
          {{Tensor::zeros({2}), Tensor::zeros({2}, DType::f64)}, {}, "dtypes must agree"}};
}

const Op tanh_vjp_op{{
    .name = "tanh_vjp",
    .doc = "g (1 - y^2): the vjp of y = tanh(x) at the cotangent g.",
    .shape = equal_shape,
    .kernel = [](const KernelContext& c) { fused_kernel(c, [](auto g, auto y) { return g * (1 - y * y); }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &g = c.in(0), &y = c.in(1);
          return Vars{c.needs(0) ? apply(tanh_vjp_op, {c.cotangent, y}) : Var(),
                      c.needs(1) ? c.cotangent * g * y * -2.0 : Var()};
        },
    .samples = equal_pairs,
    .errors = refuses_unequal,
}};

const Op tanh_op{{
    .name = "tanh",
    .doc = "Hyperbolic tangent, elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.tanh; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::outputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{apply(tanh_vjp_op, {c.cotangent, c.out})};
        },
    .samples = anywhere,
    .errors = refuses_integers,
}};

const Op sigmoid_vjp_op{{
    .name = "sigmoid_vjp",
    .doc = "g y (1 - y): the vjp of y = sigmoid(x) at the cotangent g.",
    .shape = equal_shape,
    .kernel =
        [](const KernelContext& c) { fused_kernel(c, [](auto g, auto y) { return g * (y * (1 - y)); }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &g = c.in(0), &y = c.in(1);
          return Vars{c.needs(0) ? apply(sigmoid_vjp_op, {c.cotangent, y}) : Var(),
                      c.needs(1) ? c.cotangent * g * (1.0 - 2.0 * y) : Var()};
        },
    .samples = equal_pairs,
    .errors = refuses_unequal,
}};

const Op sigmoid_op{{
    .name = "sigmoid",
    .doc = "1 / (1 + e^-x), elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.sigmoid; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::outputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{apply(sigmoid_vjp_op, {c.cotangent, c.out})};
        },
    .samples = anywhere,
    .errors = refuses_integers,
}};

const Op softplus_op{{
    .name = "softplus",
    .doc = "log(1 + e^x), elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.softplus; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent * sigmoid(c.in())}; },
    .samples = anywhere,
    .errors = refuses_integers,
}};

struct Slope {
  double slope = 0.01;
};

// g where y > 0, slope * g elsewhere, which serves x as well as y = leaky_relu(x) for slopes that keep the
// sign.
const Op leaky_relu_vjp_op{{
    .name = "leaky_relu_vjp",
    .doc = "g where x > 0, slope * g elsewhere: the vjp of leaky_relu at the cotangent g.",
    .shape = equal_shape,
    .kernel =
        [](const KernelContext& c) {
          const double slope = c.attrs.as<Slope>().slope;
          fused_kernel(c,
                       [slope](auto g, auto x) { return x > 0 ? g : g * static_cast<decltype(g)>(slope); });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{c.needs(0) ? apply(leaky_relu_vjp_op, {c.cotangent, c.in(1)}, c.attrs) : Var()};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples = equal_pairs_nonzero(g);
          for (Sample& sample : samples) sample.attrs = Slope{0.1};
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({2, 3}), Tensor::zeros({3})}, Slope{}, "shapes must be equal: (2,3) with (3)"}};
        },
    .nan = NanRule::same_place_or_none,
    .steps = 2,
}};

const Op relu_vjp_op{{
    .name = "relu_vjp",
    .doc = "g where y > 0, 0 elsewhere: the vjp of y = relu(x) at the cotangent g.",
    .shape = equal_shape,
    .kernel =
        [](const KernelContext& c) {
          fused_kernel(c, [](auto g, auto y) { return y > 0 ? g : decltype(g){0}; });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{c.needs(0) ? apply(relu_vjp_op, {c.cotangent, c.in(1)}) : Var()};
        },
    .samples = equal_pairs_nonzero,
    .errors = refuses_unequal,
    .nan = NanRule::same_place_or_none,
    .steps = 2,
}};

const Op relu_op{{
    .name = "relu",
    .doc = "max(x, 0), elementwise; derivative 0 at 0.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.relu; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::outputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{apply(relu_vjp_op, {c.cotangent, c.out})};
        },
    .samples = nonzero,
    .errors = refuses_integers,
}};

const Op leaky_relu_op{{
    .name = "leaky_relu",
    .doc = "x where x > 0, slope * x elsewhere.",
    .shape = same_shape,
    .kernel =
        [](const KernelContext& c) {
          const double slope = c.attrs.as<Slope>().slope;
          map_kernel(c, [slope](auto* x, auto* y, std::int64_t n, const auto& k) {
            k.leaky_relu(x, static_cast<std::remove_pointer_t<decltype(y)>>(slope), y, n);
          });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{apply(leaky_relu_vjp_op, {c.cotangent, c.in()}, c.attrs)};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples = nonzero(g);
          for (std::size_t i = 0; i < samples.size(); ++i) samples[i].attrs = Slope{i % 2 ? 0.2 : -0.5};
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::arange(3)}, Slope{}, "expects f32 or f64"}};
        },
}};

struct Bounds {
  double low = 0.0, high = 0.0;
};

const Op clamp_op{{
    .name = "clamp",
    .doc = "x limited to [low, high]; derivative 1 inside, bounds included, 0 outside.",
    .shape =
        [](const ShapeContext& c) {
          const auto& bounds = c.attrs.as<Bounds>();
          if (!(bounds.low <= bounds.high))
            fail<ValueError>(c.op, "low must not exceed high: " + std::to_string(bounds.low) + " with " +
                                       std::to_string(bounds.high));
          return same_shape(c);
        },
    .kernel =
        [](const KernelContext& c) {
          const Bounds bounds = c.attrs.as<Bounds>();
          map_kernel(c, [bounds](auto* x, auto* y, std::int64_t n, const auto& k) {
            using T = std::remove_pointer_t<decltype(y)>;
            k.clamp(x, static_cast<T>(bounds.low), static_cast<T>(bounds.high), y, n);
          });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const auto& bounds = c.attrs.as<Bounds>();
          const Var inside = greater_equal(c.in(), bounds.low) * less_equal(c.in(), bounds.high);
          return Vars{c.cotangent * inside};
        },
    .samples =
        [](SampleGen& g) {  // odd multiples of 0.25, moved a little: never near the bounds
          const auto around = [&](const Shape& shape) {
            Tensor x = g.distinct(shape, 0.5);
            double* values = x.mutable_data<double>();
            for (std::int64_t i = 0; i < x.size(); ++i)
              values[i] = 0.5 * std::floor(2.0 * values[i]) + g.uniform({}, 0.1, 0.4).item();
            return x;
          };
          return Samples{{{around({3, 4})}, Bounds{-1.0, 1.0}},
                         {{around({9})}, Bounds{-2.0, 0.5}},
                         {{around({})}, Bounds{-0.5, 0.5}},
                         {{around({2, 3, 2})}, Bounds{0.0, 1e300}},
                         {{around({0})}, Bounds{0.0, 1.0}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({2})}, Bounds{1.0, 0.0}, "low must not exceed high"},
                              {{Tensor::arange(3)}, Bounds{0.0, 1.0}, "expects f32 or f64"}};
        },
}};

// ---- Choices ----------------------------------------------------------------------------------------------

// a's share of the cotangent of maximum(a, b): 1 where a > b, a half where they are equal.
Var share_of_larger(const Var& a, const Var& b) { return 0.5 * (greater(a, b) + greater_equal(a, b)); }

const Op maximum_op{{
    .name = "maximum",
    .doc = "The larger of a and b; a tie gives half of the cotangent to each.",
    .shape = broadcast_shape,
    .kernel = [](auto& c) { binary_kernel(c, [](auto& k) { return k.maximum; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{to_input(c, 0, [&] { return c.cotangent * share_of_larger(c.in(0), c.in(1)); }),
                      to_input(c, 1, [&] { return c.cotangent * share_of_larger(c.in(1), c.in(0)); })};
        },
    .samples = pairs_without_ties,
    .errors = refuses_mismatch,
}};

const Op minimum_op{{
    .name = "minimum",
    .doc = "The smaller of a and b; a tie gives half of the cotangent to each.",
    .shape = broadcast_shape,
    .kernel = [](auto& c) { binary_kernel(c, [](auto& k) { return k.minimum; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{to_input(c, 0, [&] { return c.cotangent * share_of_larger(c.in(1), c.in(0)); }),
                      to_input(c, 1, [&] { return c.cotangent * share_of_larger(c.in(0), c.in(1)); })};
        },
    .samples = pairs_without_ties,
    .errors = refuses_mismatch,
}};

const Op where_op{{
    .name = "where",
    .doc = "a where the condition is not zero, b elsewhere; the condition has derivative zero.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          return Spec{broadcast(broadcast(c.shape(0), c.shape(1), c.op), c.shape(2), c.op), dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.in(0).dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T *condition = c.in(0).data<T>(), *a = c.in(1).data<T>(), *b = c.in(2).data<T>();
            T* out = c.out().mutable_data<T>();
            const Broadcast<3> plan({&c.in(0).shape(), &c.in(1).shape(), &c.in(2).shape()}, c.out().shape());
            const auto [sc, sa, sb] = plan.inner_strides();
            plan.for_runs([&, sc = sc, sa = sa, sb = sb](const auto& at, std::int64_t to, std::int64_t n) {
              if (sc && sa && sb)
                return simd::kernels<T>().select(condition + at[0], a + at[1], b + at[2], out + to, n);
              for (std::int64_t i = 0; i < n; ++i)
                out[to + i] = condition[at[0] + i * sc] != 0 ? a[at[1] + i * sa] : b[at[2] + i * sb];
            });
          });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{Var(), to_input(c, 1, [&] { return where(c.in(0), c.cotangent, 0.0); }),
                      to_input(c, 2, [&] { return where(c.in(0), 0.0, c.cotangent); })};
        },
    .samples =
        [](SampleGen& g) {
          const auto mask = [&](const Shape& shape) { return g.indices(shape, 2).to(DType::f64); };
          return Samples{{{mask({3, 4}), g.normal({3, 4}), g.normal({3, 4})}},
                         {{mask({3, 1}), g.normal({4}), g.normal({3, 4})}},
                         {{mask({4}), g.normal({3, 4}), g.normal({})}},
                         {{mask({}), g.normal({2, 3}), g.normal({3})}},
                         {{mask({2, 1, 2}), g.normal({3, 1}), g.normal({1, 1, 2})}},
                         {{mask({}), g.normal({}), g.normal({1})}},
                         {{mask({0}), g.normal({0}), g.normal({1})}}};
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({2}), Tensor::zeros({3}), Tensor::zeros({3})}, {}, "shapes must broadcast"},
              {{Tensor::arange(2), Tensor::zeros({2}), Tensor::zeros({2})}, {}, "expects f32 or f64"}};
        },
    .nan = NanRule::same_place_or_none,
    .steps = 1,
}};

}  // namespace

// ---- The functions ----------------------------------------------------------------------------------------

Var add(const Var& a, const Var& b) { return apply(add_op, {a, b}); }
Var sub(const Var& a, const Var& b) { return apply(sub_op, {a, b}); }
Var mul(const Var& a, const Var& b) { return apply(mul_op, {a, b}); }
Var div(const Var& a, const Var& b) { return apply(div_op, {a, b}); }
Var affine(const Var& x, double scale, double shift) { return unary(affine_op, x, Affine{scale, shift}); }
Var operator/(const Var& a, double b) { return div(a, constant_like(b, a)); }
Var operator/(double a, const Var& b) { return div(constant_like(a, b), b); }

Var neg(const Var& x) { return unary(neg_op, x); }
Var square(const Var& x) { return unary(square_op, x); }
Var reciprocal(const Var& x) { return unary(reciprocal_op, x); }
Var abs(const Var& x) { return unary(abs_op, x); }
Var sqrt(const Var& x) { return unary(sqrt_op, x); }
Var rsqrt(const Var& x) { return unary(rsqrt_op, x); }
Var exp(const Var& x) { return unary(exp_op, x); }
Var expm1(const Var& x) { return unary(expm1_op, x); }
Var log(const Var& x) { return unary(log_op, x); }
Var log1p(const Var& x) { return unary(log1p_op, x); }
Var sin(const Var& x) { return unary(sin_op, x); }
Var cos(const Var& x) { return unary(cos_op, x); }
Var tanh(const Var& x) { return unary(tanh_op, x); }
Var sigmoid(const Var& x) { return unary(sigmoid_op, x); }
Var softplus(const Var& x) { return unary(softplus_op, x); }
Var relu(const Var& x) { return unary(relu_op, x); }
Var leaky_relu(const Var& x, double slope) { return unary(leaky_relu_op, x, Slope{slope}); }
Var clamp(const Var& x, double low, double high) { return unary(clamp_op, x, Bounds{low, high}); }

Var maximum(const Var& a, const Var& b) { return apply(maximum_op, {a, b}); }
Var maximum(const Var& a, double b) { return maximum(a, constant_like(b, a)); }
Var minimum(const Var& a, const Var& b) { return apply(minimum_op, {a, b}); }
Var minimum(const Var& a, double b) { return minimum(a, constant_like(b, a)); }
Var where(const Var& condition, const Var& a, const Var& b) { return apply(where_op, {condition, a, b}); }
Var where(const Var& condition, const Var& a, double b) { return where(condition, a, constant_like(b, a)); }
Var where(const Var& condition, double a, const Var& b) { return where(condition, constant_like(a, b), b); }

}  // namespace banach
