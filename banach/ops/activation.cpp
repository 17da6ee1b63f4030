// The activations of neural networks; declared in elementwise.hpp.
#include <banach/engine/tape.hpp>
#include <banach/ops/broadcast.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/entries.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace banach {
namespace {

using namespace entries;

// The tanh form of gelu: twice sqrt(2 / pi), and 0.044715 times that.
constexpr double gelu_scale = 2 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
constexpr double gelu_cubic = 0.044715 * gelu_scale;

// ---- Activations: the hot ones have a fused kernel for their vjp, itself an operation ---------------------

Spec equal_shape(const ShapeContext& c) {
  const DType dtype = common_floating(c);
  if (!(c.shape(0) == c.shape(1)))
    fail<ShapeError>(c.op,
                     "shapes must be equal: " + c.shape(0).to_string() + " with " + c.shape(1).to_string());
  return {c.shape(), dtype};
}

// For two inputs of one shape; pick(kernels) is the kernel.
template <class Pick>
void pair_kernel(const KernelContext& c, Pick pick) {
  dispatch_floating(c.in().dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *a = c.in(0).data<T>(), *b = c.in(1).data<T>();
    T* out = c.out().mutable_data<T>();
    const auto kernel = pick(simd::kernels<T>());
    for_pieces(c.out().size(), [&](std::int64_t begin, std::int64_t end) {
      kernel(a + begin, b + begin, out + begin, end - begin);
    });
  });
}

// Calls f(x, scratch, y, n) for blocks that stay in the first cache. What f writes to y last may be where x
// is.
template <class T, class F>
void by_blocks(const T* x, T* y, std::int64_t n, F f) {
  constexpr std::int64_t block = 512;
  T scratch[block];
  for (std::int64_t i = 0; i < n; i += block) f(x + i, scratch, y + i, std::min(block, n - i));
}

// out = x > 0 ? a : scale * b, out being any of the others: by kernels over blocks, as the compiler would
// branch.
template <class T>
void choose_positive(const simd::Kernels<T>& k, const T* x, const T* a, T scale, const T* b, T* out,
                     std::int64_t n) {
  constexpr std::int64_t block = 512;
  T positive[block], below[block];
  for (std::int64_t i = 0; i < n; i += block) {
    const std::int64_t m = std::min(block, n - i);
    k.greater.vs(x + i, T{0}, positive, m);
    k.scale_add(b + i, scale, T{-0.0}, below, m);  // -0, so that -0 + shift is -0
    k.select(positive, a + i, below, out + i, m);
  }
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
    .kernel = [](auto& c) { pair_kernel(c, [](auto& k) { return k.tanh_vjp; }); },
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
          return Vars{apply(tanh_vjp_op, {c.take_cotangent(), c.out})};
        },
    .samples = anywhere,
    .errors = refuses_integers,
    .edges =
        [] {
          return edge_points({{0.0, 0.0, 1.0},
                              {-0.0, -0.0, 1.0},
                              {inf, 1.0, 0.0},
                              {-inf, -1.0, 0.0},
                              {1000.0, 1.0, 0.0},
                              {0x1p-60, 0x1p-60, 1.0},
                              {nan, nan, nan}});
        },
}};

const Op sigmoid_vjp_op{{
    .name = "sigmoid_vjp",
    .doc = "g y (1 - y): the vjp of y = sigmoid(x) at the cotangent g.",
    .shape = equal_shape,
    .kernel = [](auto& c) { pair_kernel(c, [](auto& k) { return k.sigmoid_vjp; }); },
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
          return Vars{apply(sigmoid_vjp_op, {c.take_cotangent(), c.out})};
        },
    .samples = anywhere,
    .errors = refuses_integers,
    .edges =
        [] {
          return edge_points({{0.0, 0.5, 0.25},
                              {-0.0, 0.5, 0.25},
                              {inf, 1.0, 0.0},
                              {-inf, 0.0, 0.0},
                              {1000.0, 1.0, 0.0},
                              {-1000.0, 0.0, 0.0},
                              {nan, nan, nan}});
        },
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
    .edges =
        [] {
          return edge_points({{0.0, std::log(2.0), 0.5},
                              {inf, inf, 1.0},
                              {-inf, 0.0, 0.0},
                              {1000.0, 1000.0, 1.0},
                              {-1000.0, 0.0, 0.0},
                              {nan, nan, nan}});
        },
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
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T *g = c.in(0).data<T>(), *x = c.in(1).data<T>(),
                    slope = static_cast<T>(c.attrs.as<Slope>().slope);
            T* out = c.out().mutable_data<T>();
            for_pieces(c.out().size(), [&](std::int64_t begin, std::int64_t end) {
              choose_positive(simd::kernels<T>(), x + begin, g + begin, slope, g + begin, out + begin,
                              end - begin);
            });
          });
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
    .kernel = [](auto& c) { pair_kernel(c, [](auto& k) { return k.relu_vjp; }); },
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
          return Vars{apply(relu_vjp_op, {c.take_cotangent(), c.out})};
        },
    .samples = nonzero,
    .errors = refuses_integers,
    .edges =
        [] {
          return edge_points({{0.0, 0.0, 0.0},
                              {-0.0, -0.0, 0.0},
                              {inf, inf, 1.0},
                              {-inf, 0.0, 0.0},
                              {nan, nan, 0.0},
                              {-1.0, 0.0, 0.0}});
        },
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
          return Vars{apply(leaky_relu_vjp_op, {c.take_cotangent(), c.in()}, c.attrs)};
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
    .edges =
        [] {
          return edge_points({{0.0, 0.0, 0.5},
                              {-0.0, -0.0, 0.5},
                              {inf, inf, 1.0},
                              {-inf, -inf, 0.5},
                              {nan, nan, 0.5}},
                             Slope{0.5}) +
                 edge_points({{-inf, nan, 0.0}, {-1.0, -0.0, 0.0}, {2.0, 2.0, 1.0}}, Slope{0.0});
        },
}};

