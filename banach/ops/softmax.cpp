#include <banach/engine/simd.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/entries.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/rows.hpp>
#include <banach/ops/softmax.hpp>

#include <cmath>

namespace banach {
namespace {

using namespace entries;

// The operations work along the last axis; the functions at the end bring other axes there.

Spec row_shape(const ShapeContext& c) {
  const DType dtype = common_floating(c);
  rows_of(c.shape(), c.op);
  return {c.shape(), dtype};
}

Spec two_row_shape(const ShapeContext& c) {
  const Spec spec = row_shape(c);
  if (!(c.shape(0) == c.shape(1)))
    fail<ShapeError>(c.op,
                     "shapes must be equal: " + c.shape(0).to_string() + " with " + c.shape(1).to_string());
  return spec;
}

// Kernel of an operation from rows of one input to rows: pick(kernels) is its row function.
template <class Pick>
void row_kernel(const KernelContext& c, Pick pick) {
  dispatch_floating(c.in().dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto f = pick(simd::kernels<T>());
    const Rows rows = rows_of(c.in().shape(), "softmax");
    const T* x = c.in().data<T>();
    T* y = c.out().mutable_data<T>();
    for_rows(rows, [&](std::int64_t row) { f(x + row * rows.length, y + row * rows.length, rows.length); });
  });
}

// Kernel of a fused vjp: f(g, y, out, n, kernels) on rows of the cotangent and of the output.
template <class F>
void two_row_kernel(const KernelContext& c, F f) {
  dispatch_floating(c.in().dtype(), [&](auto zero) {
    using T = decltype(zero);
    const simd::Kernels<T>& kernels = simd::kernels<T>();
    const Rows rows = rows_of(c.in().shape(), "softmax");
    const T *g = c.in(0).data<T>(), *y = c.in(1).data<T>();
    T* out = c.out().mutable_data<T>();
    for_rows(rows, [&](std::int64_t row) {
      const std::int64_t at = row * rows.length;
      f(g + at, y + at, out + at, rows.length, kernels);
    });
  });
}

Var sum_rows(const Var& x) { return sum(x, {-1}, true); }

Samples rows(SampleGen& g) {
  return {{{g.normal({3, 4})}},
          {{g.normal({2, 3, 5}, 1.0, 2.0)}},
          {{g.normal({7})}},
          {{g.normal({1})}},
          {{g.normal({g.integer(1, 5), g.integer(1, 70)})}},
          {{g.normal({4, 1})}},
          {{g.uniform({2, 6}, -3.0, 20.0)}},
          {{g.normal({0, 3})}},
          {{g.normal({3, 0})}}};
}

Samples pairs_of_rows(SampleGen& g) {
  return {{{g.normal({3, 4}), g.normal({3, 4})}}, {{g.normal({2, 3, 5}), g.normal({2, 3, 5})}},
          {{g.normal({7}), g.normal({7})}},       {{g.normal({1}), g.normal({1})}},
          {{g.normal({0, 3}), g.normal({0, 3})}}, {{g.normal({3, 0}), g.normal({3, 0})}}};
}

ErrorSamples refuses_scalars() {
  return {{{Tensor::zeros({})}, {}, "expects at least one axis: got ()"},
          {{Tensor::arange(3)}, {}, "expects f32 or f64"}};
}

ErrorSamples refuses_unequal() {
  return {{{Tensor::zeros({2, 3}), Tensor::zeros({3})}, {}, "shapes must be equal: (2,3) with (3)"}};
}

Tensor special_rows() { return tensor<double>({-inf, -inf, -inf, 0, inf, 1, nan, 1, 3, 3, 1000, 0}, {6, 2}); }

// Of an operation from rows to rows: at special_rows(), and where there is nothing.
Edges row_edges(std::initializer_list<double> outputs, std::initializer_list<double> cotangents) {
  const Tensor no_rows = Tensor::empty({0, 2}, DType::f64), empty_rows = Tensor::empty({2, 0}, DType::f64);
  return {{{special_rows()}, {}, {tensor<double>(outputs, {6, 2})}, {tensor<double>(cotangents, {6, 2})}},
          {{no_rows}, {}, {no_rows}, {no_rows}},
          {{empty_rows}, {}, {empty_rows}, {empty_rows}}};
}

const Op softmax_vjp_op{{
    .name = "softmax_vjp",
    .doc = "y (g - <g, y>): the vjp of y = softmax(x) at the cotangent g, row by row.",
    .shape = two_row_shape,
    .kernel =
        [](const KernelContext& c) {
          two_row_kernel(c, [](auto* g, auto* y, auto* out, std::int64_t n, const auto& kernels) {
            kernels.softmax_vjp_row(g, y, out, n);
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &u = c.cotangent, &g = c.in(0), &y = c.in(1);
          return Vars{c.needs(0) ? apply(softmax_vjp_op, {u, y}) : Var(),
                      c.needs(1) ? u * (g - sum_rows(g * y)) - g * sum_rows(u * y) : Var()};
        },
    .samples = pairs_of_rows,
    .errors = refuses_unequal,
    .nan = NanRule::somewhere,
    .rows = last_axis_rows,
}};

const Op softmax_op{{
    .name = "softmax",
    .doc = "exp(x) / sum(exp(x)) along the last axis.",
    .shape = row_shape,
    .kernel = [](auto& c) { row_kernel(c, [](auto& k) { return k.softmax_row; }); },
    .saves = Saves::outputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{apply(softmax_vjp_op, {c.cotangent, c.out})};
        },
    .samples = rows,
    .errors = refuses_scalars,
    .edges =
        [] {
          return row_edges({nan, nan, 0, 1, nan, nan, nan, nan, 0.5, 0.5, 1, 0},
                           {nan, nan, 0, 0, nan, nan, nan, nan, 0, 0, 0, 0});
        },
    .nan = NanRule::somewhere,
    .rows = last_axis_rows,
}};

const Op log_softmax_vjp_op{{
    .name = "log_softmax_vjp",
    .doc = "g - exp(y) sum(g): the vjp of y = log_softmax(x) at the cotangent g, row by row.",
    .shape = two_row_shape,
    .kernel =
        [](const KernelContext& c) {
          two_row_kernel(c, [](auto* g, auto* y, auto* out, std::int64_t n, const auto& kernels) {
            const auto total = kernels.sum(g, n);
            kernels.exp(y, out, n);
            kernels.scale_add(out, -total, decltype(total){-0.0}, out, n);
            kernels.add_to(g, out, n);
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &u = c.cotangent, &g = c.in(0);
          const Var p = exp(c.in(1));
          return Vars{c.needs(0) ? u - sum_rows(u * p) : Var(), c.needs(1) ? -(u * p * sum_rows(g)) : Var()};
        },
    .samples = pairs_of_rows,
    .errors = refuses_unequal,
    .nan = NanRule::somewhere,
    .rows = last_axis_rows,
}};

const Op log_softmax_op{{
    .name = "log_softmax",
    .doc = "x - logsumexp(x) along the last axis.",
    .shape = row_shape,
    .kernel = [](auto& c) { row_kernel(c, [](auto& k) { return k.log_softmax_row; }); },
    .saves = Saves::outputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{apply(log_softmax_vjp_op, {c.cotangent, c.out})};
        },
    .samples = rows,
    .errors = refuses_scalars,
    .edges =
        [] {
          const double half = -std::log(2.0);
          return row_edges({nan, nan, -inf, 0, nan, nan, nan, nan, half, half, 0, -1000},
                           {nan, nan, 1, -1, nan, nan, nan, nan, 0, 0, -1, 1});
        },
    .nan = NanRule::somewhere,
    .rows = last_axis_rows,
}};

const Op logsumexp_vjp_op{{
    .name = "logsumexp_vjp",
    .doc = "g softmax(x): the vjp of logsumexp at the cotangent g, row by row; 0 where a row is -infinity "
           "throughout.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          const Shape& shape = c.shape(1);
          rows_of(shape, c.op);
          if (!(c.shape(0) == reduced(shape, {shape.rank() - 1}, true)))
            fail<ShapeError>(c.op, "cotangent must have one entry a row: " + c.shape(0).to_string() +
                                       " for " + shape.to_string());
          return Spec{shape, dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const simd::Kernels<T>& k = simd::kernels<T>();
            const Rows rows = rows_of(c.in(1).shape(), "logsumexp_vjp");
            const T *g = c.in(0).data<T>(), *x = c.in(1).data<T>();
            T* out = c.out().mutable_data<T>();
            const std::int64_t n = rows.length;
            for_rows(rows, [&](std::int64_t row) {
              const T* from = x + row * n;
              T* to = out + row * n;
              k.softmax_row(from, to, n);
              if (n > 0 && to[0] != to[0] && k.max(from, n) == T(-inf)) std::fill_n(to, n, T{0});
              k.scale_add(to, g[row], T{-0.0}, to, n);
            });
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &u = c.cotangent, &g = c.in(0), &x = c.in(1);
          const Var p = apply(logsumexp_vjp_op, {Var(Tensor::ones(g.shape(), g.dtype())), x});
          const Var projection = sum_rows(u * p);
          return Vars{projection, c.needs(1) ? p * (u - projection) * g : Var()};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const Shape& shape :
               {Shape{3, 4}, Shape{2, 3, 5}, Shape{7}, Shape{1}, Shape{0, 3}, Shape{3, 0}})
            samples.push_back({{g.normal(reduced(shape, {shape.rank() - 1}, true)), g.normal(shape)}});
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({2}), Tensor::zeros({2, 3})}, {}, "one entry a row: (2) for (2,3)"}};
        },
    .nan = NanRule::somewhere,
    .rows = last_axis_rows,
}};

