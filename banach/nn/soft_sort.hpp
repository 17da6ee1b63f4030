#pragma once
// Isotonic regression, and sorting and ranking made differentiable by it: Blondel, Teboul, Berthet and
// Djolonga 2020, "Fast differentiable sorting and ranking". Each is a quadratic program a row, solved and
// differentiated directly (ops/isotonic.hpp): in the time of a sort, in f32 and f64, to any order. Where
// blocks with equal means meet there are two derivatives, and it is the one of merging them. These functions
// return no report: a row with a NaN or an infinity is NaN, with its derivatives; under Policy::raise it
// throws SolveError.

#include <banach/engine/status.hpp>
#include <banach/engine/tape.hpp>

namespace banach::nn {

/// Rows y (batch, n) or (n) -> argmin over z of 1/2 sum of w_i (z_i - y_i)^2 subject to z_1 <= ... <= z_n,
/// for weights w (n) or (batch, n), 1 if left out. Throws ShapeError, DTypeError; ValueError unless the
/// weights are positive and finite.
Var isotonic(const Var& y, const Var& weights = {}, Policy policy = Policy::report);

struct SoftSortOptions {
  double eps = 1.0;         ///< > 0: the smaller, the closer to the hard sort, and the less is blended
  bool descending = false;  ///< else rising
  Policy policy = Policy::report;
};

/// Rows x (batch, n) or (n), sorted softly: the point of the permutahedron of x (the convex hull of all
/// orders of its entries) nearest to (1, ..., n) / eps (the paper, equation 5 with the quadratic
/// regularisation). Its sum is that of x. It is the hard sort where neighbours in it are at most 1 / eps
/// apart, and the mean in every place for eps -> infinity. Throws ShapeError, DTypeError, and ValueError
/// unless eps is positive in the dtype of x.
Var soft_sort(const Var& x, const SoftSortOptions& options = {});

/// The soft rank of each entry in its row, from 1 (the smallest, or the largest if descending) to n: the
/// point of the permutahedron of (1, ..., n) nearest to x / eps (the paper, equation 6). It is the hard rank
/// where entries are at least eps apart, and (n + 1) / 2 for eps -> infinity. Entries that are equal have
/// equal ranks, to the last bit. Throws as soft_sort.
Var soft_rank(const Var& x, const SoftSortOptions& options = {});

}  // namespace banach::nn
