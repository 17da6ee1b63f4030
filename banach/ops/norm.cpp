#include <banach/engine/samples.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/norm.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/rows.hpp>

namespace banach {
namespace {

struct Epsilon {
  double eps = 1e-5;
};

Shape column_of(const Shape& shape) { return reduced(shape, {shape.rank() - 1}, true); }

Var mean_rows(const Var& x) { return mean(x, {-1}, true); }

// In terms of y and r = 1 / sqrt(variance + eps), with <> the mean along a row:
//   y's cotangent g gives x the cotangent r (g - <g> - y <g y>), which is normalize_vjp, linear and symmetric
//   in g; r's cotangent h gives x the cotangent -h r^2 y / n.
const Op normalize_vjp_op{{
    .name = "normalize_vjp",
    .doc = "r (g - mean(g) - y mean(g y)): the vjp of y = normalize(x) at the cotangent g, row by row.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          rows_of(c.shape(), c.op);
          if (!(c.shape(0) == c.shape(1)) || !(c.shape(2) == column_of(c.shape())))
            fail<ShapeError>(
                c.op, "shapes must be equal, and the last one a column: " + c.shape(0).to_string() + ", " +
                          c.shape(1).to_string() + ", " + c.shape(2).to_string());
          return Spec{c.shape(), dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const simd::Kernels<T>& kernels = simd::kernels<T>();
            const Rows rows = rows_of(c.in().shape(), "normalize_vjp");
            const T *gs = c.in(0).data<T>(), *ys = c.in(1).data<T>(), *rstd = c.in(2).data<T>();
            T* outs = c.out().mutable_data<T>();
            for_rows(rows, [&](std::int64_t row) {
              const std::int64_t n = rows.length, at = row * n;
              const T *g = gs + at, *y = ys + at, r = rstd[row];
              T* out = outs + at;
              const T mean_g = kernels.sum(g, n) / static_cast<T>(n),
                      mean_gy = kernels.dot(g, y, n) / static_cast<T>(n);
              for (std::int64_t i = 0; i < n; ++i) out[i] = r * (g[i] - mean_g - y[i] * mean_gy);
            });
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &u = c.cotangent, &g = c.in(0), &y = c.in(1), &r = c.in(2);
          const auto to_y = [&] { return -(r * (u * mean_rows(g * y) + g * mean_rows(u * y))); };
          const auto to_r = [&] { return sum(u * (g - mean_rows(g) - y * mean_rows(g * y)), {-1}, true); };
          return Vars{c.needs(0) ? apply(normalize_vjp_op, {u, y, r}) : Var(), c.needs(1) ? to_y() : Var(),
                      c.needs(2) ? to_r() : Var()};
        },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({3, 4}), g.normal({3, 4}), g.uniform({3, 1}, 0.5, 2.0)}},
                         {{g.normal({2, 3, 5}), g.normal({2, 3, 5}), g.uniform({2, 3, 1}, 0.5, 2.0)}},
                         {{g.normal({6}), g.normal({6}), g.uniform({1}, 0.5, 2.0)}},
                         {{g.normal({1}), g.normal({1}), g.uniform({1}, 0.5, 2.0)}},
                         {{g.normal({0, 3}), g.normal({0, 3}), g.normal({0, 1})}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({2, 3}), Tensor::zeros({2, 3}), Tensor::zeros({2})},
                               {},
                               "the last one a column"}};
        },
    .nan = NanRule::somewhere,
}};

