#include <banach/ops/entries.hpp>
#include <banach/ops/index.hpp>
#include <banach/ops/order.hpp>
#include <banach/ops/rows.hpp>

#include <algorithm>
#include <string>

namespace banach {
namespace {

using namespace entries;

// x as (outer, n, inner), with lines along the middle axis.
struct Lines {
  std::int64_t outer, n, inner;

  Lines(const Shape& shape, int axis)
      : outer(shape.size(0, axis)), n(shape[axis]), inner(shape.size(axis + 1, shape.rank())) {}

  // body(first, line): where the line's first element stands, and its number. Elements follow `inner` apart.
  template <class Body>
  void for_each(const Body& body) const {
    for_rows({outer * inner, n},
             [&](std::int64_t line) { body(line / inner * n * inner + line % inner, line); });
  }
};

// ---- Sorting ----------------------------------------------------------------------------------------------

struct OrderAttrs {
  int axis = -1;
  bool falling = false;
  std::int64_t count = -1;  // how many to keep; all if negative
};

template <class T>
struct Entry {
  T value;
  std::int64_t index;
};

// A total order: NaN above everything, equals by index.
template <class T>
bool rises(const Entry<T>& a, const Entry<T>& b) {
  if (a.value < b.value) return true;
  if (b.value < a.value) return false;
  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
  return a_nan != b_nan ? b_nan : a.index < b.index;
}

template <class T>
bool falls(const Entry<T>& a, const Entry<T>& b) {
  if (a.value > b.value) return true;
  if (b.value > a.value) return false;
  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
  return a_nan != b_nan ? a_nan : a.index < b.index;
}

template <class T>
void put_in_order(PoolVector<Entry<T>>& line, std::int64_t count, bool falling) {
  const auto before = falling ? falls<T> : rises<T>;
  const auto end = line.begin() + count;
  if (count <= std::ssize(line) / 8) {  // few: most entries are only compared with the last of these
    std::partial_sort(line.begin(), end, line.end(), before);
    return;
  }
  if (end != line.end()) std::nth_element(line.begin(), end, line.end(), before);
  std::sort(line.begin(), end, before);
}

Specs order_shapes(const ShapeContext& c) {
  const auto& order = c.attrs.as<OrderAttrs>();
  Shape shape = c.shape();
  const int axis = normalize_axis(order.axis, shape.rank(), c.op);
  const DType dtype = common_floating(c);
  if (order.count > shape[axis])
    fail<ShapeError>(c.op, "k must lie in [0, " + std::to_string(shape[axis]) + "]: got " +
                               std::to_string(order.count) + " for " + shape.to_string() + " along axis " +
                               std::to_string(axis));
  if (order.count >= 0) shape[axis] = order.count;
  return {{shape, dtype}, {shape, DType::i64}};
}

void order_kernel(const KernelContext& c) {
  const auto& order = c.attrs.as<OrderAttrs>();
  const int axis = normalize_axis(order.axis, c.in().rank(), "sort");
  const std::int64_t count = c.out().shape()[axis];
  const Lines lines(c.in().shape(), axis);
  std::int64_t* indices = c.out(1).mutable_data<std::int64_t>();
  if (c.out().size() == 0) return;
  dispatch_floating(c.in().dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* x = c.in().data<T>();
    T* values = c.out().mutable_data<T>();
    lines.for_each([&](std::int64_t first, std::int64_t line) {
      PoolVector<Entry<T>> entries(static_cast<std::size_t>(lines.n));
      for (std::int64_t j = 0; j < lines.n; ++j)
        entries[static_cast<std::size_t>(j)] = {x[first + j * lines.inner], j};
      put_in_order(entries, count, order.falling);
      const std::int64_t to = line / lines.inner * count * lines.inner + line % lines.inner;
      for (std::int64_t j = 0; j < count; ++j) {
        values[to + j * lines.inner] = entries[static_cast<std::size_t>(j)].value;
        indices[to + j * lines.inner] = entries[static_cast<std::size_t>(j)].index;
      }
    });
  });
}

Vars order_vjp(const VjpContext& c) {
  const auto& order = c.attrs.as<OrderAttrs>();
  return {scatter_add(c.in().shape(), order.axis, c.outputs[1], c.cotangent)};
}

Tensor positions(std::initializer_list<std::int64_t> values) { return tensor<std::int64_t>(values); }

const Op sort_op{{
    .name = "sort",
    .doc = "The entries along one axis in rising or falling order, and their indices; stable, NaN largest.",
    .kernel = order_kernel,
    .saves = Saves::outputs,
    .vjp = order_vjp,
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.distinct({3, 4})}, OrderAttrs{}},
                         {{g.distinct({3, 4})}, OrderAttrs{0, true}},
                         {{g.distinct({2, 3, 4})}, OrderAttrs{1}},
                         {{g.distinct({67})}, OrderAttrs{-1, true}},
                         {{g.distinct({1})}, OrderAttrs{}},
                         {{g.distinct({g.integer(1, 6), g.integer(1, 6)})},
                          OrderAttrs{static_cast<int>(g.integer(-2, 1)), g.integer(0, 1) == 1}},
                         {{g.normal({0, 3})}, OrderAttrs{}},
                         {{g.normal({3, 0})}, OrderAttrs{}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({2, 3})}, OrderAttrs{2}, "axis must lie in [-2, 2): got 2"},
                              {{Tensor::zeros({})}, OrderAttrs{}, "axis must lie in"},
                              {{Tensor::arange(3)}, OrderAttrs{}, "expects f32 or f64"}};
        },
    .shapes = order_shapes,
    .edges =
        [] {
          const Tensor x = numbers({nan, 1, inf, 0.0, -inf, -0.0, 1, nan}),
                       ones = Tensor::ones({8}, DType::f64);
          return Edges{
              {{x},
               OrderAttrs{},
               {numbers({-inf, 0.0, -0.0, 1, 1, inf, nan, nan}), positions({4, 3, 5, 1, 6, 2, 0, 7})},
               {ones}},
              {{x},
               OrderAttrs{-1, true},
               {numbers({nan, nan, inf, 1, 1, 0.0, -0.0, -inf}), positions({0, 7, 2, 1, 6, 3, 5, 4})},
               {ones}},
              {{numbers({})}, OrderAttrs{}, {numbers({}), positions({})}, {numbers({})}}};
        },
    .nan = NanRule::somewhere,
    .rows = [](const RowsContext& c) { return all_by_rows_along(c, {c.attrs.as<OrderAttrs>().axis}); },
}};

