#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/reduce_entries.hpp>

#include <algorithm>
#include <array>
#include <limits>

namespace banach {
namespace {

using namespace entries;

// ---- The ways of reducing ---------------------------------------------------------------------------------

template <class T>
struct Sum {
  static constexpr double nothing = 0.0;
  static T of_row(const T* x, std::int64_t n) { return simd::kernels<T>().sum(x, n); }
  static void fold(const T* x, T* into, std::int64_t n) { simd::kernels<T>().add_to(x, into, n); }
  static double combine(double a, double b) { return a + b; }
};

template <class T>
struct Max {
  static constexpr double nothing = -std::numeric_limits<double>::infinity();
  static T of_row(const T* x, std::int64_t n) { return simd::kernels<T>().max(x, n); }
  static void fold(const T* x, T* into, std::int64_t n) { simd::kernels<T>().maximum.vv(into, x, into, n); }
  static double combine(double a, double b) { return a != a || a > b ? a : b; }
};

template <class T>
struct Min {
  static constexpr double nothing = std::numeric_limits<double>::infinity();
  static T of_row(const T* x, std::int64_t n) { return simd::kernels<T>().min(x, n); }
  static void fold(const T* x, T* into, std::int64_t n) { simd::kernels<T>().minimum.vv(into, x, into, n); }
  static double combine(double a, double b) { return a != a || a < b ? a : b; }
};

// ---- One axis: x is (outer, n, inner), and the middle axis goes -------------------------------------------

// Pieces depend on these three numbers only.
constexpr std::int64_t piece = 1 << 15;        // elements worth a task
constexpr std::int64_t longest_row = 1 << 16;  // longer rows are cut
constexpr std::int64_t block_rows = 256;       // rows folded in T before they are combined in double
constexpr std::int64_t tile_columns = 1024;

template <class Body>
void for_units(std::int64_t units, std::int64_t elements_each, Body&& body) {
  const std::int64_t grain = std::max<std::int64_t>(1, piece / std::max<std::int64_t>(1, elements_each));
  const auto run = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) body(unit);
  };
  if (units > grain)
    parallel_for(units, grain, run);
  else
    run(0, units);
}

// Partial results, one after another along the middle axis of (outer, parts, inner), into out of (outer,
// inner).
template <class R, class T>
void combine_parts(const PoolVector<double>& partial, std::int64_t outer, std::int64_t parts,
                   std::int64_t inner, T* out) {
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t i = 0; i < inner; ++i) {
      double value = R::nothing;
      for (std::int64_t p = 0; p < parts; ++p)
        value = R::combine(value, partial[static_cast<std::size_t>((o * parts + p) * inner + i)]);
      out[o * inner + i] = static_cast<T>(value);
    }
}

template <class R, class T>
void reduce_rows(const T* x, std::int64_t outer, std::int64_t n, T* out) {
  const std::int64_t parts = (n + longest_row - 1) / longest_row;
  if (parts <= 1) return for_units(outer, n, [&](std::int64_t o) { out[o] = R::of_row(x + o * n, n); });
  PoolVector<double> partial(static_cast<std::size_t>(outer * parts));
  for_units(outer * parts, longest_row, [&](std::int64_t unit) {
    const std::int64_t o = unit / parts, begin = unit % parts * longest_row;
    partial[static_cast<std::size_t>(unit)] = R::of_row(x + o * n + begin, std::min(longest_row, n - begin));
  });
  combine_parts<R>(partial, outer, parts, 1, out);
}

// into[j] = x[j], x[stride + j], ... folded over the rows; narrow rows are taken several at a time.
template <class R, class T>
void fold_rows(const T* x, std::int64_t rows, std::int64_t stride, std::int64_t width, T* into) {
  const std::int64_t group =
      stride == width && rows * width >= 128 ? std::max<std::int64_t>(1, 64 / width) : 1;
  std::copy_n(x, group * width, into);
  std::int64_t row = group;
  for (; row + group <= rows; row += group) R::fold(x + row * stride, into, group * width);
  for (std::int64_t g = 1; g < group; ++g) R::fold(into + g * width, into, width);
  for (; row < rows; ++row) R::fold(x + row * stride, into, width);
}

template <class R, class T>
void reduce_columns(const T* x, std::int64_t outer, std::int64_t n, std::int64_t inner, T* out) {
  const std::int64_t parts = (n + block_rows - 1) / block_rows,
                     tiles = (inner + tile_columns - 1) / tile_columns;
  PoolVector<double> partial(static_cast<std::size_t>(parts > 1 ? outer * parts * inner : 0));
  for_units(outer * parts * tiles, std::min(n, block_rows) * std::min(inner, tile_columns),
            [&](std::int64_t unit) {
              const std::int64_t column = unit % tiles * tile_columns,
                                 block = unit / tiles;  // block = o * parts + part
              const std::int64_t o = block / parts, row = block % parts * block_rows;
              const std::int64_t width = std::min(tile_columns, inner - column);
              std::array<T, tile_columns> folded;
              fold_rows<R>(x + (o * n + row) * inner + column, std::min(block_rows, n - row), inner, width,
                           folded.data());
              if (parts > 1)
                std::copy_n(folded.data(), width, partial.data() + block * inner + column);
              else
                std::copy_n(folded.data(), width, out + o * inner + column);
            });
  if (parts > 1) combine_parts<R>(partial, outer, parts, inner, out);
}

