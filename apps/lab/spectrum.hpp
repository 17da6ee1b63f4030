#pragma once

#include <vector>

#include <apps/lab/models.hpp>

namespace banach::lab {

/// Spectral radius of J = df/dz at z for each problem of the batch, by Arnoldi's method on J^T (Saad 2011,
/// "Numerical methods for large eigenvalue problems", algorithm 6.1): the largest of the eigenvalues of J^T
/// projected on a Krylov space of `products` dimensions. Exact once that space is invariant; else it comes
/// from below as a rule.
std::vector<double> spectral_radius(const Equation& equation, const Tensor& z, int products = 30);

}  // namespace banach::lab