const Op topk_op{{
    .name = "topk",
    .doc = "The k largest or smallest entries along one axis in order, and their indices; NaN largest.",
    .kernel = order_kernel,
    .saves = Saves::outputs,
    .vjp = order_vjp,
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.distinct({3, 4})}, OrderAttrs{-1, true, 2}},
                         {{g.distinct({5, 2})}, OrderAttrs{0, false, 3}},
                         {{g.distinct({2, 5, 3})}, OrderAttrs{1, true, 1}},
                         {{g.distinct({67})}, OrderAttrs{-1, true, 10}},
                         {{g.distinct({4})}, OrderAttrs{-1, false, 4}},
                         {{g.distinct({1})}, OrderAttrs{0, true, 1}},
                         {{g.distinct({4, 6})}, OrderAttrs{-1, g.integer(0, 1) == 1, g.integer(1, 6)}},
                         {{g.normal({3, 2})}, OrderAttrs{-1, true, 0}}};
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({2, 3})},
               OrderAttrs{1, true, 4},
               "k must lie in [0, 3]: got 4 for (2,3) along axis 1"},
              {{Tensor::zeros({2, 3})}, OrderAttrs{-3, true, 1}, "axis must lie in [-2, 2): got -3"},
              {{Tensor::arange(3)}, OrderAttrs{0, true, 1}, "expects f32 or f64"}};
        },
    .shapes = order_shapes,
    .edges =
        [] {
          const Tensor x = numbers({1, nan, inf, 0.0, -inf, -0.0, 1, nan});
          return Edges{
              {{x},
               OrderAttrs{-1, true, 4},
               {numbers({nan, nan, inf, 1}), positions({1, 7, 2, 0})},
               {numbers({1, 1, 1, 0, 0, 0, 0, 1})}},
              {{x},
               OrderAttrs{-1, false, 3},
               {numbers({-inf, 0.0, -0.0}), positions({4, 3, 5})},
               {numbers({0, 0, 0, 1, 1, 1, 0, 0})}},
              {{x}, OrderAttrs{0, true, 0}, {numbers({}), positions({})}, {Tensor::zeros({8}, DType::f64)}}};
        },
    .rows = [](const RowsContext& c) { return all_by_rows_along(c, {c.attrs.as<OrderAttrs>().axis}); },
}};

// ---- The best ---------------------------------------------------------------------------------------------

struct BestAttrs {
  int axis;
  bool keep_dims = false;
};

Spec best_shape(const ShapeContext& c) {
  const auto& best = c.attrs.as<BestAttrs>();
  const int axis = normalize_axis(best.axis, c.shape().rank(), c.op);
  common_floating(c);
  const Shape shape = reduced(c.shape(), {axis}, best.keep_dims);
  if (c.shape()[axis] == 0 && shape.size() > 0)
    fail<ShapeError>(c.op, "must have elements to choose from: " + c.shape().to_string() + " along axis " +
                               std::to_string(axis));
  return {shape, DType::i64};
}

