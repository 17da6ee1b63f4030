// Triangles and diagonals of matrices.
#include <banach/engine/samples.hpp>
#include <banach/ops/linalg.hpp>
#include <banach/ops/matrices.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/walk.hpp>

#include <limits>

namespace banach {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

struct DiagonalAttrs {
  int offset;
};

Spec like_matrices(const ShapeContext& c) {
  check_matrices(c.op, c.shape());
  return {c.shape(), common_floating(c)};
}

// ---- tril, triu -------------------------------------------------------------------------------------------

// Entries are copied or left out, not multiplied by 0: a NaN outside the triangle is gone.
template <bool upper>
void triangle(const KernelContext& c) {
  const Shape& shape = c.out().shape();
  if (shape.size() == 0) return;
  const std::int64_t m = rows(shape), n = columns(shape), offset = c.attrs.as<DiagonalAttrs>().offset;
  dispatch_floating(c.out().dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* x = c.in().data<T>();
    T* out = c.out().mutable_data<T>();
    for_matrices(shape.size() / n, static_cast<double>(n), [&](std::int64_t row) {
      const std::int64_t split = std::clamp<std::int64_t>(row % m + offset + (upper ? 0 : 1), 0, n);
      std::fill_n(out + row * n, n, T{0});
      std::copy(x + row * n + (upper ? split : 0), x + row * n + (upper ? n : split),
                out + row * n + (upper ? split : 0));
    });
  });
}

Samples triangle_samples(SampleGen& g) {
  return {{{g.normal({3, 3})}, DiagonalAttrs{0}},       {{g.normal({2, 4, 3})}, DiagonalAttrs{-1}},
          {{g.normal({2, 2, 3, 4})}, DiagonalAttrs{1}}, {{g.normal({2, 3})}, DiagonalAttrs{7}},
          {{g.normal({1, 1})}, DiagonalAttrs{0}},       {{g.normal({2, 0, 3})}, DiagonalAttrs{0}}};
}

ErrorSamples matrix_errors() {
  return {{{Tensor::zeros({3})}, DiagonalAttrs{0}, "expects matrices, (..., m, n): got (3)"},
          {{Tensor::arange(4).reshape({2, 2})}, DiagonalAttrs{0}, "expects f32 or f64"}};
}

const Op tril_op{{
    .name = "tril",
    .doc = "The lower triangle of matrices, zeros elsewhere.",
    .shape = like_matrices,
    .kernel = triangle<false>,
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp = [](const VjpContext& c) { return Vars{tril(c.cotangent, c.attrs.as<DiagonalAttrs>().offset)}; },
    .samples = triangle_samples,
    .errors = matrix_errors,
    .edges =
        [] {
          return Edges{{{tensor({-0.0, nan, nan, nan}, {2, 2})},
                        DiagonalAttrs{0},
                        {tensor({-0.0, 0.0, nan, nan}, {2, 2})},
                        {tensor({1.0, 0.0, 1.0, 1.0}, {2, 2})}}};
        },
    .rows = stack_rows,
}};

const Op triu_op{{
    .name = "triu",
    .doc = "The upper triangle of matrices, zeros elsewhere.",
    .shape = like_matrices,
    .kernel = triangle<true>,
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp = [](const VjpContext& c) { return Vars{triu(c.cotangent, c.attrs.as<DiagonalAttrs>().offset)}; },
    .samples = triangle_samples,
    .errors = matrix_errors,
    .edges =
        [] {
          return Edges{{{tensor({-0.0, nan, nan, nan}, {2, 2})},
                        DiagonalAttrs{0},
                        {tensor({-0.0, nan, 0.0, nan}, {2, 2})},
                        {tensor({1.0, 1.0, 0.0, 1.0}, {2, 2})}}};
        },
    .rows = stack_rows,
}};

// ---- diagonal ---------------------------------------------------------------------------------------------

