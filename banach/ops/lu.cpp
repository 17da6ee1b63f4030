// General square systems by LU factorisation, and what follows from the factor.
#include <banach/engine/blas.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/linalg.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/matrices.hpp>
#include <banach/ops/shape_ops.hpp>

#include <array>
#include <cmath>
#include <limits>
#include <utility>

namespace banach {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();

// ---- lu_factor --------------------------------------------------------------------------------------------

template <class T>
void factor(std::int64_t n, const T* a, T* lu, std::int64_t* pivots) {
  PoolVector<int> rows(static_cast<std::size_t>(n), 1);
  std::copy_n(a, n * n, lu);
  if (blas::lu_factor(n, lu, rows.data()) == blas::non_finite)
    std::fill_n(lu, n * n, std::numeric_limits<T>::quiet_NaN());
  std::copy(rows.begin(), rows.end(), pivots);
}

// Diagonally heavy, so that differences and single precision do not meet a singular matrix.
Tensor well_conditioned(SampleGen& g, const Shape& lead, std::int64_t n) {
  const double size = 1.0 / std::sqrt(static_cast<double>(std::max<std::int64_t>(n, 1)));
  Tensor signs = Tensor::eye(n, DType::f64);
  for (std::int64_t i = 0; i < n; i += 2) signs.mutable_data<double>()[i * (n + 1)] = -1.0;
  return (size * Var(g.uniform(extended(lead, {n, n}), -1.0, 1.0)) + 2.5 * Var(signs)).value();
}

// Several, of which the last needs a swap of its first two rows.
Tensor one_swapped(SampleGen& g, std::int64_t count, std::int64_t n) {
  Tensor a = well_conditioned(g, {count}, n);
  double* last = a.mutable_data<double>() + (count - 1) * n * n;
  std::swap_ranges(last, last + n, last + n);
  return a;
}

ErrorSamples square_errors() {
  return {{{Tensor::zeros({2, 3})}, {}, "expects square matrices, (..., n, n): got (2,3)"},
          {{Tensor::zeros({3})}, {}, "expects square matrices, (..., n, n): got (3)"},
          {{Tensor::arange(4).reshape({2, 2})}, {}, "expects f32 or f64"}};
}

Samples square_samples(SampleGen& g) {
  return {{{well_conditioned(g, {}, 3)}},  {{well_conditioned(g, {2}, 4)}},
          {{one_swapped(g, 3, 3)}},        {{well_conditioned(g, {2, 1}, 2)}},
          {{well_conditioned(g, {}, 8)}},  {{well_conditioned(g, {}, 1)}},
          {{well_conditioned(g, {3}, 0)}}, {{Tensor::zeros({0, 2, 2}, DType::f64)}}};
}

const Op lu_factor_op{{
    .name = "lu_factor",
    .doc = "LU factors with partial pivoting, and the rows swapped; constants for every derivative.",
    .kernel =
        [](const KernelContext& c) {
          const std::int64_t n = columns(c.in().shape());
          if (c.in().size() == 0) return;
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T* a = c.in().data<T>();
            T* lu = c.out(0).mutable_data<T>();
            auto* pivots = c.out(1).mutable_data<std::int64_t>();
            for_matrices(c.in().size() / (n * n), cubic(n, n),
                         [&](std::int64_t i) { factor(n, a + i * n * n, lu + i * n * n, pivots + i * n); });
          });
        },
    .samples = square_samples,
    .errors = square_errors,
    .shapes =
        [](const ShapeContext& c) {
          const std::int64_t n = square_extent(c.op, c.shape());
          return Specs{{c.shape(), common_floating(c)}, {extended(leading(c.shape()), {n}), DType::i64}};
        },
    .edges =
        [] {
          // A zero pivot at first, singular, with a NaN. Rows count from 1; the factors are those of A^T, by
          // columns.
          return Edges{
              {{tensor({0.0, 2.0, 4.0, 6.0, /**/ 1.0, 2.0, 2.0, 4.0, /**/ 1.0, nan, 0.0, 1.0}, {3, 2, 2})},
               {},
               {tensor({2.0, 0.0, 6.0, 4.0, /**/ 2.0, 0.5, 4.0, 0.0, /**/ nan, nan, nan, nan}, {3, 2, 2}),
                tensor({2.0, 2.0, 2.0, 2.0, 1.0, 1.0}, {3, 2})}}};
        },
    .nan = NanRule::somewhere,
    .rows = stack_rows,
}};

