// Variance, norm and inner product: sums of products; declared in reduce.hpp.
#include <banach/ops/broadcast.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/reduce_entries.hpp>
#include <banach/ops/rows.hpp>

#include <cmath>

namespace banach {
namespace {

using namespace entries;

// ---- Variance ---------------------------------------------------------------------------------------------

struct VarianceAttrs {
  Reduction reduction;
  int correction = 1;
};

// squares = (x - centre)^2, where centre broadcasts against x.
template <class T>
void squared_deviations(const Tensor& x, const Tensor& centre, Tensor& squares) {
  const T *from = x.data<T>(), *middle = centre.data<T>();
  T* to = squares.mutable_data<T>();
  const Broadcast<2> plan({&x.shape(), &centre.shape()}, x.shape());
  const simd::Kernels<T>& k = simd::kernels<T>();
  plan.for_runs([&, stride = plan.inner_strides()[1]](const auto& at, std::int64_t begin, std::int64_t n) {
    if (stride)
      k.sub.vv(from + at[0], middle + at[1], to + begin, n);
    else
      k.sub.vs(from + at[0], middle[at[1]], to + begin, n);
    k.square(to + begin, to + begin, n);
  });
}

template <class T>
void divide(Tensor& x, std::int64_t divisor) {
  T* values = x.mutable_data<T>();
  for (std::int64_t i = 0; i < x.size(); ++i) values[i] /= static_cast<T>(divisor);
}

const Op var_op{{
    .name = "var",
    .doc = "Variance over axes: the squared distances from the mean, added up and divided by n - correction.",
    .shape =
        [](const ShapeContext& c) {
          const auto& [reduction, correction] = c.attrs.as<VarianceAttrs>();
          const Spec spec = reduced_shape_over(c, reduction);
          if (correction < 0)
            fail<ValueError>(c.op, "correction must not be negative: got " + std::to_string(correction));
          if (spec.shape.size() > 0 && elements_each(c.shape(), reduction) <= correction)
            fail<ShapeError>(
                c.op, "must have more elements than the correction (0 gives the population variance): " +
                          c.shape().to_string() + " reduced to " + spec.shape.to_string() +
                          " with correction " + std::to_string(correction));
          return spec;
        },
    .kernel =
        [](const KernelContext& c) {
          const Reduction& reduction = c.attrs.as<VarianceAttrs>().reduction;
          const int correction = c.attrs.as<VarianceAttrs>().correction;
          const Tensor& x = c.in();
          const Axes axes = reduction.over(x.shape(), "var");
          const std::int64_t n = elements_each(x.shape(), reduction);
          if (c.out().size() == 0) return;
          Tensor centre = Tensor::empty(reduced(x.shape(), axes, true), x.dtype());
          Tensor squares = Tensor::empty(x.shape(), x.dtype());
          sum_over(x, axes, centre);
          dispatch_floating(x.dtype(), [&](auto zero) {
            using T = decltype(zero);
            divide<T>(centre, n);
            squared_deviations<T>(x, centre, squares);
            sum_over(squares, axes, c.out());
            divide<T>(c.out(), n - correction);
          });
        },
    .kind = OpKind::reduction,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const auto& [reduction, correction] = c.attrs.as<VarianceAttrs>();
          if (c.out.size() == 0) return Vars{Var()};
          const auto n = static_cast<double>(elements_each(c.in().shape(), reduction));
          const Var weight = with_kept_axes(c, reduction, c.cotangent) * (2.0 / (n - correction));
          return Vars{(c.in() - mean(c.in(), reduction.axes, true)) * weight};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples = reductions(g, [&](const Shape& shape) { return g.normal(shape, 1.0); });
          for (Sample& sample : samples) {
            const Reduction reduction = sample.attrs.as<Reduction>();
            const bool few = elements_each(sample.inputs[0].shape(), reduction) == 1;
            sample.attrs = VarianceAttrs{reduction, few ? 0 : static_cast<int>(g.integer(0, 1))};
          }
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({2, 3})}, VarianceAttrs{{{2}}}, "axis must lie in [-2, 2): got 2"},
              {{Tensor::zeros({3, 1})}, VarianceAttrs{{{1}}}, "(3,1) reduced to (3) with correction 1"},
              {{Tensor::zeros({0})}, VarianceAttrs{{}, 0}, "must have more elements than the correction"},
              {{Tensor::zeros({3})}, VarianceAttrs{{}, -1}, "correction must not be negative: got -1"},
              {{Tensor::arange(3)}, VarianceAttrs{}, "expects f32 or f64"}};
        },
    .edges =
        [] {
          const Tensor x = tensor<double>({3, 3, inf, 1, nan, 1, -0.0, 0.0}, {4, 2});
          return Edges{{{x},
                        VarianceAttrs{{{1}}, 0},
                        {numbers({0, nan, nan, 0})},
                        {tensor<double>({0, 0, nan, -inf, nan, nan, 0, 0}, {4, 2})}},
                       {{numbers({1, 3})}, VarianceAttrs{}, {scalar(2.0, DType::f64)}, {numbers({-2, 2})}},
                       {{numbers({7})}, VarianceAttrs{{}, 0}, {scalar(0.0, DType::f64)}, {numbers({0})}},
                       {{Tensor::empty({0, 2}, DType::f64)},
                        VarianceAttrs{{{1}}},
                        {numbers({})},
                        {Tensor::empty({0, 2}, DType::f64)}}};
        },
    .rows =
        [](const RowsContext& c) { return all_by_rows_along(c, c.attrs.as<VarianceAttrs>().reduction.axes); },
}};

