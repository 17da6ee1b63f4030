#include <banach/ops/broadcast.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/entries.hpp>

#include <cmath>
#include <numbers>

namespace banach {
namespace {

using namespace entries;

constexpr double inverse_sqrt_pi = std::numbers::inv_sqrtpi;

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
                      to_input(c, 1, [&] { return c.take_cotangent(); })};
        },
    .samples = pairs,
    .errors = refuses_mismatch,
    .edges =
        [] {
          return edge_pairs({{inf, 1.0, inf, 1.0, 1.0},
                             {inf, -inf, nan, 1.0, 1.0},
                             {nan, 0.0, nan, 1.0, 1.0},
                             {-0.0, -0.0, -0.0, 1.0, 1.0},
                             {-0.0, 0.0, 0.0, 1.0, 1.0}});
        },
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
    .edges =
        [] {
          return edge_pairs({{inf, 1.0, inf, 1.0, -1.0},
                             {inf, inf, nan, 1.0, -1.0},
                             {1.0, nan, nan, 1.0, -1.0},
                             {-0.0, 0.0, -0.0, 1.0, -1.0},
                             {2.0, 2.0, 0.0, 1.0, -1.0}});
        },
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
          return Vars{to_input(c, 0, [&] { return c.cotangent * c.in(1); }), to_input(c, 1, [&] {
                        return apply(mul_op, {c.take_cotangent(), c.in(0)});
                      })};
        },
    .samples = pairs,
    .errors = refuses_mismatch,
    .edges =
        [] {
          return edge_pairs({{inf, 2.0, inf, 2.0, inf},
                             {inf, 0.0, nan, 0.0, inf},
                             {-inf, -1.0, inf, -1.0, -inf},
                             {nan, 0.0, nan, 0.0, nan},
                             {-0.0, 2.0, -0.0, 2.0, -0.0},
                             {-0.0, -2.0, 0.0, -2.0, -0.0}});
        },
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
    .edges =
        [] {
          return edge_pairs({{1.0, 0.0, inf, inf, -inf},
                             {1.0, -0.0, -inf, -inf, -inf},
                             {0.0, 0.0, nan, inf, nan},
                             {inf, inf, nan, 0.0, nan},
                             {1.0, inf, 0.0, 0.0, 0.0},
                             {-1.0, inf, -0.0, 0.0, 0.0},
                             {nan, 1.0, nan, 1.0, nan},
                             {-0.0, 2.0, -0.0, 0.5, 0.0}});
        },
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
    .vjp =
        [](const VjpContext& c) {
          return Vars{apply(affine_op, {c.take_cotangent()}, Affine{c.attrs.as<Affine>().scale, -0.0})};
        },
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
    .edges =
        [] {
          return edge_points({{inf, inf, 2.0},
                              {-inf, -inf, 2.0},
                              {nan, nan, 2.0},
                              {-0.0, 1.0, 2.0},
                              {-0.5, 0.0, 2.0}},
                             Affine{2.0, 1.0}) +
                 edge_points({{inf, nan, 0.0}, {nan, nan, 0.0}, {3.0, 0.0, 0.0}}, Affine{0.0, 0.0}) +
                 edge_points({{-0.0, 0.0, -1.0}, {0.0, -0.0, -1.0}}, Affine{-1.0, -0.0});
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
    .vjp = [](const VjpContext& c) { return Vars{apply(neg_op, {c.take_cotangent()})}; },
    .samples = anywhere,
    .errors = refuses_integers,
    .edges =
        [] {
          return edge_points({{0.0, -0.0, -1.0}, {-0.0, 0.0, -1.0}, {inf, -inf, -1.0}, {nan, nan, -1.0}});
        },
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
    .edges =
        [] {
          return edge_points({{0.0, 0.0, 0.0},
                              {-0.0, 0.0, 0.0},
                              {inf, inf, inf},
                              {-inf, inf, -inf},
                              {nan, nan, nan},
                              {-3.0, 9.0, -6.0}});
        },
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
    .edges =
        [] {
          return edge_points(
              {{0.0, inf, -inf}, {-0.0, -inf, -inf}, {inf, 0.0, 0.0}, {-inf, -0.0, 0.0}, {nan, nan, nan}});
        },
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
    .edges =
        [] {
          return edge_points(
              {{0.0, 0.0, 0.0}, {-0.0, 0.0, 0.0}, {inf, inf, 1.0}, {-inf, inf, -1.0}, {nan, nan, nan}});
        },
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
    .edges =
        [] {
          return edge_points({{0.0, 0.0, inf},
                              {inf, inf, 0.0},
                              {-1.0, nan, nan},
                              {-inf, nan, nan},
                              {nan, nan, nan}}) +
                 Edges{{{numbers({-0.0})}, {}, {numbers({-0.0})}}};
        },
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
    .edges =
        [] {
          return edge_points({{0.0, inf, -inf}, {inf, 0.0, 0.0}, {-1.0, nan, nan}, {nan, nan, nan}}) +
                 Edges{{{numbers({-0.0})}, {}, {numbers({-inf})}}};
        },
}};