const Op logsumexp_op{{
    .name = "logsumexp",
    .doc = "log(sum(exp(x))) along the last axis, which goes.",
    .shape =
        [](const ShapeContext& c) {
          const Spec spec = row_shape(c);
          return Spec{reduced(spec.shape, {spec.shape.rank() - 1}, false), spec.dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const auto f = simd::kernels<T>().log_sum_exp;
            const Rows rows = rows_of(c.in().shape(), "logsumexp");
            const T* x = c.in().data<T>();
            T* y = c.out().mutable_data<T>();
            for_rows(rows, [&](std::int64_t row) { y[row] = f(x + row * rows.length, rows.length); });
          });
        },
    .kind = OpKind::reduction,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Shape& shape = c.in().shape();
          const Var cotangent = reshape(c.cotangent, reduced(shape, {shape.rank() - 1}, true));
          return Vars{apply(logsumexp_vjp_op, {cotangent, c.in()})};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples = rows(g);
          samples.pop_back();  // rows of no elements give -infinity, which has no finite differences
          return samples;
        },
    .errors = refuses_scalars,
    .edges =
        [] {
          const Tensor empty_rows = Tensor::empty({2, 0}, DType::f64),
                       no_rows = Tensor::empty({0, 2}, DType::f64);
          return Edges{{{special_rows()},
                        {},
                        {numbers({-inf, 0, inf, nan, 3 + std::log(2.0), 1000})},
                        {tensor<double>({0, 0, 0, 1, nan, nan, nan, nan, 0.5, 0.5, 1, 0}, {6, 2})}},
                       {{empty_rows}, {}, {numbers({-inf, -inf})}, {empty_rows}},
                       {{no_rows}, {}, {numbers({})}, {no_rows}}};
        },
    .rows = last_axis_rows,
}};