// ---- lu_solve ---------------------------------------------------------------------------------------------

struct LuSolveAttrs {
  bool transposed;
};

// Row-major, the factor of A^T = P L U reads: U^T in the lower triangle, L^T (ones on its diagonal) in the
// upper one. So A = U^T L^T P^T, and P swaps rows i and pivots[i] - 1, the last i first.
template <class T>
void solve_with_factor(bool transposed, std::int64_t n, std::int64_t k, const T* lu,
                       const std::int64_t* pivots, T* x) {
  for (std::int64_t i = 0; i < n; ++i)
    if (!(std::abs(lu[i * (n + 1)]) > 0))
      return std::fill_n(x, n * k, std::numeric_limits<T>::quiet_NaN()), void();
  const auto swap = [&](std::int64_t i) {
    const std::int64_t other = pivots[i] - 1;
    if (other != i) std::swap_ranges(x + i * k, x + (i + 1) * k, x + other * k);
  };
  if (transposed) {
    for (std::int64_t i = 0; i < n; ++i) swap(i);
    blas::triangular_solve(true, true, true, n, k, lu, x);
    blas::triangular_solve(false, true, false, n, k, lu, x);
  } else {
    blas::triangular_solve(false, false, false, n, k, lu, x);
    blas::triangular_solve(true, false, true, n, k, lu, x);
    for (std::int64_t i = n - 1; i >= 0; --i) swap(i);
  }
}

// Inputs A, its factor, and B. The factor is only how the equation is solved: derivatives go through A, and
// use it again.
const Op lu_solve_op{{
    .name = "lu_solve",
    .doc = "X with A X = B, or A^T X = B, given the factor of A.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating({c.op, std::array{c.inputs[0], c.inputs[3]}, c.attrs});
          return Spec{solution_shape(c.op, c.shape(0), c.shape(3)), dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          const bool transposed = c.attrs.as<LuSolveAttrs>().transposed;
          const std::int64_t n = columns(c.in(0).shape()), k = columns(c.out().shape());
          const auto* pivots = c.in(2).data<std::int64_t>();
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T* lu = c.in(1).data<T>();
            for_systems<T>(leading(c.in(0).shape()), c.in(3), c.out(), [&](std::int64_t i, T* x) {
              solve_with_factor(transposed, n, k, lu + i * n * n, pivots + i * n, x);
            });
          });
        },
    .kind = OpKind::implicit,
    .vjp =
        [](const VjpContext& c) {
          const bool transposed = c.attrs.as<LuSolveAttrs>().transposed;
          const Var b = lu_solve({c.in(0), c.in(1), c.in(2)}, c.cotangent, !transposed);
          Vars cotangents(4);
          if (c.needs(0)) {
            const Var product = transposed ? matmul(c.out, b, {.transpose_b = true})
                                           : matmul(b, c.out, {.transpose_b = true});
            cotangents[0] = sum_to(-product, c.in(0).shape());
          }
          if (c.needs(3)) cotangents[3] = sum_to(b, c.in(3).shape());
          return cotangents;
        },
    .rows =
        [](const RowsContext& c) {
          RowInputs by_rows = broadcast_stack_rows(c);
          if (by_rows && (*by_rows & 1)) *by_rows |= 4;  // the pivots, which have an axis less than A
          return by_rows;
        },
}};

// ---- solve, inverse ---------------------------------------------------------------------------------------