const Op exp_op{{
    .name = "exp",
    .doc = "e^x, elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.exp; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::outputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{apply(mul_op, {c.take_cotangent(), c.out})};
        },
    .samples = anywhere,
    .errors = refuses_integers,
    .edges =
        [] {
          return edge_points({{0.0, 1.0, 1.0},
                              {-0.0, 1.0, 1.0},
                              {inf, inf, inf},
                              {-inf, 0.0, 0.0},
                              {1000.0, inf, inf},
                              {-1000.0, 0.0, 0.0},
                              {nan, nan, nan}});
        },
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
    .edges =
        [] {
          return edge_points({{0.0, 0.0, 1.0},
                              {-0.0, -0.0, 1.0},
                              {inf, inf, inf},
                              {-inf, -1.0, 0.0},
                              {1000.0, inf, inf},
                              {-1000.0, -1.0, 0.0},
                              {0x1p-60, 0x1p-60, 1.0},
                              {nan, nan, nan}});
        },
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
    .edges =
        [] {
          return edge_points({{0.0, -inf, inf},
                              {-0.0, -inf, -inf},
                              {1.0, 0.0, 1.0},
                              {inf, inf, 0.0},
                              {-1.0, nan, -1.0},
                              {-inf, nan, 0.0},
                              {nan, nan, nan}});
        },
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
    .edges =
        [] {
          return edge_points({{0.0, 0.0, 1.0},
                              {-0.0, -0.0, 1.0},
                              {-1.0, -inf, inf},
                              {inf, inf, 0.0},
                              {-2.0, nan, -1.0},
                              {0x1p-60, 0x1p-60, 1.0},
                              {nan, nan, nan}});
        },
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
    .edges =
        [] {
          return edge_points(
              {{0.0, 0.0, 1.0}, {-0.0, -0.0, 1.0}, {inf, nan, nan}, {-inf, nan, nan}, {nan, nan, nan}});
        },
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
    .edges =
        [] {
          return edge_points(
              {{0.0, 1.0, 0.0}, {-0.0, 1.0, 0.0}, {inf, nan, nan}, {-inf, nan, nan}, {nan, nan, nan}});
        },
}};

