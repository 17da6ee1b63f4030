// Triangular and symmetric positive definite systems.
#include <banach/engine/blas.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/linalg.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/matrices.hpp>
#include <banach/ops/shape_ops.hpp>

#include <cmath>
#include <limits>

namespace banach {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();

Var symmetric_part(const Var& x) { return 0.5 * (x + transpose(x)); }

// ---- cholesky ---------------------------------------------------------------------------------------------

template <class T>
void factor(std::int64_t n, const T* a, T* l) {
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) l[i * n + j] = T(0.5) * a[i * n + j] + T(0.5) * a[j * n + i];
  if (blas::cholesky_factor(n, l) != 0) std::fill_n(l, n * n, std::numeric_limits<T>::quiet_NaN());
}

// With S = L^-T P L^-1, P being the lower triangle of L^T dL with its diagonal halved, the cotangent is the
// symmetric part of S (Murray 2016, "Differentiation of the Cholesky decomposition", eq. 10).
Vars cholesky_vjp(const VjpContext& c) {
  const Var& l = c.out;
  const Var product = matmul(l, tril(c.cotangent), {.transpose_a = true});
  const Var p = 0.5 * (tril(product) + tril(product, -1));
  const Var left = solve_triangular(l, p, {.transposed = true});
  return {symmetric_part(solve_triangular(l, transpose(left), {.transposed = true}))};
}

// Eigenvalues from about 1 upwards. Not symmetric: the operations must not care.
Tensor positive_definite(SampleGen& g, const Shape& lead, std::int64_t n) {
  const Var root = g.normal(extended(lead, {n, n}));
  const Var skewed = g.normal(extended(lead, {n, n}));
  const Var a = matmul(root, root, {.transpose_b = true}) / static_cast<double>(std::max<std::int64_t>(n, 1));
  return (a + Var(Tensor::eye(n, DType::f64)) + 0.3 * (skewed - transpose(skewed))).value();
}

const Op cholesky_op{{
    .name = "cholesky",
    .doc = "L with L L^T = (A + A^T) / 2; NaN where that is not positive definite.",
    .shape =
        [](const ShapeContext& c) {
          square_extent(c.op, c.shape());
          return Spec{c.shape(), common_floating(c)};
        },
    .kernel =
        [](const KernelContext& c) {
          const std::int64_t n = columns(c.out().shape());
          if (c.out().size() == 0) return;
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T* a = c.in().data<T>();
            T* l = c.out().mutable_data<T>();
            for_matrices(c.out().size() / (n * n), cubic(n, n),
                         [&](std::int64_t i) { factor(n, a + i * n * n, l + i * n * n); });
          });
        },
    .saves = Saves::outputs,
    .vjp = cholesky_vjp,
    .samples =
        [](SampleGen& g) {
          return Samples{{{positive_definite(g, {}, 3)}},         {{positive_definite(g, {2}, 4)}},
                         {{positive_definite(g, {2, 1}, 2)}},     {{positive_definite(g, {}, 8)}},
                         {{positive_definite(g, {}, 1)}},         {{positive_definite(g, {3}, 0)}},
                         {{Tensor::zeros({0, 2, 2}, DType::f64)}}};
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({2, 3})}, {}, "[cholesky] expects square matrices, (..., n, n): got (2,3)"},
              {{Tensor::zeros({3})}, {}, "expects square matrices, (..., n, n): got (3)"},
              {{Tensor::arange(4).reshape({2, 2})}, {}, "expects f32 or f64"}};
        },
    .edges =
        [] {
          // Good, indefinite, zero, with a NaN above the diagonal, infinite; only the first survives.
          return Edges{
              {{tensor({4.0,      2.0, 2.0, 5.0, /**/ 1.0, 2.0, 2.0, 1.0, /**/ 0.0, 0.0, 0.0, 0.0,
                        /**/ 1.0, nan, 0.0, 1.0, /**/ inf, 0.0, 0.0, 1.0},
                       {5, 2, 2})},
               {},
               {tensor({2.0,      0.0, 1.0, 2.0, /**/ nan, nan, nan, nan, /**/ nan, nan, nan, nan,
                        /**/ nan, nan, nan, nan, /**/ nan, nan, nan, nan},
                       {5, 2, 2})},
               // l11 = sqrt(a11), l21 = a21 / l11, l22 = sqrt(a22 - l21^2), with a21 = (A12 + A21) / 2
               {tensor({0.1875,   0.125, 0.125, 0.25, /**/ nan, nan, nan, nan,
                        /**/ nan, nan,   nan,   nan,  /**/ nan, nan, nan, nan, /**/ nan, nan, nan, nan},
                       {5, 2, 2})}},
              {{tensor({-1.0}, {1, 1})}, {}, {tensor({nan}, {1, 1})}}};
        },
    .nan = NanRule::somewhere,
    .rows = stack_rows,
}};

