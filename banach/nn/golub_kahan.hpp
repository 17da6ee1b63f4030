#pragma once
// The largest singular value of a map by Krylov spaces, which find it in a fraction of power iteration's
// steps where others lie close to it, as those of convolutions do.

#include <banach/nn/induced_norm.hpp>

namespace banach::nn {

struct GolubKahanOptions {
  int max_steps = 1000;     ///< products with A, and as many with A^T
  double tolerance = 1e-6;  ///< relative change of the two largest values in a step at which it ends
  int dimension = 16;       ///< of the Krylov space after which it starts again from the best vector in it
};

/// Largest singular value of A(w) with its unit vectors, A right = value left but for the tolerance: Golub
/// and Kahan 1965, "Calculating the singular values and pseudo-inverse of a matrix", section 4, with full
/// orthogonalisation. Never above the true value. `start` (of the map's input shape) must hold something of
/// the wanted direction. A value of 0 or one that is not finite comes with vectors that mean nothing.
NormingPair golub_kahan(const WeightedMap& map, const Tensor& w, const Tensor& start,
                        const GolubKahanOptions& options = {});

}  // namespace banach::nn
