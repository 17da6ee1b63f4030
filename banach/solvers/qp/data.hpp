#pragma once
// Internal: a problem, points, the memory that they live in, and products with them.

#include <banach/solvers/qp/numbers.hpp>

namespace banach::qp {
namespace {

/// The first `bounds` rows of G have one entry each, in the columns named; their coefficients are `bound`.
template <class N>
struct Data {
  Index n, e, m, bounds;
  const Index* column;
  N *Q, *p, *A, *b, *bound, *G, *h;  // G: the other rows

  Index rows() const { return m - bounds; }
};

template <class N>
struct Point {
  N *x, *y, *z, *s;
};

/// Memory handed out in one direction.
template <class N>
struct Arena {
  N* next;
  N* take(Index count) {
    N* result = next;
    next += count;
    return result;
  }
  Point<N> point(const Data<N>& d) { return {take(d.n), take(d.e), take(d.m), take(d.m)}; }
};

// ---- Products ---------------------------------------------------------------------------------------------

template <class N>
void copy(const N* from, N* to, Index n) {
  for (Index i = 0; i < n; ++i) to[i] = from[i];
}
template <class N>
void negate(const N* from, N* to, Index n) {
  for (Index i = 0; i < n; ++i) to[i] = -from[i];
}
template <class N>
void add(const N* from, N* to, Index n, N factor) {
  for (Index i = 0; i < n; ++i) to[i] += factor * from[i];
}
template <class N>
N largest(const N* v, Index n) {
  N result = number<N>(0.0);
  for (Index i = 0; i < n; ++i) result = larger(result, magnitude(v[i]));
  return result;
}
template <class N>
N dot(const N* a, const N* b, Index n) {
  N result = number<N>(0.0);
  for (Index i = 0; i < n; ++i) result += a[i] * b[i];
  return result;
}

/// y -= G x
template <class N, class M>
void subtract_g(const Data<N>& d, const N* x, N* y) {
  for (Index i = 0; i < d.bounds; ++i) y[i] -= d.bound[i] * x[d.column[i]];
  M::subtract(d.rows(), d.n, d.G, x, y + d.bounds);
}
/// y -= G' x
template <class N, class M>
void subtract_gt(const Data<N>& d, const N* x, N* y) {
  for (Index i = 0; i < d.bounds; ++i) y[d.column[i]] -= d.bound[i] * x[i];
  M::subtract_transposed(d.rows(), d.n, d.G, x + d.bounds, y);
}

}  // namespace
}  // namespace banach::qp
