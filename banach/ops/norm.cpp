#include <banach/engine/samples.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/norm.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/rows.hpp>
#include <banach/ops/shape_ops.hpp>

#include <cmath>
#include <limits>
#include <string>

namespace banach {
namespace {

struct Epsilon {
  double eps = 1e-5;
};

void check_epsilon(std::string_view op, const Attrs& attrs) {
  const double eps = attrs.as<Epsilon>().eps;
  if (!(eps >= 0)) fail<ValueError>(op, "eps must not be negative: got " + std::to_string(eps));
}

Shape column_of(const Shape& shape) { return reduced(shape, {shape.rank() - 1}, true); }

// Rows without elements have a mean too: 0.
Var mean_rows(const Var& x) { return x.size(-1) == 0 ? sum(x, {-1}, true) : mean(x, {-1}, true); }

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();

// In terms of y and r = 1 / sqrt(variance + eps), with <> the mean along a row:
//   y's cotangent h gives x the cotangent r (h - <h> - y <h y>), which is normalize_vjp, linear and symmetric
//   in h; r's cotangent c gives x the cotangent -c r^2 y / n.
const Op normalize_vjp_op{{
    .name = "normalize_vjp",
    .doc =
        "r (h - mean(h) - y mean(h y)), row by row: the vjp of y = normalize(x) at the cotangent h = g, or, "
        "given gamma, of layer_norm at g: h = g gamma.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          const Shape last{rows_of(c.shape(), c.op).length};
          if (c.inputs.size() > 3 && !(c.shape(3) == last))
            fail<ShapeError>(c.op, "gamma must have the extent of the last axis: " + c.shape(3).to_string() +
                                       " for " + c.shape().to_string());
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
            const auto f = simd::kernels<T>().normalize_vjp_row;
            const Rows rows = rows_of(c.in().shape(), "normalize_vjp");
            const T *g = c.in(0).data<T>(), *y = c.in(1).data<T>(), *rstd = c.in(2).data<T>(),
                    *gamma = c.inputs.size() > 3 ? c.in(3).data<T>() : nullptr;
            T* out = c.out().mutable_data<T>();
            for_rows(rows, [&](std::int64_t row) {
              const std::int64_t at = row * rows.length;
              f(g + at, gamma, y + at, rstd[row], out + at, rows.length);
            });
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &u = c.cotangent, &g = c.in(0), &y = c.in(1), &r = c.in(2);
          const bool scaled = c.inputs.size() > 3;
          const Var h = scaled ? g * c.in(3) : g;
          Vars cotangents(c.inputs.size());
          if (c.needs(0) || (scaled && c.needs(3))) {
            const Var to_h = apply(normalize_vjp_op, {u, y, r});
            if (c.needs(0)) cotangents[0] = scaled ? to_h * c.in(3) : to_h;
            if (scaled && c.needs(3)) cotangents[3] = sum_to(to_h * g, c.in(3).shape());
          }
          if (c.needs(1)) cotangents[1] = -(r * (u * mean_rows(h * y) + h * mean_rows(u * y)));
          if (c.needs(2)) cotangents[2] = sum(u * (h - mean_rows(h) - y * mean_rows(h * y)), {-1}, true);
          return cotangents;
        },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({3, 4}), g.normal({3, 4}), g.uniform({3, 1}, 0.5, 2.0)}},
                         {{g.normal({2, 3, 5}), g.normal({2, 3, 5}), g.uniform({2, 3, 1}, 0.5, 2.0)}},
                         {{g.normal({6}), g.normal({6}), g.uniform({1}, 0.5, 2.0)}},
                         {{g.normal({1}), g.normal({1}), g.uniform({1}, 0.5, 2.0)}},
                         {{g.normal({2, 3}), g.normal({2, 3}), g.uniform({2, 1}, 0.5, 2.0), g.normal({3})}},
                         {{g.normal({4}), g.normal({4}), g.uniform({1}, 0.5, 2.0), g.normal({4})}},
                         {{g.normal({0, 3}), g.normal({0, 3}), g.normal({0, 1})}},
                         {{g.normal({3, 0}), g.normal({3, 0}), g.normal({3, 1}), g.normal({0})}}};
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3});
          return ErrorSamples{{{x, x, Tensor::zeros({2})}, {}, "the last one a column"},
                              {{x, x, Tensor::zeros({2, 1}), Tensor::zeros({2})},
                               {},
                               "the extent of the last axis: (2) for"}};
        },
    .nan = NanRule::somewhere,
    .rows =
        [](const RowsContext& c) {
          return c.out().rank() > 1 ? RowInputs(0b111) : RowInputs();  // gamma is read whole
        },
}};