const Op erf_op{{
    .name = "erf",
    .doc = "Error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x, elementwise.",
    .shape = same_shape,
    .kernel = [](auto& c) { unary_kernel(c, [](auto& k) { return k.erf; }); },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{c.cotangent * (exp(-square(c.in())) * (2.0 * inverse_sqrt_pi))};
        },
    .samples = anywhere,
    .errors = refuses_integers,
    .edges =
        [] {
          return edge_points({{0.0, 0.0, 2 * inverse_sqrt_pi},
                              {-0.0, -0.0, 2 * inverse_sqrt_pi},
                              {inf, 1.0, 0.0},
                              {-inf, -1.0, 0.0},
                              {nan, nan, nan}});
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
    .edges =
        [] {
          return edge_points({{-1.0, -1.0, 1.0},
                              {2.0, 2.0, 1.0},
                              {-1.5, -1.0, 0.0},
                              {2.5, 2.0, 0.0},
                              {0.0, 0.0, 1.0},
                              {-0.0, -0.0, 1.0},
                              {inf, 2.0, 0.0},
                              {-inf, -1.0, 0.0},
                              {nan, nan, 0.0}},
                             Bounds{-1.0, 2.0}) +
                 edge_points({{0.0, 1.0, 0.0}, {1.0, 1.0, 1.0}, {2.0, 1.0, 0.0}}, Bounds{1.0, 1.0}) +
                 edge_points({{inf, inf, 1.0}, {-inf, -inf, 1.0}, {nan, nan, 0.0}}, Bounds{-inf, inf});
        },
}};

// ---- Powers -----------------------------------------------------------------------------------------------

template <class T>
simd::Binary<T> power(const simd::Kernels<T>&) {
  return {.vv =
              [](const T* a, const T* b, T* out, std::int64_t n) {
                for (std::int64_t i = 0; i < n; ++i) out[i] = std::pow(a[i], b[i]);
              },
          .vs =
              [](const T* a, T b, T* out, std::int64_t n) {
                for (std::int64_t i = 0; i < n; ++i) out[i] = std::pow(a[i], b);
              },
          .sv =
              [](T a, const T* b, T* out, std::int64_t n) {
                for (std::int64_t i = 0; i < n; ++i) out[i] = std::pow(a, b[i]);
              }};
}

// b a^(b - 1). Where b is 0, so is this, even where 1 / a is infinite or a is NaN.
Var slope_in_base(const Var& a, const Var& b) {
  const double smallest =
      a.dtype() == DType::f32 ? std::numeric_limits<float>::min() : std::numeric_limits<double>::min();
  const Var constant = equal(b, 0.0) * (1.0 - greater_equal(abs(a), smallest));
  return b * pow(a, where(constant, 1.0, b) - 1.0);
}

// a^b log(a), with y = a^b. Where a is 0 and b is not negative it is 0, its limit but for b = 0.
Var slope_in_exponent(const Var& a, const Var& b, const Var& y) {
  return y * log(where(equal(a, 0.0) * greater_equal(b, 0.0), 1.0, a));
}

const Op pow_op{{
    .name = "pow",
    .doc = "a^b, elementwise, broadcasting. The derivative in b is 0 where a = 0 <= b, NaN where a < 0.",
    .shape = broadcast_shape,
    .kernel = [](auto& c) { binary_kernel(c, [](auto& k) { return power(k); }); },
    .kind = OpKind::elementwise,
    .vjp =
        [](const VjpContext& c) {
          const Var &a = c.in(0), &b = c.in(1);
          return Vars{to_input(c, 0, [&] { return c.cotangent * slope_in_base(a, b); }),
                      to_input(c, 1, [&] { return c.cotangent * slope_in_exponent(a, b, c.out); })};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const auto& [a, b] : pairs_of_shapes(g))
            samples.push_back({{g.uniform(a, 0.4, 2.5), g.normal(b, 0.5, 1.5)}});
          return samples;
        },
    .errors = refuses_mismatch,
    .edges =
        [] {
          return edge_pairs({{0.0, 0.0, 1.0, 0.0, 0.0},
                             {0.0, 1.0, 0.0, 1.0, 0.0},
                             {0.0, 2.0, 0.0, 0.0, 0.0},
                             {0.0, 0.5, 0.0, inf, 0.0},
                             {0.0, -1.0, inf, -inf, -inf},
                             {-2.0, 0.0, 1.0, 0.0, nan},
                             {-2.0, 2.0, 4.0, -4.0, nan},
                             {-2.0, 3.0, -8.0, 12.0, nan},
                             {-2.0, 0.5, nan, nan, nan},
                             {-0.0, 3.0, -0.0, 0.0, 0.0},
                             {-0.0, 1.0, -0.0, 1.0, 0.0},
                             {inf, 0.0, 1.0, 0.0, inf},
                             {inf, 2.0, inf, inf, inf},
                             {-inf, 3.0, -inf, inf, nan},
                             {0.5, inf, 0.0, nan, 0.0},
                             {2.0, -inf, 0.0, nan, 0.0},
                             {1.0, nan, 1.0, nan, 0.0},
                             {nan, 0.0, 1.0, 0.0, nan},
                             {nan, 2.0, nan, nan, nan}});
        },
    .nan = NanRule::same_place_or_none,
}};