// ---- Norm -------------------------------------------------------------------------------------------------

bool are_last(const Axes& axes, int rank) { return axes.empty() || axes[0] == rank - axes.count(); }

const Op norm_op{{
    .name = "norm",
    .doc = "Euclidean norm over axes; derivative 0 where it is 0.",
    .shape = reduced_shape,
    .kernel =
        [](const KernelContext& c) {
          const Tensor& x = c.in();
          const Axes axes = c.attrs.as<Reduction>().over(x.shape(), "norm");
          dispatch_floating(x.dtype(), [&](auto zero) {
            using T = decltype(zero);
            const simd::Kernels<T>& k = simd::kernels<T>();
            const T* from = x.data<T>();
            T* out = c.out().mutable_data<T>();
            if (are_last(axes, x.rank())) {
              const Rows rows{c.out().size(), x.shape().size(x.rank() - axes.count(), x.rank())};
              sum_pieces_of_rows(rows, out, [&](std::int64_t i, std::int64_t end) {
                return k.squared_norm(from + i, end - i);
              });
            } else {
              Tensor squares = Tensor::empty(x.shape(), x.dtype());
              T* to = squares.mutable_data<T>();
              for_pieces(x.size(),
                         [&](std::int64_t i, std::int64_t end) { k.square(from + i, to + i, end - i); });
              sum_over(squares, axes, c.out());
            }
            k.sqrt(out, out, c.out().size());
          });
        },
    .kind = OpKind::reduction,
    .vjp =
        [](const VjpContext& c) {
          const auto& reduction = c.attrs.as<Reduction>();
          const Var size = with_kept_axes(c, reduction, c.out), none = equal(size, 0.0);
          const Var scale = with_kept_axes(c, reduction, c.cotangent) / where(none, 1.0, size);
          return Vars{c.in() * where(none, 0.0, scale)};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples = reductions(g, [&](const Shape& shape) { return g.away_from_zero(shape, 0.3); });
          samples.push_back({{g.normal({0, 3})}, Reduction{{0}}});
          return samples;
        },
    .errors = refuses_bad_axes,
    .edges =
        [] {
          const Tensor x = tensor<double>({0, -0.0, inf, 1, 1, -inf, nan, 1, 3, -4}, {5, 2});
          return Edges{{{x},
                        Reduction{{1}},
                        {numbers({0, inf, inf, nan, 5})},
                        {tensor<double>({0, 0, nan, 0, 0, nan, nan, nan, 0.6, -0.8}, {5, 2})}},
                       {{tensor<double>({0, 3, -0.0, 4, 0, 0}, {3, 2})},
                        Reduction{{0}},
                        {numbers({0, 5})},
                        {tensor<double>({0, 0.6, 0, 0.8, 0, 0}, {3, 2})}},
                       {{Tensor::empty({0, 2}, DType::f64)},
                        Reduction{{0}},
                        {numbers({0, 0})},
                        {Tensor::empty({0, 2}, DType::f64)}},
                       {{numbers({})}, Reduction{}, {scalar(0.0, DType::f64)}, {numbers({})}}};
        },
    .rows = reduced_rows,
}};

