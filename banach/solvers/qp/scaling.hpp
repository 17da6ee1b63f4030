#pragma once
// Internal: the units that a problem is solved in.

#include <banach/solvers/qp/data.hpp>

#include <initializer_list>

namespace banach::qp {
namespace {

/// x = D x', y = E y' / c and so on, where primes are what is solved. Powers of two, so that nothing is
/// rounded.
template <class N>
struct Scaling {
  N *D, *E, *F;  // of columns, rows of A, rows of G
  N c;

  static Index size(Index n, Index e, Index m) { return n + e + m; }
  void place(const Data<N>& d, Arena<N>& arena) {
    D = arena.take(d.n), E = arena.take(d.e), F = arena.take(d.m);
    for (Index i = 0; i < d.n + d.e + d.m; ++i) D[i] = number<N>(1.0);
    c = number<N>(1.0);
  }
};

/// 1 / sqrt(x), as a power of two; 1 where x is between 1/4 and 8, or 0.
template <class N>
N balancing(N x) {
  const N one = number<N>(1.0);
  const auto fine = ((x >= number<N>(0.25)) & (x <= number<N>(8.0))) | !(x > number<N>(0.0));
  N root = square_root(select(fine, one, smaller(larger(x, number<N>(1e-16)), number<N>(1e16))));
  N power = one;
  constexpr double steps[] = {65536.0, 256.0, 16.0, 4.0, 2.0};
  for (const double step : steps) {
    const N up = number<N>(step), down = number<N>(1.0 / step);
    for (int twice = 0; twice < 2; ++twice) {
      const auto large = root >= up, small = root <= down;
      power = select(large, power * down, select(small, power * up, power));
      root = select(large, root * down, select(small, root * up, root));
    }
  }
  return select(fine, one, power);
}

/// The power of two that brings x into [1, 2); 1 where x is between `least` and `most`, or 0, or not finite.
template <class N>
N normalising(N x, double least, double most) {
  const N one = number<N>(1.0);
  const auto as_given =
      ((x >= number<N>(least)) & (x <= number<N>(most))) | !(x > number<N>(0.0)) | !finite(x);
  const N power = inverse_power(smaller(larger(x, number<N>(1e-290)), number<N>(1e290)));
  return select(as_given, one, power);
}

/// Of x, to be expected where rows and columns are near to 1: what the right-hand sides enforce, and as far
/// as the objective pulls and they let it (if it pulls without end, and they enforce nothing). 0 if there is
/// nothing to tell by: right-hand sides that are tiny beside the pull, or at all, may be rounding of others.
/// An h far beyond its row's entries is there only where the solution is as far, or was not found without: a
/// linear program's is then as far as the least of them.
template <class N>
N expected_size(const Data<N>& d, N curvature, N pull) {
  const N zero = number<N>(0.0), far = number<N>(1e300);
  N enforced = largest(d.b, d.e), room = d.m > 0 ? zero : far, beyond = far;
  for (Index i = 0; i < d.m; ++i) {
    const N h = select(finite(d.h[i]), d.h[i], zero);
    enforced = larger(enforced, -h), room = larger(room, magnitude(h));
    beyond = select(h > number<N>(1e6), smaller(beyond, h), beyond);
  }
  const N reach = select(curvature > zero, pull / curvature, far);
  const N allowed = select(room > zero, smaller(reach, room), zero);
  N size = select((reach < far) | !(enforced > zero), larger(enforced, allowed), enforced);
  size = select(size > number<N>(1e-10) * smaller(reach, number<N>(1e-4)), size, reach);
  size = select((beyond < far) & !(reach < far), larger(size, beyond), size);
  return select(size < far, size, zero);
}

/// Columns by `by.x`, rows of A by `by.y`, those of G by `by.z`.
template <class N>
void scale(Data<N>& d, Scaling<N>& s, const Point<N>& by) {
  const auto matrix = [&](Index rows, N* entries, const N* row) {
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < d.n; ++j) entries[i * d.n + j] *= row[i] * by.x[j];
  };
  matrix(d.n, d.Q, by.x), matrix(d.e, d.A, by.y), matrix(d.rows(), d.G, by.z + d.bounds);
  for (Index i = 0; i < d.bounds; ++i) d.bound[i] *= by.z[i] * by.x[d.column[i]];
  for (Index j = 0; j < d.n; ++j) d.p[j] *= by.x[j], s.D[j] *= by.x[j];
  for (Index i = 0; i < d.e; ++i) d.b[i] *= by.y[i], s.E[i] *= by.y[i];
  for (Index i = 0; i < d.m; ++i) d.h[i] *= by.z[i], s.F[i] *= by.z[i];
}

/// The largest entries of columns (bounds left out) and of rows.
template <class N>
void largest_entries(const Data<N>& d, const Point<N>& most) {
  const N zero = number<N>(0.0);
  for (Index j = 0; j < d.n; ++j) most.x[j] = zero;
  const auto scan = [&](Index rows, const N* matrix, N* row) {
    for (Index i = 0; i < rows; ++i) {
      N largest = zero;
      for (Index j = 0; j < d.n; ++j) {
        const N entry = magnitude(matrix[i * d.n + j]);
        largest = larger(largest, entry);
        most.x[j] = larger(most.x[j], entry);
      }
      if (row) row[i] = largest;
    }
  };
  scan(d.n, d.Q, nullptr), scan(d.e, d.A, most.y), scan(d.rows(), d.G, most.z + d.bounds);
  for (Index i = 0; i < d.bounds; ++i) most.z[i] = magnitude(d.bound[i]);
}

/// Whether some row or column is in units of its own: by what largest_entries found.
template <class N>
Mask<N> units_differ(const Data<N>& d, const Point<N>& most) {
  const N zero = number<N>(0.0), far = number<N>(0x1p20), near = number<N>(0x1p-20);
  auto differ = zero != zero;
  for (Index i = 0; i < d.n + d.e + d.m; ++i)  // x, y and z lie side by side
    differ = differ | (most.x[i] > far) | ((most.x[i] > zero) & (most.x[i] < near));
  return differ;
}

/// Curtis, Reid 1972: units in which the logarithms of all entries have the least sum of squares, so that
/// problems that differ in the units of rows and columns only become nearly the same. Q's diagonal and p take
/// part as one more row, in the objective's unit, which is returned: p is all that tells of columns that
/// stand only in bounds, or that are alone in Q. By turns: rows, then columns. A row with one entry (and so
/// any bound) tells nothing about its column.
template <class N>
N common_units(const Data<N>& d, const Point<N>& by, N* sum, N* weight) {
  const N zero = number<N>(0.0), one = number<N>(1.0), two = number<N>(2.0);
  N objective = zero;
  N* const x = by.x;  // logarithms, until the end
  for (Index j = 0; j < d.n; ++j) x[j] = zero;
  for (int turn = 0;; ++turn) {
    for (Index j = 0; j < d.n; ++j) sum[j] = weight[j] = zero;
    struct Entries {
      const N* first;
      Index stride;
      N power;  // of the columns' units in each entry
    };
    const auto level = [&](std::initializer_list<Entries> row) {
      N total = zero, count = zero;
      for (const auto& [first, stride, power] : row)
        for (Index j = 0; j < d.n; ++j) {
          const auto there = first[j * stride] != zero;
          total += select(there, exponent(first[j * stride]) + power * x[j], zero);
          count += select(there, one, zero);
        }
      const N unit = -total / larger(count, one);
      for (const auto& [first, stride, power] : row)
        for (Index j = 0; j < d.n; ++j) {
          const N w = select((first[j * stride] != zero) & (count > one), power, zero);
          sum[j] += w * (exponent(first[j * stride]) + unit), weight[j] += w * power;
        }
      return unit;
    };
    objective = level({{d.Q, d.n + 1, two}, {d.p, 1, one}});
    for (Index i = 0; i < d.e; ++i) by.y[i] = level({{d.A + i * d.n, 1, one}});
    for (Index i = 0; i < d.rows(); ++i) by.z[d.bounds + i] = level({{d.G + i * d.n, 1, one}});
    if (turn == 20) break;
    for (Index j = 0; j < d.n; ++j) x[j] = -sum[j] / larger(weight[j], one);
  }
  for (Index i = 0; i < d.bounds; ++i)
    by.z[i] = select(d.bound[i] != zero, -exponent(d.bound[i]) - x[d.column[i]], zero);
  for (Index i = 0; i < d.n + d.e + d.m; ++i) x[i] = power_of_two(x[i]);
  return power_of_two(objective);
}

/// Rows and columns are brought near to 1: where units differ, by those in common; then by their largest
/// entries, by turns (Ruiz 2001). Then x and the objective, which changes nothing in A and G. Rows of G
/// without an entry come with h infinite, which becomes 1. `by`, `sum` and `weight` are overwritten.
template <class N>
void equilibrate(Data<N>& d, Scaling<N>& s, const Point<N>& by, N* sum, N* weight) {
  const N zero = number<N>(0.0), one = number<N>(1.0);
  largest_entries(d, by);
  if (const auto differ = units_differ(d, by); any(differ)) {
    s.c = select(differ, common_units(d, by, sum, weight), one);
    for (Index i = 0; i < d.n + d.e + d.m; ++i) by.x[i] = select(differ, by.x[i], one);
    scale(d, s, by);
    for (Index i = 0; i < d.n * d.n; ++i) d.Q[i] *= s.c;
    for (Index j = 0; j < d.n; ++j) d.p[j] *= s.c;
    largest_entries(d, by);
  }
  for (int round = 0; round < 10; ++round) {
    for (Index i = 0; i < d.bounds; ++i) by.x[d.column[i]] = larger(by.x[d.column[i]], by.z[i]);
    bool more = false;
    for (Index i = 0; i < d.n + d.e + d.m; ++i) {
      by.x[i] = balancing(by.x[i]);
      more = more || any(by.x[i] != one);
    }
    if (!more) break;
    scale(d, s, by);
    largest_entries(d, by);
  }
  N mean = zero;
  for (Index i = 0; i < d.n; ++i) mean += largest(d.Q + i * d.n, d.n);
  mean /= number<N>(d.n > 0 ? static_cast<double>(d.n) : 1.0);
  const N pull = largest(d.p, d.n),
          smaller_by = normalising(expected_size(d, mean, pull), 1.0 / 16.0, 65536.0),
          by_size = one / smaller_by;
  const N size = larger(mean * by_size * by_size, pull * by_size);
  N c = balancing(size * size);
  c *= normalising(size * c, 0.125, 8.0);
  s.c *= c;
  for (Index i = 0; i < d.n * d.n; ++i) d.Q[i] *= c * by_size * by_size;
  for (Index j = 0; j < d.n; ++j) d.p[j] *= c * by_size, s.D[j] *= by_size;
  for (Index i = 0; i < d.e; ++i) d.b[i] *= smaller_by, s.E[i] *= smaller_by;
  for (Index i = 0; i < d.m; ++i) {
    d.h[i] = select(finite(d.h[i]), d.h[i] * smaller_by, one);
    s.F[i] *= smaller_by;
  }
}

}  // namespace
}  // namespace banach::qp