const Op solve_op{{
    .name = "solve",
    .doc = "X with A X = B, by LU factorisation with partial pivoting; NaN for a singular A.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          return Samples{{{well_conditioned(g, {}, 3), g.normal({3, 2})}},
                         {{well_conditioned(g, {2, 1}, 3), g.normal({3, 3, 1})}},
                         {{well_conditioned(g, {2}, 4), g.normal({4})}},
                         {{well_conditioned(g, {}, 4), g.normal({4})}},
                         {{one_swapped(g, 3, 3), g.normal({3, 3, 2})}},
                         {{well_conditioned(g, {}, 8), g.normal({2, 8, 5})}},
                         {{well_conditioned(g, {}, 1), g.normal({1})}},
                         {{well_conditioned(g, {2}, 0), g.normal({0, 3})}},
                         {{well_conditioned(g, {2}, 2), g.normal({2, 0})}}};
        },
    .errors =
        [] {
          const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape); };
          return ErrorSamples{
              {{zeros({2, 3}), zeros({2})}, {}, "[solve] expects square matrices, (..., n, n): got (2,3)"},
              {{zeros({2, 2}), zeros({3, 1})},
               {},
               "right-hand sides must have as many rows as the matrices: (2,2) with (3,1)"},
              {{zeros({2, 2}), zeros({})}, {}, "as many rows as the matrices: (2,2) with ()"},
              {{zeros({2, 2, 2}), zeros({3, 2, 1})}, {}, "leading axes must broadcast"},
              {{zeros({2, 2}), Tensor::zeros({2, 1}, DType::f64)}, {}, "f32 with f64"}};
        },
    .composite =
        [](std::span<const Var> in, const Attrs& attrs) {
          return Vars{with_columns(in[1], [&](const Var& b) {
            common_floating({"solve", in, attrs});
            solution_shape("solve", in[0].shape(), b.shape());
            return lu_solve(lu_factor(in[0]), b);
          })};
        },
    .edges =
        [] {
          // Needs a swap of rows, singular, with a NaN.
          return Edges{
              {{tensor({0.0, 2.0, 4.0, 6.0, /**/ 1.0, 2.0, 2.0, 4.0, /**/ 1.0, nan, 0.0, 1.0}, {3, 2, 2}),
                numbers({2, 10})},
               {},
               {tensor({1.0, 1.0, nan, nan, nan, nan}, {3, 2})}},
              {{tensor({2.0}, {1, 1}), numbers({nan})}, {}, {numbers({nan})}}};
        },
    .nan = NanRule::somewhere,
}};

const Op inverse_op{{
    .name = "inverse",
    .doc = "A^-1, by LU factorisation with partial pivoting; NaN for a singular A.",
    .kind = OpKind::composite,
    .samples = square_samples,
    .errors = square_errors,
    .composite =
        [](std::span<const Var> in, const Attrs& attrs) {
          const DType dtype = common_floating({"inverse", in, attrs});
          const std::int64_t n = square_extent("inverse", in[0].shape());
          return Vars{lu_solve(lu_factor(in[0]), Var(Tensor::eye(n, dtype)))};
        },
    .edges =
        [] {
          return Edges{{{tensor({0.0, 2.0, 4.0, 0.0, /**/ 0.0, 0.0, 0.0, 1.0}, {2, 2, 2})},
                        {},
                        {tensor({0.0, 0.25, 0.5, 0.0, nan, nan, nan, nan}, {2, 2, 2})}}};
        },
    .nan = NanRule::somewhere,
}};

// ---- slogdet ----------------------------------------------------------------------------------------------

template <class T>
std::pair<T, T> sign_and_log(std::int64_t n, const T* lu, const std::int64_t* pivots) {
  T sign = 1;
  double log_abs = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    const T pivot = lu[i * (n + 1)];
    if (pivot == 0) return {T{0}, -std::numeric_limits<T>::infinity()};
    if ((pivot < 0) != (pivots[i] - 1 != i)) sign = -sign;
    if (std::isnan(pivot)) sign = pivot;
    log_abs += std::log(std::abs(static_cast<double>(pivot)));
  }
  return {sign, static_cast<T>(log_abs)};
}

