#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/entries.hpp>
#include <banach/ops/index.hpp>

#include <algorithm>
#include <limits>
#include <string>

namespace banach {
namespace {

using namespace entries;

// Both operations relate a tensor whose `axis` is indexed, (outer, extent, inner), to one whose `axis` runs
// over the indices, (outer, count, inner). The index is of the latter's shape, or (1, count, 1).
struct IndexAttrs {
  int axis;
  std::int64_t extent;  // of the indexed axis; scatter_add alone needs it
};

struct Layout {
  std::int64_t outer, extent, count, inner;
  bool common;  // one index for every row

  Layout(const Shape& indexed, const Shape& index, int axis)
      : outer(indexed.size(0, axis)),
        extent(indexed[axis]),
        count(index[axis]),
        inner(indexed.size(axis + 1, indexed.rank())),
        common(index.size() == count) {}

  // Where the index for position (o, j, first inner) stands.
  std::int64_t index(std::int64_t o, std::int64_t j) const { return common ? j : (o * count + j) * inner; }
};

// The shape of `x` with another extent along `axis`, after checking that `index` fits it.
Shape related(const ShapeContext& c, int axis, std::int64_t extent) {
  const Shape &x = c.shape(0), &index = c.shape(1);
  if (c.dtype(1) != DType::i64)
    fail<DTypeError>(c.op, "index must be i64: got " + std::string(name(c.dtype(1))));
  bool equal = x.rank() == index.rank(), ones = equal;
  for (int i = 0; equal && i < x.rank(); ++i)
    if (i != axis && index[i] != x[i]) equal = false;
  for (int i = 0; ones && i < x.rank(); ++i)
    if (i != axis && index[i] != 1) ones = false;
  if (!equal && !ones)
    fail<ShapeError>(c.op, "index must have the operand's extents but for axis " + std::to_string(axis) +
                               ": " + x.to_string() + " with " + index.to_string());
  Shape result = x;
  result[axis] = extent;
  return Shape(static_cast<const Ints&>(result));
}

[[noreturn]] void refuse_index(std::string_view op, const Tensor& index, std::int64_t at,
                               std::int64_t extent) {
  const std::int64_t value = index.data<std::int64_t>()[at];
  Ints position = index.shape();
  for (int i = index.rank() - 1; i >= 0; --i) {
    position[i] = at % index.shape()[i];
    at /= index.shape()[i];
  }
  fail<ShapeError>(op, "indices must lie in [0, " + std::to_string(extent) + "): got " +
                           std::to_string(value) + " at position " + position.to_string());
}

void check_indices(std::string_view op, const Tensor& index, std::int64_t extent) {
  const auto values = index.values<std::int64_t>();
  parallel_for(index.size(), 1 << 15, [&](std::int64_t begin, std::int64_t end) {
    bool fits = true;  // without a branch, so that it is looked at in vectors
    for (std::int64_t i = begin; i < end; ++i)
      fits &= static_cast<std::uint64_t>(values[static_cast<std::size_t>(i)]) <
              static_cast<std::uint64_t>(extent);
    for (std::int64_t i = begin; !fits && i < end; ++i)
      if (const std::int64_t v = values[static_cast<std::size_t>(i)]; v < 0 || v >= extent)
        refuse_index(op, index, i, extent);
  });
}

constexpr std::int64_t piece = 1 << 14;  // elements worth a task

template <class T>
void gather_rows(const T* x, const std::int64_t* index, T* out, const Layout& l) {
  const auto gather_some = [&](std::int64_t o, std::int64_t begin, std::int64_t end) {  // of the rows of o
    const T* from = x + o * l.extent * l.inner;
    const std::int64_t* at = index + l.index(o, begin);
    T* to = out + (o * l.count + begin) * l.inner;
    if (l.inner == 1) {
      for (std::int64_t j = 0; j < end - begin; ++j) to[j] = from[at[j]];
      return;
    }
    for (std::int64_t j = begin; j < end; ++j, to += l.inner, at += l.common ? 1 : l.inner) {
      if (l.common)
        std::copy_n(from + *at * l.inner, l.inner, to);
      else
        for (std::int64_t i = 0; i < l.inner; ++i) to[i] = from[at[i] * l.inner + i];
    }
  };
  const std::int64_t grain = std::max<std::int64_t>(1, piece / std::max<std::int64_t>(1, l.inner));
  parallel_for(l.outer * l.count, grain, [&](std::int64_t first, std::int64_t last) {
    while (first < last) {
      const std::int64_t o = first / l.count, stop = std::min(last, (o + 1) * l.count);
      gather_some(o, first - o * l.count, stop - o * l.count);
      first = stop;
    }
  });
}

// Rows that share a place are added in order, so parts of the inner axis are shared out, never rows.
template <class T>
void scatter_rows(const T* source, const std::int64_t* index, T* out, const Layout& l) {
  std::fill_n(out, l.outer * l.extent * l.inner, T{0});
  constexpr std::int64_t least = 64;  // some cache lines
  const std::int64_t width = std::clamp(piece / std::max<std::int64_t>(l.count, 1), least, piece);
  const std::int64_t parts = (l.inner + width - 1) / width;
  const std::int64_t work = std::max<std::int64_t>(1, l.count * std::min(width, l.inner));
  parallel_for(l.outer * parts, std::max<std::int64_t>(1, piece / work),
               [&](std::int64_t first, std::int64_t last) {
                 for (std::int64_t n = first; n < last; ++n) {
                   const std::int64_t o = n / parts, begin = n % parts * width;
                   const std::int64_t length = std::min(width, l.inner - begin);
                   const std::int64_t step = l.common ? 1 : l.inner;
                   const std::int64_t* at = index + l.index(o, 0) + (l.common ? 0 : begin);
                   const T* from = source + o * l.count * l.inner + begin;
                   T* to = out + o * l.extent * l.inner + begin;
                   for (std::int64_t j = 0; j < l.count; ++j, from += l.inner, at += step) {
                     if (length == 1)
                       to[*at * l.inner] += *from;
                     else if (l.common)
                       simd::kernels<T>().add_to(from, to + *at * l.inner, length);
                     else
                       for (std::int64_t i = 0; i < length; ++i) to[at[i] * l.inner + i] += from[i];
                   }
                 }
               });
}

const Op gather_op{{
    .name = "gather",
    .doc = "Entries of the first input picked along one axis by the indices of the second.",
    .shape =
        [](const ShapeContext& c) {
          const int axis = normalize_axis(c.attrs.as<IndexAttrs>().axis, c.shape(0).rank(), c.op);
          const std::int64_t count = axis < c.shape(1).rank() ? c.shape(1)[axis] : 0;
          return Spec{related(c, axis, count), c.dtype()};
        },
    .kernel =
        [](const KernelContext& c) {
          const int axis = normalize_axis(c.attrs.as<IndexAttrs>().axis, c.in().rank(), "gather");
          const Layout layout(c.in(0).shape(), c.in(1).shape(), axis);
          check_indices("gather", c.in(1), layout.extent);
          dispatch_any(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            gather_rows(c.in(0).data<T>(), c.in(1).data<std::int64_t>(), c.out().mutable_data<T>(), layout);
          });
        },
    .kind = OpKind::movement,
    .saves = Saves::inputs,  // the indices
    .vjp =
        [](const VjpContext& c) {
          return Vars{scatter_add(c.in(0).shape(), c.attrs.as<IndexAttrs>().axis, c.in(1), c.cotangent),
                      Var()};
        },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({4, 5}), g.indices({4, 3}, 5)}, IndexAttrs{1, 0}},
                         {{g.normal({4, 5}), g.indices({7, 5}, 4)}, IndexAttrs{0, 0}},
                         {{g.normal({4, 3}), g.indices({4, 3}, 4)}, IndexAttrs{-2, 0}},
                         {{g.normal({2, 3, 4}), g.indices({2, 5, 4}, 3)}, IndexAttrs{-2, 0}},
                         {{g.normal({2, 3, 4}), g.indices({1, 5, 1}, 3)}, IndexAttrs{1, 0}},
                         {{g.normal({2, 3}), Tensor::empty({2, 0}, DType::i64)}, IndexAttrs{1, 0}},
                         {{g.normal({0, 3}), Tensor::empty({0, 2}, DType::i64)}, IndexAttrs{1, 0}},
                         {{g.normal({1}), g.indices({1}, 1)}, IndexAttrs{0, 0}}};
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3});
          return ErrorSamples{
              {{x, tensor<std::int64_t>({0, 2, 1, 3}, {2, 2})},
               IndexAttrs{1, 0},
               "[gather] indices must lie in [0, 3): got 3 at position (1,1)"},
              {{x, tensor<std::int64_t>({-1, 0}, {2, 1})}, IndexAttrs{1, 0}, "got -1 at position (0,0)"},
              {{x, Tensor::zeros({3, 1}, DType::i64)},
               IndexAttrs{1, 0},
               "[gather] index must have the operand's extents but for axis 1: (2,3) with (3,1)"},
              {{x, Tensor::zeros({2, 1})}, IndexAttrs{1, 0}, "[gather] index must be i64: got f32"}};
        },
    .edges =
        [] {
          return Edges{{{numbers({nan, -0.0, inf}), tensor<std::int64_t>({0, 0, 2, 1})},
                        IndexAttrs{0, 0},
                        {numbers({nan, nan, inf, -0.0})},
                        {numbers({2, 1, 1})}},
                       {{numbers({nan, 1}), Tensor::empty({0}, DType::i64)},
                        IndexAttrs{0, 0},
                        {numbers({})},
                        {numbers({0, 0})}},
                       {{Tensor::empty({0, 2}, DType::f64), Tensor::empty({0, 1}, DType::i64)},
                        IndexAttrs{1, 0},
                        {Tensor::empty({0, 1}, DType::f64)},
                        {Tensor::empty({0, 2}, DType::f64)}}};
        },
    .rows =
        [](const RowsContext& c) {
          const int axis = normalize_axis(c.attrs.as<IndexAttrs>().axis, c.shape().rank(), "gather");
          return axis == 0 ? RowInputs{2} : broadcast_rows(c);  // along axis 0: a row for each index
        },
}};