struct Alpha {
  double alpha = 1.0;
};

Samples with_alphas(SampleGen& g) {
  Samples samples = nonzero(g);
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i].attrs = Alpha{i % 2 ? 0.7 : 1.0};
  return samples;
}

ErrorSamples elu_errors() { return {{{Tensor::arange(3)}, Alpha{}, "expects f32 or f64"}}; }

// A derivative of elu: `above` is its value where x > 0, which is 1 in the first and 0 in later ones.
struct EluDerivative {
  double alpha = 1.0, above = 1.0;
};

extern const Op elu_vjp_op;

Var elu_vjp(const Var& g, const Var& x, const EluDerivative& which) {
  return apply(elu_vjp_op, {g, x}, which);
}

const Op elu_vjp_vjp_op{{
    .name = "elu_vjp_vjp",
    .doc = "The vjp of elu_vjp(g, x) at the cotangent u: inputs u, g, x; outputs for g and for x.",
    .kernel =
        [](const KernelContext& c) {
          const auto [alpha, above] = c.attrs.as<EluDerivative>();
          dispatch_floating(c.in().dtype(), [&, alpha = alpha, above = above](auto zero) {
            using T = decltype(zero);
            const T *u = c.in(0).data<T>(), *g = c.in(1).data<T>(), *x = c.in(2).data<T>();
            T *of_g = c.out(0).mutable_data<T>(), *of_x = c.out(1).mutable_data<T>();
            for_pieces(c.out().size(), [&](std::int64_t begin, std::int64_t end) {
              simd::kernels<T>().elu_vjp_vjp(u + begin, g + begin, x + begin, static_cast<T>(alpha),
                                             static_cast<T>(above), of_g + begin, of_x + begin, end - begin);
            });
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &u = c.in(0), &g = c.in(1), &x = c.in(2), &of_g = c.cotangents[0],
                    &of_x = c.cotangents[1];
          const EluDerivative first = c.attrs.as<EluDerivative>(), later{first.alpha, 0.0};
          const auto sum = [](const Var& a, const Var& b) {
            return !a.defined() ? b : !b.defined() ? a : a + b;
          };
          const Var from_x = of_x.defined() ? of_x * g : Var();
          return Vars{c.needs(0) ? sum(of_g.defined() ? elu_vjp(of_g, x, first) : Var(),
                                       of_x.defined() ? elu_vjp(from_x, x, later) : Var())
                                 : Var(),
                      c.needs(1) && of_x.defined() ? elu_vjp(of_x * u, x, later) : Var(),
                      c.needs(2) ? elu_vjp(sum(of_g, from_x) * u, x, later) : Var()};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (Sample& pair : equal_pairs_nonzero(g)) {
            const Shape& shape = pair.inputs[0].shape();
            samples.push_back({{g.normal(shape), pair.inputs[0], pair.inputs[1]},
                               EluDerivative{0.7, samples.size() % 2 ? 0.0 : 1.0}});
          }
          return samples;
        },
    .errors =
        [] {
          const Tensor two = Tensor::zeros({2});
          return ErrorSamples{
              {{two, two, Tensor::zeros({3})}, EluDerivative{}, "shapes must be equal: (2) with (3)"}};
        },
    .shapes =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          for (int i = 0; i < 2; ++i)
            if (!(c.shape(i) == c.shape(2)))
              fail<ShapeError>(c.op, "shapes must be equal: " + c.shape(i).to_string() + " with " +
                                         c.shape(2).to_string());
          return Specs(2, Spec{c.shape(), dtype});
        },
    .rows = all_by_rows,
}};

const Op elu_vjp_op{{
    .name = "elu_vjp",
    .doc =
        "g times a derivative of elu at x: the first, 1 where x > 0 and alpha e^x elsewhere, or a later one, "
        "which is 0 where x > 0.",
    .shape = equal_shape,
    .kernel =
        [](const KernelContext& c) {
          const auto [alpha, above] = c.attrs.as<EluDerivative>();
          pair_kernel(c, [alpha = alpha, above = above](const auto& k) {
            return [&k, alpha, above](const auto* g, const auto* x, auto* out, std::int64_t n) {
              using T = std::remove_pointer_t<decltype(out)>;
              k.elu_vjp(g, x, static_cast<T>(alpha), static_cast<T>(above), out, n);
            };
          });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &g = c.in(0), &x = c.in(1);
          const EluDerivative first = c.attrs.as<EluDerivative>(), later{first.alpha, 0.0};
          if (c.needs(0) && c.needs(1)) return apply_all(elu_vjp_vjp_op, Vars{c.cotangent, g, x}, c.attrs);
          return Vars{c.needs(0) ? elu_vjp(c.cotangent, x, first) : Var(),
                      c.needs(1) ? elu_vjp(c.cotangent * g, x, later) : Var()};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples = equal_pairs_nonzero(g);
          for (std::size_t i = 0; i < samples.size(); ++i)
            samples[i].attrs = EluDerivative{0.7, i % 2 ? 0.0 : 1.0};
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({2, 3}), Tensor::zeros({3})},
                               EluDerivative{},
                               "shapes must be equal: (2,3) with (3)"}};
        },
}};