struct Exponent {
  double value;
};

Edges power_edges(double exponent, std::initializer_list<EdgePoint> points) {
  return edge_points(points, Exponent{exponent});
}

const Op pow_number_op{{
    .name = "pow_number",
    .doc = "x^b for a number b, elementwise; its derivative is 0 for b = 0, at any x.",
    .shape = same_shape,
    .kernel =
        [](const KernelContext& c) {
          const double exponent = c.attrs.as<Exponent>().value;
          map_kernel(c, [exponent](auto* x, auto* y, std::int64_t n, const auto& k) {
            using T = std::remove_pointer_t<decltype(y)>;
            power(k).vs(x, static_cast<T>(exponent), y, n);
          });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const double b = c.attrs.as<Exponent>().value;
          return Vars{b == 0.0 ? Var() : c.cotangent * (b * pow(c.in(), b - 1.0))};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const double exponent : {0.5, 2.5, -1.5, 1.0 / 3.0})
            samples.push_back({{g.uniform(g.shape(), 0.5, 3.0)}, Exponent{exponent}});
          for (const double exponent : {2.0, 3.0, -1.0, -2.0, 1.0, 0.0})
            samples.push_back({{g.away_from_zero({5}, 0.4)}, Exponent{exponent}});
          samples.push_back({{g.normal({})}, Exponent{4.0}});
          samples.push_back({{g.normal({0, 2})}, Exponent{0.5}});
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::arange(3)}, Exponent{3.0}, "expects f32 or f64"}};
        },
    .edges =
        [] {
          return power_edges(0.0, {{0.0, 1.0, 0.0}, {inf, 1.0, 0.0}, {nan, 1.0, 0.0}, {-2.0, 1.0, 0.0}}) +
                 power_edges(1.0, {{0.0, 0.0, 1.0}, {-0.0, -0.0, 1.0}, {-inf, -inf, 1.0}, {nan, nan, 1.0}}) +
                 power_edges(2.0, {{-0.0, 0.0, 0.0}, {-inf, inf, -inf}, {nan, nan, nan}, {-3.0, 9.0, -6.0}}) +
                 power_edges(3.0, {{-0.0, -0.0, 0.0}, {-inf, -inf, inf}, {-1.0, -1.0, 3.0}}) +
                 power_edges(-1.0, {{0.0, inf, -inf}, {-0.0, -inf, -inf}, {-inf, -0.0, 0.0}}) +
                 power_edges(0.5, {{0.0, 0.0, inf}, {inf, inf, 0.0}, {-1.0, nan, nan}, {nan, nan, nan}}) +
                 power_edges(1.5, {{0.0, 0.0, 0.0}, {inf, inf, inf}, {-1.0, nan, nan}});
        },
    .nan = NanRule::same_place_or_none,
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
    .edges =
        [] {
          return edge_pairs({{1.0, 1.0, 1.0, 0.5, 0.5},
                             {inf, inf, inf, 0.5, 0.5},
                             {-inf, 1.0, 1.0, 0.0, 1.0},
                             {inf, 1.0, inf, 1.0, 0.0},
                             {nan, 1.0, nan, 0.0, 0.0},
                             {1.0, nan, nan, 0.0, 0.0},
                             {nan, nan, nan, 0.0, 0.0},
                             {-0.0, -0.0, -0.0, 0.5, 0.5}});
        },
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
    .edges =
        [] {
          return edge_pairs({{1.0, 1.0, 1.0, 0.5, 0.5},
                             {-inf, -inf, -inf, 0.5, 0.5},
                             {-inf, 1.0, -inf, 1.0, 0.0},
                             {inf, 1.0, 1.0, 0.0, 1.0},
                             {nan, 1.0, nan, 0.0, 0.0},
                             {1.0, nan, nan, 0.0, 0.0},
                             {nan, nan, nan, 0.0, 0.0},
                             {-0.0, -0.0, -0.0, 0.5, 0.5}});
        },
}};