// ---- solve_triangular -------------------------------------------------------------------------------------

template <class T>
bool solvable(std::int64_t n, const T* a, const TriangularOptions& o) {
  T zeros = 0;  // NaN as soon as one entry that is read is not finite
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t skipped = o.unit_diagonal ? 1 : 0;
    for (std::int64_t j = o.upper ? i + skipped : 0; j < (o.upper ? n : i + 1 - skipped); ++j)
      zeros += a[i * n + j] * 0;
    if (!o.unit_diagonal && a[i * (n + 1)] == 0) return false;
  }
  return zeros == 0;
}

Vars solve_triangular_vjp(const VjpContext& c) {
  const auto& options = c.attrs.as<TriangularOptions>();
  TriangularOptions turned = options;
  turned.transposed = !options.transposed;
  const Var b = solve_triangular(c.in(0), c.cotangent, turned);
  Vars cotangents(2);
  if (c.needs(0)) {
    const Var full = options.transposed ? matmul(c.out, b, {.transpose_b = true})
                                        : matmul(b, c.out, {.transpose_b = true});
    const int beside = options.unit_diagonal ? 1 : 0;
    const Var part = options.upper ? triu(full, beside) : tril(full, -beside);
    cotangents[0] = sum_to(-part, c.in(0).shape());
  }
  if (c.needs(1)) cotangents[1] = sum_to(b, c.in(1).shape());
  return cotangents;
}

Spec system_shape(const ShapeContext& c) {
  const DType dtype = common_floating(c);
  return {solution_shape(c.op, c.shape(0), c.shape(c.inputs.size() == 2 ? 1 : 2)), dtype};
}

// Bounded inverses, whichever triangle is read.
Tensor triangular(SampleGen& g, const Shape& lead, std::int64_t n) {
  const double size = 0.5 / static_cast<double>(std::max<std::int64_t>(n, 1));
  return (size * Var(g.uniform(extended(lead, {n, n}), -2.0, 2.0)) + 1.5 * Var(Tensor::eye(n, DType::f64)))
      .value();
}

const Op solve_triangular_op{{
    .name = "solve_triangular",
    .doc = "X with op(A) X = B for one triangle of A; NaN for a problem with a zero on the diagonal.",
    .shape = system_shape,
    .kernel =
        [](const KernelContext& c) {
          const auto& options = c.attrs.as<TriangularOptions>();
          const std::int64_t n = columns(c.in(0).shape()), k = columns(c.out().shape());
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T* a = c.in(0).data<T>();
            for_systems<T>(leading(c.in(0).shape()), c.in(1), c.out(), [&](std::int64_t i, T* x) {
              if (solvable(n, a + i * n * n, options))
                blas::triangular_solve(options.upper, options.transposed, options.unit_diagonal, n, k,
                                       a + i * n * n, x);
              else
                std::fill_n(x, n * k, std::numeric_limits<T>::quiet_NaN());
            });
          });
        },
    .vjp = solve_triangular_vjp,
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const bool upper : {false, true})
            for (const bool transposed : {false, true}) {
              const TriangularOptions options{upper, transposed, false};
              samples.push_back({{triangular(g, {}, 3), g.normal({3, 2})}, options});
              samples.push_back({{triangular(g, {2, 1}, 3), g.normal({3, 3, 1})}, options});
              samples.push_back(
                  {{triangular(g, {}, 8), g.normal({2, 8, 5})}, TriangularOptions{upper, transposed, true}});
            }
          samples.push_back({{triangular(g, {}, 1), g.normal({1, 1})}, TriangularOptions{}});
          samples.push_back({{triangular(g, {2}, 0), g.normal({0, 3})}, TriangularOptions{}});
          samples.push_back({{triangular(g, {2}, 2), g.normal({2, 0})}, TriangularOptions{}});
          return samples;
        },
    .errors =
        [] {
          const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape); };
          return ErrorSamples{
              {{zeros({2, 3}), zeros({2, 1})},
               TriangularOptions{},
               "[solve_triangular] expects square matrices, (..., n, n): got (2,3)"},
              {{zeros({2, 2}), zeros({3, 1})},
               TriangularOptions{},
               "right-hand sides must have as many rows as the matrices: (2,2) with (3,1)"},
              {{zeros({2, 2, 2}), zeros({3, 2, 1})}, TriangularOptions{}, "leading axes must broadcast"},
              {{zeros({2, 2}), Tensor::zeros({2, 1}, DType::f64)}, TriangularOptions{}, "f32 with f64"}};
        },
    .edges =
        [] {
          // Good, zero on the diagonal, NaN in the triangle that is read, NaN in the other one.
          return Edges{{{tensor({2.0, nan, 1.0, 4.0, /**/ 0.0, 0.0, 1.0, 1.0, /**/ 1.0, 0.0, nan, 1.0,
                                 /**/ 1.0, nan, 0.0, 1.0},
                                {4, 2, 2}),
                         tensor({2.0, 9.0}, {2, 1})},
                        TriangularOptions{},
                        {tensor({1.0, 2.0, nan, nan, nan, nan, 2.0, 9.0}, {4, 2, 1})}},
                       {{tensor({0.0, 3.0, nan, 0.0}, {2, 2}), tensor({5.0, 1.0}, {2, 1})},
                        TriangularOptions{.upper = true, .unit_diagonal = true},
                        {tensor({2.0, 1.0}, {2, 1})},
                        {tensor({0.0, -1.0, 0.0, 0.0}, {2, 2}), tensor({1.0, -2.0}, {2, 1})}}};
        },
    .rows = broadcast_stack_rows,
}};