std::int64_t diagonal_length(const Shape& shape, std::int64_t offset) {
  return std::max<std::int64_t>(0, std::min(rows(shape) + std::min<std::int64_t>(offset, 0),
                                            columns(shape) - std::max<std::int64_t>(offset, 0)));
}

// Steps through diagonals: along the vectors of `vectors`, and along the diagonals of `matrices`.
struct DiagonalWalk {
  Ints extents, vectors, matrices;
  std::int64_t start;  ///< of the first diagonal among the entries of the matrices

  DiagonalWalk(const Shape& vector_shape, const Shape& matrix_shape, std::int64_t offset)
      : extents(vector_shape),
        vectors(row_major_strides(vector_shape)),
        start(offset < 0 ? -offset * columns(matrix_shape) : offset) {
    const Ints strides = row_major_strides(matrix_shape);
    for (int i = 0; i < vector_shape.rank(); ++i) matrices.push_back(strides[i]);
    matrices[vector_shape.rank() - 1] = columns(matrix_shape) + 1;
  }
};

Var embedded(const Var& x, std::int64_t m, std::int64_t n, int offset);

const Op diagonal_op{{
    .name = "diagonal",
    .doc = "One diagonal of matrices.",
    .shape =
        [](const ShapeContext& c) {
          check_matrices(c.op, c.shape());
          const std::int64_t length = diagonal_length(c.shape(), c.attrs.as<DiagonalAttrs>().offset);
          return Spec{extended(leading(c.shape()), {length}), common_floating(c)};
        },
    .kernel =
        [](const KernelContext& c) {
          if (c.out().size() == 0) return;
          const DiagonalWalk walk(c.out().shape(), c.in().shape(), c.attrs.as<DiagonalAttrs>().offset);
          copy_elements(c.out(), 0, c.in(), walk.start, {walk.extents, walk.vectors, walk.matrices});
        },
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          const Shape& shape = c.in().shape();
          return Vars{embedded(c.cotangent, rows(shape), columns(shape), c.attrs.as<DiagonalAttrs>().offset)};
        },
    .samples =
        [](SampleGen& g) {
          return Samples{
              {{g.normal({3, 3})}, DiagonalAttrs{0}},       {{g.normal({2, 4, 3})}, DiagonalAttrs{-1}},
              {{g.normal({2, 2, 3, 4})}, DiagonalAttrs{1}}, {{g.normal({1, 1})}, DiagonalAttrs{0}},
              {{g.normal({2, 3})}, DiagonalAttrs{3}},       {{g.normal({2, 0, 0})}, DiagonalAttrs{0}}};
        },
    .errors = matrix_errors,
    .edges =
        [] {
          return Edges{{{tensor({-0.0, 1.0, 2.0, nan}, {2, 2})},
                        DiagonalAttrs{0},
                        {numbers({-0.0, nan})},
                        {tensor({1.0, 0.0, 0.0, 1.0}, {2, 2})}},
                       {{tensor({1.0, 2.0}, {1, 2})}, DiagonalAttrs{-5}, {numbers({})}}};
        },
    .rows = stack_rows,
}};

struct EmbedAttrs {
  int offset;
  std::int64_t rows, columns;
};