// Axis `axis` swapped with the last one: its own inverse.
Var swap_with_last(const Var& x, int axis) {
  Axes order;
  for (int i = 0; i < x.rank(); ++i) order.push_back(i);
  std::swap(order[axis], order[x.rank() - 1]);
  return permute(x, order);
}

Var along(const Op& op, const Var& x, int axis) {
  const int at = normalize_axis(axis, x.rank(), op.name());
  if (at == x.rank() - 1) return apply(op, std::span(&x, 1));
  return swap_with_last(apply(op, {swap_with_last(x, at)}), at);
}

}  // namespace

Var softmax(const Var& x, int axis) { return along(softmax_op, x, axis); }

Var log_softmax(const Var& x, int axis) { return along(log_softmax_op, x, axis); }

Var logsumexp(const Var& x, const Axes& axes, bool keep_dims) {
  const Shape& shape = x.shape();
  const Axes gone = normalize_axes(axes, x.rank(), "logsumexp");
  Axes order;
  for (int i = 0; i < x.rank(); ++i)
    if (!gone.contains(i)) order.push_back(i);
  Ints rows;
  for (const std::int64_t axis : order) rows.push_back(shape[static_cast<int>(axis)]);
  std::int64_t length = 1;
  for (const std::int64_t axis : gone) {
    order.push_back(axis);
    length *= shape[static_cast<int>(axis)];
  }
  rows.push_back(length);
  return reshape(apply(logsumexp_op, {reshape(permute(x, order), rows)}), reduced(shape, gone, keep_dims));
}

}  // namespace banach
