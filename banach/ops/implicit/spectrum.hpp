#pragma once
// The eigenvalues of J = df/dz at a point, which decide whether and how fast z <- f(z) settles there.

#include <banach/ops/implicit/linearized.hpp>
#include <banach/solvers/arnoldi.hpp>

#include <complex>
#include <vector>

namespace banach {

struct SpectrumOptions {
  Batch batch = Batch::axis0;  ///< as in the fixed point: none for one vector, or where f mixes the samples
  int products = 30;           ///< vector-Jacobian products, each for the whole batch
  std::uint64_t seed = 0;      ///< of Arnoldi's start vectors
};

/// Spectral radius of J at z for each problem of the batch, by Arnoldi's method on J^T: f is evaluated once,
/// no matrix is formed. An estimate; see SpectralRadius for its residual. Nothing is recorded. Throws
/// ShapeError if f changes the shape of z, ValueError unless products >= 1.
PoolVector<SpectralRadius> spectral_radius(FunctionRef<Var(const Var&)> f, const Var& z,
                                           const SpectrumOptions& options = {});

/// All eigenvalues of J at z, one list a problem of the batch, by falling magnitude (conjugate pairs
/// together, the positive imaginary part first): n products for J, and LAPACK's geev in f64. NaN for a
/// problem whose J has a NaN or an infinity. Throws ShapeError if f changes the shape of z.
std::vector<std::vector<std::complex<double>>> jacobian_eigenvalues(FunctionRef<Var(const Var&)> f,
                                                                    const Var& z, Batch batch = Batch::axis0);

}  // namespace banach