const Op scatter_add_op{{
    .name = "scatter_add",
    .doc = "Zeros to which the entries of the first input are added at the indices of the second along one "
           "axis.",
    .shape =
        [](const ShapeContext& c) {
          const auto& attrs = c.attrs.as<IndexAttrs>();
          const int axis = normalize_axis(attrs.axis, c.shape(0).rank(), c.op);
          if (axis < c.shape(1).rank() && c.shape(1)[axis] != c.shape(0)[axis])
            fail<ShapeError>(c.op, "source and index must have one extent along axis " +
                                       std::to_string(axis) + ": " + c.shape(0).to_string() + " with " +
                                       c.shape(1).to_string());
          if (!is_floating(c.dtype(0))) fail<DTypeError>(c.op, "expects f32 or f64: source is i64");
          return Spec{related(c, axis, attrs.extent), c.dtype()};
        },
    .kernel =
        [](const KernelContext& c) {
          const int axis = normalize_axis(c.attrs.as<IndexAttrs>().axis, c.in().rank(), "scatter_add");
          const Layout layout(c.out().shape(), c.in(1).shape(), axis);
          check_indices("scatter_add", c.in(1), layout.extent);
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            scatter_rows(c.in(0).data<T>(), c.in(1).data<std::int64_t>(), c.out().mutable_data<T>(), layout);
          });
        },
    .saves = Saves::inputs,  // the indices
    .vjp =
        [](const VjpContext& c) {
          return Vars{gather(c.cotangent, c.attrs.as<IndexAttrs>().axis, c.in(1)), Var()};
        },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({4, 5}), g.indices({4, 5}, 3)}, IndexAttrs{1, 3}},
                         {{g.normal({4, 5}), g.indices({4, 5}, 6)}, IndexAttrs{0, 6}},
                         {{g.normal({4, 3}), g.indices({4, 3}, 4)}, IndexAttrs{-2, 4}},
                         {{g.normal({2, 3, 4}), g.indices({2, 3, 4}, 2)}, IndexAttrs{-2, 2}},
                         {{g.normal({2, 5, 4}), g.indices({1, 5, 1}, 3)}, IndexAttrs{1, 3}},
                         {{g.normal({2, 0}), Tensor::empty({2, 0}, DType::i64)}, IndexAttrs{1, 3}},
                         {{g.normal({1}), g.indices({1}, 1)}, IndexAttrs{0, 1}}};
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({2}), tensor<std::int64_t>({0, 4})},
               IndexAttrs{0, 3},
               "[scatter_add] indices must lie in [0, 3): got 4 at position (1)"},
              {{Tensor::zeros({2}), tensor<std::int64_t>({0, 1, 2})},
               IndexAttrs{0, 3},
               "[scatter_add] source and index must have one extent along axis 0: (2) with (3)"}};
        },
    .edges =
        [] {
          return Edges{{{numbers({nan, 1, inf, -inf, -0.0}), tensor<std::int64_t>({0, 1, 2, 2, 4})},
                        IndexAttrs{0, 5},
                        {numbers({nan, 1, nan, 0, 0})},
                        {numbers({1, 1, 1, 1, 1})}},
                       {{numbers({}), Tensor::empty({0}, DType::i64)},
                        IndexAttrs{0, 3},
                        {numbers({0, 0, 0})},
                        {numbers({})}}};
        },
    .rows =
        [](const RowsContext& c) {
          const int axis = normalize_axis(c.attrs.as<IndexAttrs>().axis, c.shape().rank(), "scatter_add");
          return axis == 0 ? RowInputs{} : broadcast_rows(c);
        },
}};