const Op normalize_op{{
    .name = "normalize",
    .doc = "(x - mean) / sqrt(variance + eps) along the last axis, and 1 / sqrt(variance + eps) as a column.",
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const auto f = simd::kernels<T>().layer_norm_row;
            const auto eps = static_cast<T>(c.attrs.as<Epsilon>().eps);
            const Rows rows = rows_of(c.in().shape(), "normalize");
            const T* x = c.in().data<T>();
            T *y = c.out(0).mutable_data<T>(), *rstd = c.out(1).mutable_data<T>();
            for_rows(rows, [&](std::int64_t row) {
              T mean;
              f(x + row * rows.length, eps, y + row * rows.length, rows.length, &mean, rstd + row);
            });
          });
        },
    .saves = Saves::outputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &y = c.outputs[0], &r = c.outputs[1], &g = c.cotangents[0], &h = c.cotangents[1];
          const double n = static_cast<double>(y.size(-1));
          const auto from_r = [&] { return y * (h * square(r) * (-1.0 / n)); };
          if (!g.defined()) return Vars{from_r()};
          const Var from_y = apply(normalize_vjp_op, {g, y, r});
          return Vars{h.defined() ? from_y + from_r() : from_y};
        },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.distinct({3, 4}, 0.5)}, Epsilon{1e-5}},
                         {{g.distinct({2, 3, 5}, 0.3)}, Epsilon{1e-3}},
                         {{g.distinct({6}, 0.5)}, Epsilon{1e-5}},
                         {{g.normal({2, 4}, 1.0)}, Epsilon{0.5}},
                         {{g.normal({1})}, Epsilon{1.0}},
                         {{g.normal({0, 3})}, Epsilon{1e-5}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({})}, Epsilon{}, "expects at least one axis: got ()"},
                              {{Tensor::zeros({2})}, Epsilon{-1.0}, "eps must not be negative"},
                              {{Tensor::arange(3)}, Epsilon{}, "expects f32 or f64"}};
        },
    .shapes =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          rows_of(c.shape(), c.op);
          if (!(c.attrs.as<Epsilon>().eps >= 0))
            fail<ValueError>(c.op,
                             "eps must not be negative: got " + std::to_string(c.attrs.as<Epsilon>().eps));
          return Specs{{c.shape(), dtype}, {column_of(c.shape()), dtype}};
        },
    .nan = NanRule::somewhere,
}};

const Op layer_norm_op{{
    .name = "layer_norm",
    .doc = "normalize(x) * gamma + beta along the last axis.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          const auto sample = [&](const Shape& shape, std::int64_t n, double eps) {
            return Sample{{g.distinct(shape, 0.4), g.normal({n}, 1.0), g.normal({n})}, Epsilon{eps}};
          };
          return Samples{sample({3, 4}, 4, 1e-5), sample({2, 3, 5}, 5, 1e-3), sample({6}, 6, 1e-5),
                         sample({1}, 1, 1.0), sample({0, 3}, 3, 1e-5)};
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({2, 3}), Tensor::zeros({2}), Tensor::zeros({3})},
               Epsilon{},
               "gamma and beta must have the extent of the last axis: (2,3) with (2) and (3)"},
              {{Tensor::zeros({}), Tensor::zeros({}), Tensor::zeros({})}, Epsilon{}, "[layer_norm]"}};
        },
    .composite =
        [](std::span<const Var> in, const Attrs& attrs) {
          const Var &x = in[0], &gamma = in[1], &beta = in[2];
          const Shape last{rows_of(x.shape(), "layer_norm").length};
          if (!(gamma.shape() == last) || !(beta.shape() == last))
            fail<ShapeError>("layer_norm", "gamma and beta must have the extent of the last axis: " +
                                               x.shape().to_string() + " with " + gamma.shape().to_string() +
                                               " and " + beta.shape().to_string());
          return Vars{normalize(x, attrs.as<Epsilon>().eps) * gamma + beta};
        },
    .nan = NanRule::somewhere,
}};

}  // namespace

Var normalize(const Var& x, double eps) {
  return apply_all(normalize_op, std::span(&x, 1), Epsilon{eps}).front();
}

Var layer_norm(const Var& x, const Var& gamma, const Var& beta, double eps) {
  return apply(layer_norm_op, {x, gamma, beta}, Epsilon{eps});
}

}  // namespace banach