const Op elu_slope_op{{
    .name = "elu_slope",
    .doc = "1 where x > 0, alpha e^x elsewhere: the derivative of elu.",
    .shape = same_shape,
    .kernel =
        [](const KernelContext& c) {
          const double alpha = c.attrs.as<Alpha>().alpha;
          map_kernel(c, [alpha](auto* x, auto* y, std::int64_t n, const auto& k) {
            using T = std::remove_pointer_t<decltype(y)>;
            k.elu_slope(x, static_cast<T>(alpha), T{1}, y, n);
          });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{
              apply(elu_vjp_op, {c.take_cotangent(), c.in()}, EluDerivative{c.attrs.as<Alpha>().alpha, 0.0})};
        },
    .samples = with_alphas,
    .errors = elu_errors,
    .edges =
        [] {
          return edge_points({{0.0, 0.5, 0.5},
                              {-0.0, 0.5, 0.5},
                              {inf, 1.0, 0.0},
                              {-inf, 0.0, 0.0},
                              {1000.0, 1.0, 0.0},
                              {-1000.0, 0.0, 0.0},
                              {nan, nan, nan}},
                             Alpha{0.5});
        },
}};

const Op elu_op{{
    .name = "elu",
    .doc = "x where x > 0, alpha (e^x - 1) elsewhere.",
    .shape = same_shape,
    .kernel =
        [](const KernelContext& c) {
          const double alpha = c.attrs.as<Alpha>().alpha;
          map_kernel(c, [alpha](auto* x, auto* y, std::int64_t n, const auto& k) {
            k.elu(x, static_cast<std::remove_pointer_t<decltype(y)>>(alpha), y, n);
          });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          // A program that sweeps many times at one x computes the slope once, if that is a value of its own.
          if (const Tape* tape = Tape::recorder(); tape && tape->replays())
            return Vars{c.cotangent * apply(elu_slope_op, {c.in()}, c.attrs)};
          return Vars{
              apply(elu_vjp_op, {c.take_cotangent(), c.in()}, EluDerivative{c.attrs.as<Alpha>().alpha})};
        },
    .samples = with_alphas,
    .errors = elu_errors,
    .edges =
        [] {
          return edge_points({{0.0, 0.0, 0.5},
                              {-0.0, -0.0, 0.5},
                              {inf, inf, 1.0},
                              {-inf, -0.5, 0.0},
                              {1000.0, 1000.0, 1.0},
                              {-1000.0, -0.5, 0.0},
                              {nan, nan, nan}},
                             Alpha{0.5});
        },
}};

// Kernel of y = x s with s = f(x) in [0, 1], which f(x, s, n, kernels) writes; its limit 0 at -infinity.
template <class F>
void gate_kernel(const KernelContext& c, F f) {
  map_kernel(c, [f](auto* x, auto* y, std::int64_t n, const auto& k) {
    using T = std::remove_pointer_t<decltype(y)>;
    // Times 0 it is -0, where -infinity would be NaN.
    constexpr T lowest = std::numeric_limits<T>::lowest();
    by_blocks(x, y, n, [&](const T* from, T* s, T* to, std::int64_t m) {
      f(from, s, m, k);
      for (std::int64_t i = 0; i < m; ++i) to[i] = (lowest > from[i] ? lowest : from[i]) * s[i];
    });
  });
}