// ---- Tables -----------------------------------------------------------------------------------------------

void check_index_type(std::string_view op, const Var& index) {
  if (index.dtype() != DType::i64)
    fail<DTypeError>(op, "index must be i64: got " + std::string(name(index.dtype())));
}

// Shape of index, then the axes of table from the second on.
Ints shape_of_rows(const Shape& index, const Shape& table) {
  Ints shape = index;
  for (int i = 1; i < table.rank(); ++i) shape.push_back(table[i]);
  return shape;
}

Vars rows_of_table(std::span<const Var> inputs, const Attrs&) {
  const Var &table = inputs[0], &index = inputs[1];
  check_index_type("embedding", index);
  if (table.rank() == 0) fail<ShapeError>("embedding", "the table must have rows: got a scalar");
  check_indices("embedding", index.value(), table.size(0));
  const Var rows = take(table, 0, reshape(index, {index.size()}));
  return {reshape(rows, shape_of_rows(index.shape(), table.shape()))};
}

const Op embedding_op{{
    .name = "embedding",
    .doc = "Rows of a table picked by indices; cotangents of a row picked several times add up.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({4, 3}), g.indices({6}, 4)}},
                         {{g.normal({5, 2}), g.indices({2, 3}, 5)}},
                         {{g.normal({3, 2, 2}), g.indices({4}, 3)}},
                         {{g.normal({3}), g.indices({2, 2}, 3)}},
                         {{g.normal({3, 2}), g.indices({}, 3)}},
                         {{g.normal({3, 2}), Tensor::empty({0, 2}, DType::i64)}},
                         {{g.normal({1, 1}), g.indices({1}, 1)}}};
        },
    .errors =
        [] {
          const Tensor table = Tensor::zeros({3, 2});
          return ErrorSamples{{{table, tensor<std::int64_t>({0, 2, 1, 3}, {2, 2})},
                               {},
                               "[embedding] indices must lie in [0, 3): got 3 at position (1,1)"},
                              {{table, tensor<std::int64_t>({-1})}, {}, "got -1 at position (0)"},
                              {{table, Tensor::zeros({2})}, {}, "[embedding] index must be i64: got f32"},
                              {{Tensor::zeros({}), Tensor::arange(1)}, {}, "must have rows: got a scalar"}};
        },
    .composite = rows_of_table,
    .edges =
        [] {
          constexpr double nan = std::numeric_limits<double>::quiet_NaN();
          // A NaN stays in its row.
          return Edges{{{tensor({nan, 1.0, -0.0, 2.0}, {2, 2}), tensor<std::int64_t>({1, 0, 1})},
                        {},
                        {tensor({-0.0, 2.0, nan, 1.0, -0.0, 2.0}, {3, 2})},
                        {tensor({1.0, 1.0, 2.0, 2.0}, {2, 2})}},
                       {{Tensor::ones({2, 3}, DType::f64), Tensor::empty({0}, DType::i64)},
                        {},
                        {Tensor::zeros({0, 3}, DType::f64)},
                        {Tensor::zeros({2, 3}, DType::f64)}},
                       {{Tensor::zeros({0, 3}, DType::f64), Tensor::empty({2, 0}, DType::i64)},
                        {},
                        {Tensor::zeros({2, 0, 3}, DType::f64)},
                        {Tensor::zeros({0, 3}, DType::f64)}}};
        },
}};

