#pragma once
// The largest eigenvalue of a map's matrix, from products with it.

#include <banach/solvers/fixed_point.hpp>

#include <complex>

namespace banach {

struct ArnoldiOptions {
  int products = 30;       ///< dimension of the Krylov space; at most n are taken
  std::uint64_t seed = 0;  ///< of the start vectors
};

/// What a Krylov space shows of one matrix.
struct SpectralRadius {
  /// The Ritz value of largest magnitude, that of a conjugate pair with imaginary part >= 0. NaN if a product
  /// was not finite.
  std::complex<double> eigenvalue;
  /// ||M v - eigenvalue v|| / |eigenvalue| for its Ritz vector v of length 1 (not divided if the eigenvalue
  /// is 0); 0 once the space is invariant, and then the eigenvalue is that of M to rounding. For a normal
  /// matrix this bounds the relative distance to an eigenvalue; for others it only says how far to trust the
  /// estimate.
  double residual = 0.0;
  int products = 0;

  double radius() const { return std::abs(eigenvalue); }
  /// Iterating z <- f(z) with such a Jacobian moves away from z.
  bool unstable() const { return radius() > 1.0; }
};

/// Arnoldi's method (Saad 2011, "Numerical methods for large eigenvalue problems", algorithm 6.2) for the
/// matrices M of `batch` samples of n entries each: apply maps (batch, n) of the dtype to M times it. The
/// largest Ritz value comes from below as a rule, most closely if it stands alone in magnitude; all of them
/// are exact once the space is invariant, at n products at the latest. Each sample has a start vector of its
/// own, which depends on the seed and its index only. Memory: `products` vectors a sample. Throws ValueError
/// unless products >= 1.
PoolVector<SpectralRadius> arnoldi_spectral_radius(const StateMap& apply, std::int64_t batch, std::int64_t n,
                                                   DType dtype, const ArnoldiOptions& options = {});

}  // namespace banach
