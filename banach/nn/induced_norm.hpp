#pragma once
// Norms of linear maps, ||A|| = max ||A x||_q over ||x||_p = 1: estimates from below that are attained at an
// x, and bounds from above that hold for certain. For p = q = 2 see power_iteration.hpp and
// singular_bound.hpp.

#include <banach/engine/parallel.hpp>
#include <banach/engine/var.hpp>

namespace banach::nn {

/// The norms of a map's input and output, each from 1 to infinity.
struct InducedNorm {
  double p = 2.0, q = 2.0;
  bool spectral() const { return p == 2.0 && q == 2.0; }
};

/// A linear map A(w) in whose matrix each place holds an entry of w, or 0: products and convolutions. It
/// refers to callables and must not outlive them.
struct WeightedMap {
  using Map = FunctionRef<Var(const Var& w, const Var& x)>;
  Shape input, output;
  Map apply;       ///< A(w) x, of shape `output`
  Map transposed;  ///< A(w)^T y, of shape `input`
};

/// Where a norm is attained: ||right||_p = 1, ||left||_q* = 1 with 1/q + 1/q* = 1, and left^T A right =
/// ||A right||_q = value.
struct NormingPair {
  double value = 0.0;
  Tensor left, right;
};

struct NormingOptions {
  int max_steps = 1000;
  double tolerance = 1e-6;  ///< relative change of the value in a step at which it ends
};

/// The induced norm of A(w). Exact for p = 1 (the column of largest q-norm) and for q = infinity (the row of
/// largest norm conjugate to p). Else by Boyd 1974, "The power method for l^p norms": from `start` and from
/// the best column it goes uphill, step by step, and the larger result is returned. That is the norm if A has
/// no negative entries and p >= q; for any A it is a lower bound, a stationary point that need not be the
/// maximum (finding that is NP-hard in general). For p = q = 2 only an A^T A that fixes neither start hides
/// the maximum. Throws ValueError for p or q below 1, and for p = 1 with q = infinity.
NormingPair induced_norm(const WeightedMap& map, const Tensor& w, const InducedNorm& norm,
                         const Tensor& start, const NormingOptions& options = {});

/// An upper bound of the induced norm of A(w), certain but for the last bits: the smallest of
/// - ||(r_i)||_q, r_i being the norm of row i conjugate to p, and ||(c_j)||_p*, c_j the q-norm of column j
///   (Hoelder; exact for q = infinity and for p = 1);
/// - for p = q, ||A||_1^(1/p) ||A||_inf^(1-1/p) (Riesz and Thorin; for p = 2 that of Schur);
/// - `spectral`, a bound of the largest singular value, times what the norms cost each other: n^(1/2-1/p) for
///   p > 2 on n inputs, m^(1/q-1/2) for q < 2 on m outputs.
double induced_norm_bound(const WeightedMap& map, const Tensor& w, const InducedNorm& norm, double spectral);

/// Throws ValueError, worded for `name`, unless p and q are at least 1, and not 1 and infinity.
void check_norm(std::string_view name, const InducedNorm& norm);

}  // namespace banach::nn