const Op normalize_op{{
    .name = "normalize",
    .doc = "(x - mean) / sqrt(variance + eps) along the last axis, and 1 / sqrt(variance + eps) as a column.",
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const auto f = simd::kernels<T>().normalize_row;
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
                         {{g.normal({0, 3})}, Epsilon{1e-5}},
                         {{g.normal({3, 0})}, Epsilon{1e-5}}};
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
          check_epsilon(c.op, c.attrs);
          return Specs{{c.shape(), dtype}, {column_of(c.shape()), dtype}};
        },
    .edges =
        [] {
          return Edges{
              {{tensor({3.0, 3.0, 0.0, 2.0}, {2, 2})},  // a constant row and a usual one
               Epsilon{3.0},
               {tensor({0.0, 0.0, -0.5, 0.5}, {2, 2}), tensor({1 / std::sqrt(3.0), 0.5}, {2, 1})},
               {tensor({0.0, 0.0, 0.0625, -0.0625}, {2, 2})}},
              {{numbers({3, 3})}, Epsilon{0.0}, {numbers({nan, nan}), numbers({inf})}, {numbers({nan, nan})}},
              {{tensor({1.0, nan, 1.0, inf, 0.0, 2.0}, {3, 2})},
               Epsilon{0.0},
               {tensor({nan, nan, nan, nan, -1.0, 1.0}, {3, 2}), tensor({nan, nan, 1.0}, {3, 1})}},
              {{Tensor::zeros({2, 0}, DType::f64)},
               Epsilon{0.25},
               {Tensor::zeros({2, 0}, DType::f64), tensor({2.0, 2.0}, {2, 1})},
               {Tensor::zeros({2, 0}, DType::f64)}}};
        },
    .nan = NanRule::somewhere,
    .rows = last_axis_rows,
}};

const Op layer_norm_op{{
    .name = "layer_norm",
    .doc = "normalize(x) * gamma + beta along the last axis.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          const Shape last{rows_of(c.shape(), c.op).length};
          if (!(c.shape(1) == last) || !(c.shape(2) == last))
            fail<ShapeError>(
                c.op, "gamma and beta must have the extent of the last axis: " + c.shape().to_string() +
                          " with " + c.shape(1).to_string() + " and " + c.shape(2).to_string());
          check_epsilon(c.op, c.attrs);
          return Spec{c.shape(), dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const auto f = simd::kernels<T>().layer_norm_row;
            const auto eps = static_cast<T>(c.attrs.as<Epsilon>().eps);
            const Rows rows = rows_of(c.in().shape(), "layer_norm");
            const T *x = c.in(0).data<T>(), *gamma = c.in(1).data<T>(), *beta = c.in(2).data<T>();
            T* y = c.out().mutable_data<T>();
            for_rows(rows, [&](std::int64_t row) {
              f(x + row * rows.length, gamma, beta, eps, y + row * rows.length, rows.length);
            });
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &g = c.cotangent, &gamma = c.in(1);
          Vars cotangents(3);
          if (c.needs(0) || c.needs(1)) {
            const Vars normalized = apply_all(normalize_op, {&c.in(0), 1}, c.attrs);
            if (c.needs(0)) cotangents[0] = apply(normalize_vjp_op, {g, normalized[0], normalized[1], gamma});
            if (c.needs(1)) cotangents[1] = sum_to(g * normalized[0], gamma.shape());
          }
          if (c.needs(2)) cotangents[2] = sum_to(g, gamma.shape());
          return cotangents;
        },
    .samples =
        [](SampleGen& g) {
          const auto sample = [&](const Shape& shape, std::int64_t n, double eps) {
            return Sample{{g.distinct(shape, 0.4), g.normal({n}, 1.0), g.normal({n})}, Epsilon{eps}};
          };
          return Samples{sample({3, 4}, 4, 1e-5), sample({2, 3, 5}, 5, 1e-3), sample({6}, 6, 1e-5),
                         sample({1}, 1, 1.0),     sample({0, 3}, 3, 1e-5),    sample({2, 0}, 0, 1e-5)};
        },
    .errors =
        [] {
          const Tensor two = Tensor::zeros({2});
          return ErrorSamples{
              {{Tensor::zeros({2, 3}), two, Tensor::zeros({3})},
               Epsilon{},
               "gamma and beta must have the extent of the last axis: (2,3) with (2) and (3)"},
              {{two, two, two}, Epsilon{-1.0}, "eps must not be negative"},
              {{Tensor::zeros({}), Tensor::zeros({}), Tensor::zeros({})}, Epsilon{}, "[layer_norm]"}};
        },
    .edges =
        [] {
          return Edges{{{tensor({3.0, 3.0, 1.0, nan}, {2, 2}), numbers({2, 2}), numbers({5, -0.0})},
                        Epsilon{0.25},
                        {tensor({5.0, 0.0, nan, nan}, {2, 2})},
                        {tensor({0.0, 0.0, nan, nan}, {2, 2}), numbers({nan, nan}), numbers({2, 2})}},
                       {{Tensor::zeros({0, 2}, DType::f64), numbers({1, 1}), numbers({0, 0})},
                        Epsilon{},
                        {Tensor::zeros({0, 2}, DType::f64)},
                        {Tensor::zeros({0, 2}, DType::f64), numbers({0, 0}), numbers({0, 0})}}};
        },
    .nan = NanRule::somewhere,
    .rows = [](const RowsContext& c) { return c.out().rank() > 1 ? RowInputs(1) : RowInputs(); },
}};