// The first element that beats all before it, or the first NaN.
template <bool largest>
void best_kernel(const KernelContext& c) {
  const Lines lines(c.in().shape(), normalize_axis(c.attrs.as<BestAttrs>().axis, c.in().rank(), "argmax"));
  std::int64_t* out = c.out().mutable_data<std::int64_t>();
  dispatch_floating(c.in().dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* x = c.in().data<T>();
    lines.for_each([&](std::int64_t first, std::int64_t line) {
      T best = x[first];
      std::int64_t at = 0;
      for (std::int64_t j = 1; j < lines.n; ++j) {
        const T value = x[first + j * lines.inner];
        const bool wins = (largest ? value > best : value < best) | ((value != value) & (best == best));
        best = wins ? value : best;
        at = wins ? j : at;
      }
      out[line] = at;
    });
  });
}

Samples best_samples(SampleGen& g) {
  return {{{g.normal({3, 4})}, BestAttrs{1}},
          {{g.normal({3, 3})}, BestAttrs{-2}},
          {{g.normal({3, 4})}, BestAttrs{0, true}},
          {{g.distinct({2, 3, 4})}, BestAttrs{-2}},
          {{g.normal({67})}, BestAttrs{0}},
          {{g.normal({1})}, BestAttrs{0, true}},
          {{g.normal({g.integer(1, 5), 3})}, BestAttrs{0}},
          {{g.indices({5, 4}, 3).to(DType::f64)}, BestAttrs{1}},
          {{g.normal({0, 3})}, BestAttrs{1}}};
}

ErrorSamples best_errors() {
  return {{{Tensor::zeros({2, 3})}, BestAttrs{2}, "axis must lie in [-2, 2): got 2"},
          {{Tensor::zeros({0, 3})}, BestAttrs{0}, "must have elements to choose from: (0,3) along axis 0"},
          {{Tensor::arange(3)}, BestAttrs{0}, "expects f32 or f64"}};
}

// `indices`: in a row with NaN, ties, infinities, zeros of both signs.
Edges best_edges(std::initializer_list<std::int64_t> indices) {
  const Tensor x =
      tensor<double>({1, nan, inf, nan, 2, 2, 1, 1, -inf, 3, inf, inf, -0.0, 0.0, -0.0, 0.0}, {4, 4});
  return {{{x}, BestAttrs{1}, {tensor<std::int64_t>(indices)}},
          {{numbers({-inf, -inf})}, BestAttrs{0, true}, {tensor<std::int64_t>({0})}},
          {{numbers({inf, inf})}, BestAttrs{0, true}, {tensor<std::int64_t>({0})}},
          {{Tensor::empty({0, 2}, DType::f64)}, BestAttrs{1}, {Tensor::empty({0}, DType::i64)}}};
}

const Op argmax_op{{
    .name = "argmax",
    .doc = "Index of the largest entry along one axis: the first of equals, the first NaN if there is one.",
    .shape = best_shape,
    .kernel = best_kernel<true>,
    .samples = best_samples,
    .errors = best_errors,
    .edges =
        [] {
          return best_edges({1, 0, 2, 0});
        },
    .rows = [](const RowsContext& c) { return all_by_rows_along(c, {c.attrs.as<BestAttrs>().axis}); },
}};

const Op argmin_op{{
    .name = "argmin",
    .doc = "Index of the smallest entry along one axis: the first of equals, the first NaN if there is one.",
    .shape = best_shape,
    .kernel = best_kernel<false>,
    .samples = best_samples,
    .errors = best_errors,
    .edges =
        [] {
          return best_edges({1, 2, 0, 0});
        },
    .rows = [](const RowsContext& c) { return all_by_rows_along(c, {c.attrs.as<BestAttrs>().axis}); },
}};

Var best(const Op& op, const Var& x, std::optional<int> axis, bool keep_dims) {
  if (axis) return apply(op, {x}, BestAttrs{*axis, keep_dims});
  const Var index = apply(op, {reshape(x, {x.size()})}, BestAttrs{0});
  return keep_dims ? reshape(index, reduced(x.shape(), normalize_axes({}, x.rank(), op.name()), true))
                   : index;
}

Ordered ordered(const Op& op, const Var& x, const OrderAttrs& order) {
  const Vars outputs = apply_all(op, std::span(&x, 1), order);
  return {outputs[0], outputs[1]};
}

}  // namespace

Ordered sort(const Var& x, int axis, bool descending) { return ordered(sort_op, x, {axis, descending}); }

Ordered topk(const Var& x, std::int64_t k, int axis, bool largest) {
  if (k < 0) fail<ShapeError>("topk", "k must not be negative: got " + std::to_string(k));
  return ordered(topk_op, x, {axis, largest, k});
}

Var argmax(const Var& x, std::optional<int> axis, bool keep_dims) {
  return best(argmax_op, x, axis, keep_dims);
}
Var argmin(const Var& x, std::optional<int> axis, bool keep_dims) {
  return best(argmin_op, x, axis, keep_dims);
}

}  // namespace banach