const Op diagonal_matrix_op{{
    .name = "diagonal_matrix",
    .doc = "Matrices with the input on one diagonal, zeros elsewhere.",
    .shape =
        [](const ShapeContext& c) {
          const auto [offset, m, n] = c.attrs.as<EmbedAttrs>();
          const DType dtype = common_floating(c);
          if (c.shape().rank() == 0) fail<ShapeError>(c.op, "expects at least one axis: got ()");
          Ints lead = c.shape();
          const std::int64_t length = lead[lead.count() - 1];
          Ints axes;
          for (int i = 0; i + 1 < lead.count(); ++i) axes.push_back(lead[i]);
          const Shape shape = extended(axes, {m, n});
          if (diagonal_length(shape, offset) != length)
            fail<ShapeError>(c.op, "the diagonal must be as long as the last axis: diagonal " +
                                       std::to_string(offset) + " of " + shape.to_string() + " for " +
                                       c.shape().to_string());
          return Spec{shape, dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            std::fill_n(c.out().mutable_data<decltype(zero)>(), c.out().size(), zero);
          });
          if (c.in().size() == 0) return;
          const DiagonalWalk walk(c.in().shape(), c.out().shape(), c.attrs.as<EmbedAttrs>().offset);
          copy_elements(c.out(), walk.start, c.in(), 0, {walk.extents, walk.matrices, walk.vectors});
        },
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp = [](const VjpContext& c) { return Vars{diagonal(c.cotangent, c.attrs.as<EmbedAttrs>().offset)}; },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({3})}, EmbedAttrs{0, 3, 3}},
                         {{g.normal({2, 3})}, EmbedAttrs{-1, 4, 3}},
                         {{g.normal({2, 2, 3})}, EmbedAttrs{1, 3, 4}},
                         {{g.normal({1})}, EmbedAttrs{0, 1, 1}},
                         {{g.normal({2, 0})}, EmbedAttrs{3, 2, 3}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({3})},
                               EmbedAttrs{0, 2, 2},
                               "[diagonal_matrix] the diagonal must be as long as the last axis: diagonal 0 "
                               "of (2,2) for (3)"},
                              {{Tensor::zeros({})}, EmbedAttrs{0, 1, 1}, "expects at least one axis"},
                              {{Tensor::arange(3)}, EmbedAttrs{0, 3, 3}, "expects f32 or f64"}};
        },
    .edges =
        [] {
          return Edges{{{numbers({-0.0, nan})},
                        EmbedAttrs{0, 2, 2},
                        {tensor({-0.0, 0.0, 0.0, nan}, {2, 2})},
                        {numbers({1, 1})}}};
        },
    .nan = NanRule::somewhere,
    .rows = [](const RowsContext& c) { return all_by_rows_along(c, {-1}); },
}};

Var embedded(const Var& x, std::int64_t m, std::int64_t n, int offset) {
  return apply(diagonal_matrix_op, {x}, EmbedAttrs{offset, m, n});
}

// ---- trace ------------------------------------------------------------------------------------------------

const Op trace_op{{
    .name = "trace",
    .doc = "Sum of the main diagonal of matrices.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          return Samples{
              {{g.normal({3, 3})}}, {{g.normal({2, 4, 3})}}, {{g.normal({1, 1})}}, {{g.normal({2, 0, 0})}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({3})}, {}, "expects matrices, (..., m, n): got (3)"}};
        },
    .composite =
        [](std::span<const Var> x, const Attrs&) {
          check_matrices("trace", x[0].shape());
          return Vars{sum(diagonal(x[0]), {-1})};
        },
    .edges =
        [] {
          return Edges{{{tensor({1.0, nan, nan, 2.0}, {2, 2})}, {}, {tensor({3.0}, {})}},
                       {{Tensor::zeros({1, 0, 0}, DType::f64)}, {}, {numbers({0.0})}}};
        },
}};

}  // namespace

Var tril(const Var& x, int diagonal) { return apply(tril_op, {x}, DiagonalAttrs{diagonal}); }

Var triu(const Var& x, int diagonal) { return apply(triu_op, {x}, DiagonalAttrs{diagonal}); }

Var diagonal(const Var& x, int offset) { return apply(diagonal_op, {x}, DiagonalAttrs{offset}); }

Var diagonal_matrix(const Var& x, int offset) {
  const std::int64_t n = (x.defined() && x.rank() > 0 ? x.size(-1) : 0) + std::abs(std::int64_t{offset});
  return embedded(x, n, n, offset);
}

Var trace(const Var& x) { return apply(trace_op, {x}); }

}  // namespace banach
