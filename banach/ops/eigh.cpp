// Eigenvalues and eigenvectors of symmetric matrices.
#include <banach/engine/blas.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/linalg.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/matrices.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>

#include <cmath>
#include <limits>
#include <utility>

namespace banach {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// 1 or -1, such that the first large entry of sign * v is positive. Not the largest one, nor one of half its
/// magnitude: in the eigenvectors of simple matrices entries tie at those, and rounding would decide.
template <class T>
T canonical_sign(std::int64_t n, const T* v) {
  T largest = 0;
  for (std::int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(v[i]));
  const T* first = std::find_if(v, v + n, [&](T entry) { return std::abs(entry) > T(0.4) * largest; });
  return first != v + n && *first < 0 ? T(-1) : T(1);
}

template <class T>
void decompose(std::int64_t n, const T* a, T* values, T* vectors) {
  PoolVector<T> by_rows(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j)
      by_rows[static_cast<std::size_t>(i * n + j)] = T(0.5) * a[i * n + j] + T(0.5) * a[j * n + i];
  if (blas::symmetric_eigen(n, by_rows.data(), values, true) != 0) {
    std::fill_n(values, n, std::numeric_limits<T>::quiet_NaN());
    std::fill_n(vectors, n * n, std::numeric_limits<T>::quiet_NaN());
    return;
  }
  for (std::int64_t j = 0; j < n; ++j) {
    const T* v = by_rows.data() + j * n;
    const T sign = canonical_sign(n, v);
    for (std::int64_t i = 0; i < n; ++i) vectors[i * n + j] = sign * v[i];
  }
}

// The part of V^T dA V that the cotangent of the vectors asks for: (V^T cotangent)_ij / (w_j - w_i), without
// the diagonal. Where w_i and w_j coincide: 0 if the numerator is exactly that, else NaN.
Var turned(const Var& values, const Var& vectors, const Var& cotangent) {
  const std::int64_t n = values.size(-1);
  const double eps = values.dtype() == DType::f32 ? std::numeric_limits<float>::epsilon()
                                                  : std::numeric_limits<double>::epsilon();
  const Shape lead = leading(vectors.shape());
  const Var numerator = matmul(vectors, cotangent, {.transpose_a = true});
  const Var row = reshape(values, extended(lead, {1, n})), column = reshape(values, extended(lead, {n, 1}));
  const Var gap = row - column;
  const Var largest = max(abs(row), {-1}, true);
  const Var coincide = less_equal(abs(gap), static_cast<double>(n) * eps * largest);
  const Var off_diagonal = 1.0 - Var(Tensor::eye(n, values.dtype()));
  const Var undefined = off_diagonal * not_equal(numerator, 0.0);
  return where(coincide, where(undefined, nan, zeros_like(numerator)), numerator / where(coincide, 1.0, gap));
}

// dw_i = (V^T dA V)_ii and dV = V (F * V^T dA V) with F_ij = 1 / (w_j - w_i), dA symmetric (Giles 2008, "An
// extended collection of matrix derivative results", section 3.1).
Vars eigh_vjp(const VjpContext& c) {
  const Var &values = c.outputs[0], &vectors = c.outputs[1];
  const Var &of_values = c.cotangents[0], &of_vectors = c.cotangents[1];
  if (vectors.size() == 0) return {Var()};
  Var inner;
  if (of_vectors.defined()) inner = turned(values, vectors, of_vectors);
  if (of_values.defined()) {
    const Var on_diagonal = diagonal_matrix(of_values);
    inner = inner.defined() ? inner + on_diagonal : on_diagonal;
  }
  const Var result = matmul(matmul(vectors, inner), vectors, {.transpose_b = true});
  return {0.5 * (result + transpose(result))};
}

// Whether moving v a little leaves canonical_sign as it is.
bool sign_is_clear(const Tensor& q, int j) {
  double largest = 0.0;
  for (std::int64_t i = 0; i < q.size(0); ++i) largest = std::max(largest, std::abs(q.at(i * q.size(1) + j)));
  for (std::int64_t i = 0; i < q.size(0); ++i) {
    const double ratio = std::abs(q.at(i * q.size(1) + j)) / largest;
    if (std::abs(ratio - 0.4) < 0.02) return false;
    if (ratio > 0.4) break;
  }
  return true;
}

// Orthogonal: two reflections.
Tensor eigenvectors_for_samples(SampleGen& g, std::int64_t n) {
  const auto reflection = [&] {
    const Var v = g.normal({n, 1});
    return Var(Tensor::eye(n, DType::f64)) - 2.0 * matmul(v, v, {.transpose_b = true}) / sum(square(v));
  };
  while (true) {
    Tensor q = matmul(reflection(), reflection()).value();
    bool clear = true;
    for (int j = 0; j < n; ++j) clear = clear && sign_is_clear(q, j);
    if (clear) return q;
  }
}

// Eigenvalues about 1 apart, eigenvectors in all directions, and a skew part that must not matter.
Tensor separated(SampleGen& g, const Shape& lead, std::int64_t n) {
  Vars matrices;
  for (std::int64_t k = 0; k < lead.size(); ++k) {
    const Var q = eigenvectors_for_samples(g, n), skewed = g.normal({n, n});
    Tensor ladder = g.uniform({n}, -0.2, 0.2);
    for (std::int64_t i = 0; i < n; ++i) ladder.mutable_data<double>()[i] += static_cast<double>(i - n / 2);
    matrices.push_back(matmul(q * Var(ladder), q, {.transpose_b = true}) + skewed - transpose(skewed));
  }
  return reshape(stack(matrices), extended(lead, {n, n})).value();
}

const Op eigh_op{{
    .name = "eigh",
    .doc = "Eigenvalues, ascending, and eigenvectors, in columns, of (A + A^T) / 2.",
    .kernel =
        [](const KernelContext& c) {
          const std::int64_t n = columns(c.in().shape());
          if (c.in().size() == 0) return;
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T* a = c.in().data<T>();
            T *values = c.out(0).mutable_data<T>(), *vectors = c.out(1).mutable_data<T>();
            for_matrices(c.in().size() / (n * n), 9.0 * cubic(n, n), [&](std::int64_t i) {
              decompose(n, a + i * n * n, values + i * n, vectors + i * n * n);
            });
          });
        },
    .saves = Saves::outputs,
    .vjp = eigh_vjp,
    .samples =
        [](SampleGen& g) {
          return Samples{{{separated(g, {}, 3)}},
                         {{separated(g, {2}, 4)}},
                         {{separated(g, {2, 1}, 2)}},
                         {{separated(g, {}, 6)}},
                         {{g.normal({1, 1})}},
                         {{Tensor::zeros({3, 0, 0}, DType::f64)}},
                         {{Tensor::zeros({0, 2, 2}, DType::f64)}}};
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({2, 3})}, {}, "[eigh] expects square matrices, (..., n, n): got (2,3)"},
              {{Tensor::zeros({3})}, {}, "expects square matrices, (..., n, n): got (3)"},
              {{Tensor::arange(4).reshape({2, 2})}, {}, "expects f32 or f64"}};
        },
    .shapes =
        [](const ShapeContext& c) {
          const std::int64_t n = square_extent(c.op, c.shape());
          const DType dtype = common_floating(c);
          return Specs{{extended(leading(c.shape()), {n}), dtype}, {c.shape(), dtype}};
        },
    .edges =
        [] {
          const double half = std::sqrt(0.5);
          // Signs by the first large entry; a NaN above the diagonal harms its own problem only; equal
          // eigenvalues, whose vectors have no derivative.
          return Edges{{{tensor({1.0, 4.0, 0.0, 1.0}, {2, 2})},
                        {},
                        {numbers({-1, 3}), tensor({half, half, -half, half}, {2, 2})}},
                       {{tensor({1.0, 0.0, 0.0, 2.0, /**/ 1.0, nan, 0.0, 2.0}, {2, 2, 2})},
                        {},
                        {tensor({1.0, 2.0, nan, nan}, {2, 2}),
                         tensor({1.0, 0.0, 0.0, 1.0, /**/ nan, nan, nan, nan}, {2, 2, 2})},
                        {tensor({1.0, 0.0, 0.0, 1.0, /**/ nan, nan, nan, nan}, {2, 2, 2})}},
                       {{tensor({2.0, 0.0, 0.0, 2.0}, {2, 2})},
                        {},
                        {numbers({2, 2}), tensor({1.0, 0.0, 0.0, 1.0}, {2, 2})},
                        {tensor({nan, nan, nan, nan}, {2, 2})}}};
        },
    .nan = NanRule::somewhere,
    .rows = stack_rows,
}};

}  // namespace

Eigh eigh(const Var& a) {
  Vars both = apply_all(eigh_op, {&a, 1});
  return {std::move(both[0]), std::move(both[1])};
}

}  // namespace banach