// The kernel of `where` for operands of stride 1, or 0: those are spread out first, a block at a time.
template <class T>
void choose(const T* condition, std::int64_t sc, const T* a, std::int64_t sa, const T* b, std::int64_t sb,
            T* out, std::int64_t n) {
  constexpr std::int64_t block = 512;
  T spread[3][block];
  const auto operand = [&](int i, const T* from, std::int64_t stride) {
    if (stride == 0) std::fill_n(spread[i], std::min(n, block), *from);
    return stride == 0 ? spread[i] : from;
  };
  const T *first = operand(0, condition, sc), *second = operand(1, a, sa), *third = operand(2, b, sb);
  const auto& k = simd::kernels<T>();
  if (sc && sa && sb) return k.select(first, second, third, out, n);
  for (std::int64_t i = 0; i < n; i += block)
    k.select(first + i * sc, second + i * sa, third + i * sb, out + i, std::min(block, n - i));
}

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
              choose(condition + at[0], sc, a + at[1], sa, b + at[2], sb, out + to, n);
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
    .edges =
        [] {
          return Edges{
              {{numbers({1.0, 0.0, -0.0, nan, -1.0, inf, 0.0}), numbers({1.0, nan, inf, 3.0, -0.0, nan, 7.0}),
                numbers({nan, 2.0, -inf, nan, inf, 0.0, nan})},
               {},
               {numbers({1.0, 2.0, -inf, 3.0, -0.0, nan, nan})},
               {numbers({1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0}), numbers({0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0})}},
              {{numbers({}), numbers({}), numbers({5.0})}, {}, {numbers({})}, {numbers({}), numbers({0.0})}}};
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
Var erf(const Var& x) { return unary(erf_op, x); }
Var clamp(const Var& x, double low, double high) { return unary(clamp_op, x, Bounds{low, high}); }

Var pow(const Var& a, const Var& b) { return apply(pow_op, {a, b}); }
Var pow(const Var& x, double exponent) {
  if (exponent == 1.0 && is_floating(x.dtype())) return x;
  return exponent == 2.0 ? square(x) : unary(pow_number_op, x, Exponent{exponent});
}
Var pow(double base, const Var& exponent) { return pow(constant_like(base, exponent), exponent); }

Var maximum(const Var& a, const Var& b) { return apply(maximum_op, {a, b}); }
Var maximum(const Var& a, double b) { return maximum(a, constant_like(b, a)); }
Var minimum(const Var& a, const Var& b) { return apply(minimum_op, {a, b}); }
Var minimum(const Var& a, double b) { return minimum(a, constant_like(b, a)); }
Var where(const Var& condition, const Var& a, const Var& b) { return apply(where_op, {condition, a, b}); }
Var where(const Var& condition, const Var& a, double b) { return where(condition, a, constant_like(b, a)); }
Var where(const Var& condition, double a, const Var& b) { return where(condition, constant_like(a, b), b); }

}  // namespace banach
