#pragma once
// Solving x = M x + b, one system a sample, for the adjoint equation lambda = J^T lambda + g.

#include <banach/solvers/fixed_point.hpp>

namespace banach {

/// GMRES (Saad and Schultz 1986) on (I - M) x = b, restarted, one Krylov space a sample; all samples share the
/// applications of M.
struct Gmres {
  int restart = 30;
  int max_steps = 300;      ///< applications of M
  double tolerance = 1e-6;  ///< on ||b + M x - x|| / ||b||
  static constexpr std::string_view name = "gmres";
};

/// The n x n matrix of each sample from n applications of M, and an LU factorisation (LAPACK). For small n.
struct Dense {
  static constexpr std::string_view name = "dense";
};

/// x <- M x + b by a fixed-point solver.
struct Iterative {
  Solver solver = Picard{};
  int max_steps = 300;
  double tolerance = 1e-6;  ///< on ||b + M x - x|| / ||b||
};

struct LinearSolution {
  Tensor x;  ///< (batch, n)
  PoolVector<Status> status;
  PoolVector<double> residual;  ///< ||b + M x - x||_2 / ||b||_2 for each sample (0 for b = 0)
  int evaluations = 0;          ///< applications of M
};

LinearSolution solve_linear(const Gmres& solver, const StateMap& apply, const Tensor& b);
LinearSolution solve_linear(const Dense& solver, const StateMap& apply, const Tensor& b);
LinearSolution solve_linear(const Iterative& solver, const StateMap& apply, const Tensor& b);

}  // namespace banach