struct OneHotAttrs {
  std::int64_t classes;
  DType dtype = DType::f64;
};

const Op one_hot_op{{
    .name = "one_hot",
    .doc = "1 at its index and 0 elsewhere, along a new last axis.",
    .shape =
        [](const ShapeContext& c) {
          const auto& [classes, dtype] = c.attrs.as<OneHotAttrs>();
          check_index_type(c.op, c.inputs[0]);
          if (classes < 0)
            fail<ValueError>(c.op, "classes must not be negative: got " + std::to_string(classes));
          Ints shape = c.shape();
          shape.push_back(classes);
          return Spec{Shape(shape), dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          const std::int64_t classes = c.out().size(-1);
          check_indices("one_hot", c.in(), classes);
          const std::int64_t* index = c.in().data<std::int64_t>();
          dispatch_any(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            T* out = c.out().mutable_data<T>();
            std::fill_n(out, c.out().size(), T{0});
            for (std::int64_t i = 0; i < c.in().size(); ++i) out[i * classes + index[i]] = T{1};
          });
        },
    .saves = Saves::nothing,
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.indices({5}, 4)}, OneHotAttrs{4}},
                         {{g.indices({2, 3}, 3)}, OneHotAttrs{7, DType::f32}},
                         {{g.indices({}, 3)}, OneHotAttrs{3, DType::i64}},
                         {{Tensor::empty({0}, DType::i64)}, OneHotAttrs{3}},
                         {{g.indices({1}, 1)}, OneHotAttrs{1}}};
        },
    .errors =
        [] {
          return ErrorSamples{
              {{tensor<std::int64_t>({0, 3})},
               OneHotAttrs{3},
               "[one_hot] indices must lie in [0, 3): got 3 at position (1)"},
              {{tensor<std::int64_t>({-1})}, OneHotAttrs{3}, "got -1 at position (0)"},
              {{Tensor::zeros({2})}, OneHotAttrs{3}, "[one_hot] index must be i64: got f32"},
              {{Tensor::arange(2)}, OneHotAttrs{-2}, "[one_hot] classes must not be negative: got -2"}};
        },
    .edges =
        [] {
          return Edges{
              {{tensor<std::int64_t>({2, 0, 2})},
               OneHotAttrs{3},
               {tensor({0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0}, {3, 3})}},
              {{Tensor::empty({0}, DType::i64)}, OneHotAttrs{0}, {Tensor::zeros({0, 0}, DType::f64)}}};
        },
    .rows = first_by_rows,
}};

}  // namespace