struct GroupNormAttrs {
  std::int64_t groups;
  double eps = 1e-5;
};

Vars group_normalized(std::span<const Var> in, const Attrs& attrs) {
  const auto& [groups, eps] = attrs.as<GroupNormAttrs>();
  const Var& x = in[0];
  if (x.rank() < 2)
    fail<ShapeError>("group_norm", "expects (n, channels, ...): got " + x.shape().to_string());
  const std::int64_t channels = x.size(1);
  if (groups < 1 || channels % groups != 0)
    fail<ShapeError>("group_norm", "groups must divide the channels: " + std::to_string(groups) + " for " +
                                       x.shape().to_string());
  for (const Var& vector : in.subspan(1))
    if (!(vector.shape() == Shape{channels}))
      fail<ShapeError>("group_norm", "gamma and beta must have one entry a channel: " +
                                         vector.shape().to_string() + " for " + x.shape().to_string());
  common_floating({"group_norm", in, attrs});
  const std::int64_t row = channels / groups * x.shape().size(2, x.rank());
  const Var y = reshape(normalize(reshape(x, {x.size(0), groups, row}), eps), x.shape());
  if (in.size() == 1) return {y};
  Ints column{channels};
  for (int i = 2; i < x.rank(); ++i) column.push_back(1);
  return {y * reshape(in[1], column) + reshape(in[2], column)};
}

const Op group_norm_op{{
    .name = "group_norm",
    .doc = "Normalised over the channels of each group and all later axes, times gamma, plus beta.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          const auto sample = [&](const Shape& shape, std::int64_t groups, double eps) {
            return Sample{{g.distinct(shape, 0.3), g.normal({shape[1]}, 1.0), g.normal({shape[1]})},
                          GroupNormAttrs{groups, eps}};
          };
          return Samples{sample({2, 4, 3}, 2, 1e-5),
                         sample({2, 4, 2, 2}, 4, 1e-3),
                         sample({1, 6, 2}, 1, 1e-3),
                         sample({2, 6}, 2, 1e-5),
                         sample({0, 4, 3}, 2, 1e-5),
                         sample({1, 1}, 1, 1.0),
                         {{g.distinct({2, 4, 3}, 0.3)}, GroupNormAttrs{2, 1e-5}}};
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 4, 3}), c = Tensor::zeros({4});
          return ErrorSamples{
              {{x, c, c}, GroupNormAttrs{3}, "[group_norm] groups must divide the channels: 3 for (2,4,3)"},
              {{x, c, c}, GroupNormAttrs{0}, "groups must divide the channels: 0 for (2,4,3)"},
              {{x, c, Tensor::zeros({3})},
               GroupNormAttrs{2},
               "must have one entry a channel: (3) for (2,4,3)"},
              {{c, c, c}, GroupNormAttrs{2}, "[group_norm] expects (n, channels, ...): got (4)"}};
        },
    .composite = group_normalized,
    .edges =
        [] {
          // Groups: constant, usual, with an infinity.
          return Edges{
              {{tensor({3.0, 3.0, 0.0, 2.0, 1.0, inf}, {1, 6}), Tensor::ones({6}, DType::f64),
                numbers({1, 1, 1, 1, 1, 1})},
               GroupNormAttrs{3, 3.0},
               {tensor({1.0, 1.0, 0.5, 1.5, nan, nan}, {1, 6})},
               {tensor({0.0, 0.0, 0.0, 0.0, nan, nan}, {1, 6}), numbers({0, 0, -0.5, 0.5, nan, nan}),
                Tensor::ones({6}, DType::f64)}},
              {{Tensor::zeros({0, 2}, DType::f64)}, GroupNormAttrs{1}, {Tensor::zeros({0, 2}, DType::f64)}}};
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

Var group_norm(const Var& x, std::int64_t groups, const Var& gamma, const Var& beta, double eps) {
  const Var inputs[] = {x, gamma, beta};
  return apply(group_norm_op, std::span<const Var>(inputs, gamma.defined() ? 3 : 1),
               GroupNormAttrs{groups, eps});
}

}  // namespace banach