// Inputs A and its factor, as in lu_solve.
const Op lu_slogdet_op{{
    .name = "lu_slogdet",
    .doc = "Sign and logarithm of |det A|, given the factor of A.",
    .kernel =
        [](const KernelContext& c) {
          const std::int64_t n = columns(c.in(0).shape());
          const auto* pivots = c.in(2).data<std::int64_t>();
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T* lu = c.in(1).data<T>();
            T *sign = c.out(0).mutable_data<T>(), *log_abs = c.out(1).mutable_data<T>();
            for (std::int64_t i = 0; i < c.out().size(); ++i)
              std::tie(sign[i], log_abs[i]) = sign_and_log(n, lu + i * n * n, pivots + i * n);
          });
        },
    .kind = OpKind::implicit,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          Vars cotangents(3);
          const Var& g = c.cotangents[1];
          if (!g.defined()) return cotangents;
          const Var eye(Tensor::eye(columns(c.in(0).shape()), g.dtype()));
          const Var scale = reshape(g, extended(g.shape(), {1, 1}));
          cotangents[0] = scale * lu_solve({c.in(0), c.in(1), c.in(2)}, eye, true);
          return cotangents;
        },
    .shapes =
        [](const ShapeContext& c) {
          return Specs(2, Spec{leading(c.shape(0)), c.dtype(0)});
        },
    .rows = stack_rows,
}};

const Op slogdet_op{{
    .name = "slogdet",
    .doc = "Sign of det A (0 if singular) and log |det A|.",
    .kind = OpKind::composite,
    .samples = square_samples,
    .errors = square_errors,
    .composite =
        [](std::span<const Var> in, const Attrs& attrs) {
          common_floating({"slogdet", in, attrs});
          square_extent("slogdet", in[0].shape());
          const auto [a, lu, pivots] = lu_factor(in[0]);
          return apply_all(lu_slogdet_op, Vars{a, lu, pivots});
        },
    .edges =
        [] {
          const double e = std::exp(1.0);
          return Edges{{{tensor({e, 0.0, 0.0, e, /**/ 0.0, e, e, 0.0, /**/ 1.0, 2.0, 2.0, 4.0,
                                 /**/ 1.0, nan, 0.0, 1.0},
                                {4, 2, 2})},
                        {},
                        {numbers({1, -1, 0, nan}), numbers({2, 2, -inf, nan})}},
                       {{Tensor::zeros({0, 0}, DType::f64)}, {}, {tensor({1.0}, {}), tensor({0.0}, {})}},
                       {{tensor({2.0, 0.0, 0.0, -4.0}, {2, 2})},
                        {},
                        {tensor({-1.0}, {}), tensor({std::log(8.0)}, {})},
                        {tensor({0.5, 0.0, 0.0, -0.25}, {2, 2})}}};
        },
    .nan = NanRule::somewhere,
}};

}  // namespace

LuFactor lu_factor(const Var& a) {
  Vars factor = apply_all(lu_factor_op, {&a, 1});
  return {a, std::move(factor[0]), std::move(factor[1])};
}

Var lu_solve(const LuFactor& factor, const Var& b, bool transposed) {
  return with_columns(b, [&](const Var& columns) {
    return apply(lu_solve_op, {factor.matrix, factor.lu, factor.pivots, columns}, LuSolveAttrs{transposed});
  });
}

Var solve(const Var& a, const Var& b) { return apply(solve_op, {a, b}); }

Var inverse(const Var& a) { return apply(inverse_op, {a}); }

SignLogDet slogdet(const Var& a) {
  Vars both = apply_all(slogdet_op, {&a, 1});
  return {std::move(both[0]), std::move(both[1])};
}

}  // namespace banach