Var gather(const Var& x, int axis, const Var& index) {
  return apply(gather_op, {x, index}, IndexAttrs{axis, 0});
}

Var scatter_add(const Shape& shape, int axis, const Var& index, const Var& source) {
  Shape expected = shape;
  const int a = normalize_axis(axis, shape.rank(), "scatter_add");
  if (source.rank() == shape.rank()) expected[a] = source.shape()[a];
  if (!(expected == source.shape()))
    fail<ShapeError>("scatter_add", "source must have the result's extents but for axis " +
                                        std::to_string(a) + ": " + source.shape().to_string() + " into " +
                                        shape.to_string());
  return apply(scatter_add_op, {source, index}, IndexAttrs{a, shape[a]});
}

Var take(const Var& x, int axis, const Var& index) {
  if (index.rank() != 1)
    fail<ShapeError>("take", "index must have one axis: got " + index.shape().to_string());
  const int a = normalize_axis(axis, x.rank(), "take");
  Ints extents;
  for (int i = 0; i < x.rank(); ++i) extents.push_back(i == a ? index.shape()[0] : 1);
  return gather(x, a, reshape(index, extents));
}

Var embedding(const Var& table, const Var& index) { return apply(embedding_op, {table, index}); }

Var one_hot(const Var& index, std::int64_t classes, DType dtype) {
  return apply(one_hot_op, {index}, OneHotAttrs{classes, dtype});
}

}  // namespace banach