// ---- Inner product ----------------------------------------------------------------------------------------

const Op dot_op{{
    .name = "dot",
    .doc = "Sum of products along the last axis, which goes.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          const Shape& shape = c.shape(0);
          if (!(shape == c.shape(1)) || shape.rank() == 0)
            fail<ShapeError>(c.op, "expects two equal shapes of at least one axis: " + shape.to_string() +
                                       " with " + c.shape(1).to_string());
          return Spec{reduced(shape, {shape.rank() - 1}, false), dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T *a = c.in(0).data<T>(), *b = c.in(1).data<T>();
            sum_pieces_of_rows(rows_of(c.in().shape(), "dot"), c.out().mutable_data<T>(),
                               [&](std::int64_t i, std::int64_t end) {
                                 return simd::kernels<T>().dot(a + i, b + i, end - i);
                               });
          });
        },
    .kind = OpKind::reduction,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var cotangent = with_kept_axes(c, Reduction{{-1}}, c.cotangent);
          return Vars{c.needs(0) ? cotangent * c.in(1) : Var(), c.needs(1) ? cotangent * c.in(0) : Var()};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const Shape& shape : {Shape{7}, Shape{1}, Shape{3, 4}, Shape{2, 3, 5}, Shape{4, 1}, Shape{67},
                                     Shape{g.integer(1, 4), g.integer(1, 9)}, Shape{0, 3}, Shape{3, 0}})
            samples.push_back({{g.normal(shape), g.normal(shape)}});
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({2}), Tensor::zeros({3})}, {}, "(2) with (3)"},
                              {{Tensor::zeros({}), Tensor::zeros({})}, {}, "at least one axis: () with ()"},
                              {{Tensor::zeros({2}), Tensor::zeros({2}, DType::f64)}, {}, "dtypes must agree"},
                              {{Tensor::arange(2), Tensor::arange(2)}, {}, "expects f32 or f64"}};
        },
    .edges =
        [] {
          const Tensor a = tensor<double>({inf, 0, inf, 1, nan, 0, 1, 1}, {4, 2});
          const Tensor b = tensor<double>({0, 1, 1, 1, 0, 0, inf, -inf}, {4, 2});
          const Tensor none = Tensor::empty({2, 0}, DType::f64);
          return Edges{
              {{a, b}, {}, {numbers({nan, inf, nan, nan})}, {b, a}},
              {{none, none}, {}, {numbers({0, 0})}, {none, none}},
              {{numbers({}), numbers({})}, {}, {scalar(0.0, DType::f64)}, {numbers({}), numbers({})}}};
        },
    .rows = last_axis_rows,
}};

}  // namespace

Var var(const Var& x, const Axes& axes, int correction, bool keep_dims) {
  return apply(var_op, std::span(&x, 1), VarianceAttrs{{axes, keep_dims}, correction});
}

Var norm(const Var& x, const Axes& axes, double p, bool keep_dims) {
  if (p == 1.0) return sum(abs(x), axes, keep_dims);
  if (p == inf) return max(abs(x), axes, keep_dims);
  if (p != 2.0) fail<ValueError>("norm", "p must be 1, 2 or infinity: got " + std::to_string(p));
  return apply(norm_op, std::span(&x, 1), Reduction{axes, keep_dims});
}

Var dot(const Var& a, const Var& b) { return apply(dot_op, {a, b}); }

}  // namespace banach