// The derivative of x s(x): s + x s', with s' vanishing faster than x grows. Beyond +-limit s' is 0, and x
// only must not be infinite.
Var slope_of_product(const Var& x, const Var& s, const Var& slope_of_s, double limit) {
  return s + clamp(x, -limit, limit) * slope_of_s;
}

// Of x s(x), given its value and slope at 1.
Edges gate_edges(double value, double slope) {
  return edge_points({{0.0, 0.0, 0.5},
                      {-0.0, -0.0, 0.5},
                      {inf, inf, 1.0},
                      {-inf, -0.0, 0.0},
                      {1000.0, 1000.0, 1.0},
                      {-1000.0, -0.0, 0.0},
                      {1.0, value, slope},
                      {nan, nan, nan}});
}

const Op silu_op{{
    .name = "silu",
    .doc = "x sigmoid(x), elementwise.",
    .shape = same_shape,
    .kernel =
        [](const KernelContext& c) {
          gate_kernel(c, [](auto* x, auto* s, std::int64_t n, const auto& k) { k.sigmoid(x, s, n); });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var s = sigmoid(c.in());
          return Vars{c.cotangent * slope_of_product(c.in(), s, s * (1.0 - s), 1000.0)};
        },
    .samples = anywhere,
    .errors = refuses_integers,
    .edges = [] { return gate_edges(0.7310585786300049, 0.9276705118714869); },
}};

const Op gelu_op{{
    .name = "gelu",
    .doc = "x (1 + erf(x / sqrt(2))) / 2, elementwise.",
    .shape = same_shape,
    .kernel =
        [](const KernelContext& c) {
          gate_kernel(c, [](auto* x, auto* s, std::int64_t n, const auto& k) {
            using T = std::remove_pointer_t<decltype(s)>;
            k.scale_add(x, static_cast<T>(std::numbers::sqrt2 / 2), T{-0.0}, s, n);
            k.erf(s, s, n);
            k.scale_add(s, T{0.5}, T{0.5}, s, n);
          });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var& x = c.in();
          const Var distribution = 0.5 + 0.5 * erf(x * (std::numbers::sqrt2 / 2));
          const Var density = exp(square(x) * -0.5) * (std::numbers::inv_sqrtpi / std::numbers::sqrt2);
          return Vars{c.cotangent * slope_of_product(x, distribution, density, 100.0)};
        },
    .samples = anywhere,
    .errors = refuses_integers,
    .edges = [] { return gate_edges(0.841344746068543, 1.0833154705876864); },
}};

const Op gelu_tanh_op{{
    .name = "gelu_tanh",
    .doc = "x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, elementwise.",
    .shape = same_shape,
    .kernel =
        [](const KernelContext& c) {
          gate_kernel(c, [](auto* x, auto* s, std::int64_t n, const auto& k) {
            using T = std::remove_pointer_t<decltype(s)>;
            for (std::int64_t i = 0; i < n; ++i)  // (1 + tanh(u)) / 2 = sigmoid(2 u)
              s[i] = x[i] * (static_cast<T>(gelu_scale) + static_cast<T>(gelu_cubic) * (x[i] * x[i]));
            k.sigmoid(s, s, n);
          });
        },
    .kind = OpKind::elementwise,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &x = c.in(), limited = clamp(x, -100.0, 100.0), squared = square(limited);
          const Var s = sigmoid(limited * (gelu_scale + gelu_cubic * squared));
          const Var slope = s * (1.0 - s) * (gelu_scale + (3.0 * gelu_cubic) * squared);
          return Vars{c.cotangent * slope_of_product(x, s, slope, 100.0)};
        },
    .samples = anywhere,
    .errors = refuses_integers,
    .edges = [] { return gate_edges(0.8411919906082768, 1.0829640838457826); },
}};

}  // namespace

// ---- The functions ----------------------------------------------------------------------------------------

Var tanh(const Var& x) { return unary(tanh_op, x); }
Var sigmoid(const Var& x) { return unary(sigmoid_op, x); }
Var softplus(const Var& x) { return unary(softplus_op, x); }
Var relu(const Var& x) { return unary(relu_op, x); }
Var leaky_relu(const Var& x, double slope) { return unary(leaky_relu_op, x, Slope{slope}); }
Var elu(const Var& x, double alpha) { return unary(elu_op, x, Alpha{alpha}); }
Var silu(const Var& x) { return unary(silu_op, x); }
Var gelu(const Var& x, GeluForm form) { return unary(form == GeluForm::exact ? gelu_op : gelu_tanh_op, x); }

}  // namespace banach