// ---- Any axes: one run of neighbouring reduced axes after another, the innermost first --------------------

template <template <class> class R, class T>
void reduce(const T* x, const Shape& shape, const Axes& axes, T* out, std::int64_t out_size) {
  using Way = R<T>;
  if (shape.size() == 0) {
    std::fill_n(out, out_size, static_cast<T>(Way::nothing));
    return;
  }
  PoolVector<T> held;  // what the run before left
  Shape now = shape;
  int axis = now.rank() - 1;
  const auto goes = [&](int i) { return axes.contains(i) && now[i] > 1; };
  while (true) {
    while (axis >= 0 && !goes(axis)) --axis;
    if (axis < 0) break;
    int first = axis;
    while (first > 0 && (axes.contains(first - 1) || now[first - 1] == 1)) --first;
    const std::int64_t outer = now.size(0, first), n = now.size(first, axis + 1),
                       inner = now.size(axis + 1, now.rank());
    for (int i = first; i <= axis; ++i) now[i] = 1;
    const bool last = outer * inner == out_size;
    PoolVector<T> next(static_cast<std::size_t>(last ? 0 : outer * inner));
    T* to = last ? out : next.data();
    if (inner == 1)
      reduce_rows<Way>(x, outer, n, to);
    else
      reduce_columns<Way>(x, outer, n, inner, to);
    if (last) return;
    held = std::move(next);
    x = held.data();
  }
  std::copy_n(x, out_size, out);  // nothing went
}

template <template <class> class R>
void reduce_tensor(const Tensor& x, const Axes& axes, Tensor& out) {
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* to = out.mutable_data<T>();
    if (out.size() == 1) return reduce_rows<R<T>>(x.data<T>(), 1, x.size(), to);
    reduce<R>(x.data<T>(), x.shape(), axes, to, out.size());
  });
}

template <template <class> class R>
void reduction_kernel(const KernelContext& c) {
  reduce_tensor<R>(c.in(), c.attrs.as<Reduction>().over(c.in().shape(), "reduce"), c.out());
}

// ---- Entries ----------------------------------------------------------------------------------------------

// Of two columns and rows, times `weight`: infinities of one sign and of both, a NaN.
Edges special_sums(double weight) {
  const Tensor x = tensor<double>({inf, -inf, 1, -inf}, {2, 2}),
               slopes = Tensor::full({2, 2}, weight, DType::f64);
  return {
      {{x}, Reduction{{0}}, {numbers({inf, -inf})}, {slopes}},
      {{x}, Reduction{{1}, true}, {tensor<double>({nan, -inf}, {2, 1})}, {slopes}},
      {{numbers({nan, 1})}, Reduction{}, {scalar(nan, DType::f64)}, {Tensor::full({2}, weight, DType::f64)}},
      {{Tensor::empty({0, 2}, DType::f64)},
       Reduction{{1}},
       {numbers({})},
       {Tensor::empty({0, 2}, DType::f64)}}};
}

const Op sum_op{{
    .name = "sum",
    .doc = "Sum over axes.",
    .shape = reduced_shape,
    .kernel = reduction_kernel<Sum>,
    .kind = OpKind::reduction,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          return Vars{broadcast_to(with_kept_axes(c, c.attrs.as<Reduction>(), c.cotangent), c.in().shape())};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples = reductions(g, [&](const Shape& shape) { return g.normal(shape); });
          samples.push_back({{g.normal({0, 3})}, Reduction{{0}}});
          return samples;
        },
    .errors = refuses_bad_axes,
    .edges =
        [] {
          return special_sums(1.0) +
                 Edges{{{Tensor::empty({0, 3}, DType::f64)},
                        Reduction{{0}},
                        {numbers({0, 0, 0})},
                        {Tensor::empty({0, 3}, DType::f64)}},
                       {{numbers({})}, Reduction{}, {scalar(0.0, DType::f64)}, {numbers({})}}};
        },
    .rows = reduced_rows,
}};