// ---- solve_spd --------------------------------------------------------------------------------------------

// Inputs A, its Cholesky factor and B. The factor is only how the equation is solved: derivatives go through
// A, and use it again.
const Op cholesky_solve_op{{
    .name = "cholesky_solve",
    .doc = "X with (A + A^T) / 2 X = B, given the Cholesky factor.",
    .shape = system_shape,
    .kernel =
        [](const KernelContext& c) {
          const std::int64_t n = columns(c.in(0).shape()), k = columns(c.out().shape());
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T* factors = c.in(1).data<T>();
            for_systems<T>(leading(c.in(0).shape()), c.in(2), c.out(), [&](std::int64_t i, T* x) {
              const T* l = factors + i * n * n;
              blas::triangular_solve(false, false, false, n, k, l, x);
              blas::triangular_solve(false, true, false, n, k, l, x);
            });
          });
        },
    .kind = OpKind::implicit,
    .vjp =
        [](const VjpContext& c) {
          const Var b = apply(cholesky_solve_op, {c.in(0), c.in(1), c.cotangent});
          Vars cotangents(3);
          if (c.needs(0))
            cotangents[0] = sum_to(-symmetric_part(matmul(b, c.out, {.transpose_b = true})), c.in(0).shape());
          if (c.needs(2)) cotangents[2] = sum_to(b, c.in(2).shape());
          return cotangents;
        },
    .rows = broadcast_stack_rows,
}};

const Op solve_spd_op{{
    .name = "solve_spd",
    .doc = "X with (A + A^T) / 2 X = B by Cholesky's factorisation; NaN where that is not positive definite.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          return Samples{{{positive_definite(g, {}, 3), g.normal({3, 2})}},
                         {{positive_definite(g, {2, 1}, 3), g.normal({3, 3, 1})}},
                         {{positive_definite(g, {2}, 4), g.normal({4})}},
                         {{positive_definite(g, {}, 8), g.normal({2, 8, 5})}},
                         {{positive_definite(g, {}, 1), g.normal({1})}},
                         {{positive_definite(g, {2}, 0), g.normal({0, 3})}}};
        },
    .errors =
        [] {
          const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape); };
          return ErrorSamples{{{zeros({2, 3}), zeros({2})},
                               {},
                               "[solve_spd] expects square matrices, (..., n, n): got (2,3)"},
                              {{zeros({2, 2}), zeros({3, 1})},
                               {},
                               "right-hand sides must have as many rows as the matrices: (2,2) with (3,1)"},
                              {{zeros({2, 2}), Tensor::zeros({2, 1}, DType::f64)}, {}, "f32 with f64"}};
        },
    .composite =
        [](std::span<const Var> in, const Attrs& attrs) {
          return Vars{with_columns(in[1], [&](const Var& b) {
            system_shape({"solve_spd", std::array{in[0], b}, attrs});
            return apply(cholesky_solve_op, {in[0], cholesky(in[0]), b});
          })};
        },
    .edges =
        [] {
          return Edges{{{tensor({4.0, 2.0, 2.0, 5.0, /**/ 1.0, 2.0, 2.0, 1.0}, {2, 2, 2}), numbers({8, 4})},
                        {},
                        {tensor({2.0, 0.0, nan, nan}, {2, 2})}}};
        },
    .nan = NanRule::somewhere,
}};

}  // namespace

Var cholesky(const Var& a, const CholeskyOptions& options) {
  const Var l = apply(cholesky_op, {a});
  return options.upper ? transpose(l) : l;
}

Var solve_triangular(const Var& a, const Var& b, const TriangularOptions& options) {
  return with_columns(b, [&](const Var& columns) {
    return apply(solve_triangular_op, {a, columns}, options);
  });
}

Var solve_spd(const Var& a, const Var& b) { return apply(solve_spd_op, {a, b}); }

}  // namespace banach