const Op mean_op{{
    .name = "mean",
    .doc = "Arithmetic mean over axes.",
    .shape = reduced_nonempty_shape,
    .kernel =
        [](const KernelContext& c) {
          reduction_kernel<Sum>(c);
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            T* out = c.out().mutable_data<T>();
            const T divisor = static_cast<T>(elements_each(c.in().shape(), c.attrs.as<Reduction>()));
            for (std::int64_t i = 0; i < c.out().size(); ++i) out[i] /= divisor;
          });
        },
    .kind = OpKind::reduction,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          const auto weight =
              1.0 / static_cast<double>(elements_each(c.in().shape(), c.attrs.as<Reduction>()));
          return Vars{
              broadcast_to(with_kept_axes(c, c.attrs.as<Reduction>(), c.cotangent * weight), c.in().shape())};
        },
    .samples =
        [](SampleGen& g) { return reductions(g, [&](const Shape& shape) { return g.normal(shape); }); },
    .errors = refuses_bad_axes_and_nothing,
    .edges = [] { return special_sums(0.5); },
    .rows = reduced_rows,
}};

// The cotangent, shared evenly by the elements that equal the largest or smallest one.
Vars to_winners(const VjpContext& c) {
  const auto& reduction = c.attrs.as<Reduction>();
  const Var winners = equal(c.in(), with_kept_axes(c, reduction, c.out));
  return {winners * (with_kept_axes(c, reduction, c.cotangent) / sum(winners, reduction.axes, true))};
}

// Over the rows of a matrix: plain, tied, with a NaN, with infinities. `sign` turns largest into smallest.
Edges extremum_edges(double sign) {
  const auto signed_numbers = [sign](std::initializer_list<double> values) {
    Tensor x = numbers(values);
    for (std::int64_t i = 0; i < x.size(); ++i) x.mutable_data<double>()[i] *= sign;
    return x;
  };
  return {
      {{signed_numbers({1, 2, 0, 3, 3, 1, nan, 1, 2, inf, 1, -inf}).reshape({4, 3})},
       Reduction{{1}},
       {signed_numbers({2, 3, nan, inf})},
       {tensor<double>({0, 1, 0, 0.5, 0.5, 0, nan, nan, nan, 1, 0, 0}, {4, 3})}},
      {{signed_numbers({1, 2, 0, 3, 3, 1, nan, 1, 2, inf, 1, -inf}).reshape({4, 3})},
       Reduction{{0}},
       {signed_numbers({nan, 3, 2})},
       {tensor<double>({nan, 0, 0, nan, 1, 0, nan, 0, 1, nan, 0, 0}, {4, 3})}},
      {{signed_numbers({-inf, -inf})}, Reduction{{0}, true}, {signed_numbers({-inf})}, {numbers({0.5, 0.5})}},
      {{signed_numbers({2, 2, inf, inf}).reshape({2, 2})},
       Reduction{},
       {scalar(sign * inf, DType::f64)},
       {tensor<double>({0, 0, 0.5, 0.5}, {2, 2})}},
      {{Tensor::empty({0, 3}, DType::f64)},
       Reduction{{1}},
       {numbers({})},
       {Tensor::empty({0, 3}, DType::f64)}}};
}

const Op max_op{{
    .name = "max",
    .doc = "Largest value over axes; ties share the cotangent evenly.",
    .shape = reduced_nonempty_shape,
    .kernel = reduction_kernel<Max>,
    .kind = OpKind::reduction,
    .saves = Saves::both,
    .vjp = to_winners,
    .samples =
        [](SampleGen& g) { return reductions(g, [&](const Shape& shape) { return g.distinct(shape); }); },
    .errors = refuses_bad_axes_and_nothing,
    .edges = [] { return extremum_edges(1.0); },
    .rows = reduced_rows,
}};

const Op min_op{{
    .name = "min",
    .doc = "Smallest value over axes; ties share the cotangent evenly.",
    .shape = reduced_nonempty_shape,
    .kernel = reduction_kernel<Min>,
    .kind = OpKind::reduction,
    .saves = Saves::both,
    .vjp = to_winners,
    .samples =
        [](SampleGen& g) { return reductions(g, [&](const Shape& shape) { return g.distinct(shape); }); },
    .errors = refuses_bad_axes_and_nothing,
    .edges = [] { return extremum_edges(-1.0); },
    .rows = reduced_rows,
}};

Var apply_reduction(const Op& op, const Var& x, const Axes& axes, bool keep_dims) {
  return apply(op, std::span(&x, 1), Reduction{axes, keep_dims});
}

}  // namespace

void sum_over(const Tensor& x, const Axes& axes, Tensor& out) { reduce_tensor<Sum>(x, axes, out); }

Var sum(const Var& x, const Axes& axes, bool keep_dims) {
  return apply_reduction(sum_op, x, axes, keep_dims);
}
Var mean(const Var& x, const Axes& axes, bool keep_dims) {
  return apply_reduction(mean_op, x, axes, keep_dims);
}
Var max(const Var& x, const Axes& axes, bool keep_dims) {
  return apply_reduction(max_op, x, axes, keep_dims);
}
Var min(const Var& x, const Axes& axes, bool keep_dims) {
  return apply_reduction(min_op, x, axes, keep_dims);
}

}  // namespace banach
