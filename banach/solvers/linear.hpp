#pragma once
// Solving x = M x + b, one system a sample, for the adjoint equation lambda = J^T lambda + g.
//
// Statuses, with r = M x + b - x: converged if ||r|| <= tolerance ||b||, or if r is at rounding level
// (||r|| <= sqrt(eps) ||b|| and ||r|| <= eps ((||M|| + 1) ||x|| + ||b||), or 4 times that where it cannot be
// reduced further; for ||M|| stands the largest ||M v|| / ||v|| seen); singular if I - M is, to rounding, and
// r cannot be reduced; indefinite (of Cg only) if it is not positive definite; stagnated if r cannot be
// reduced for another reason; non_finite if b or a product has a NaN or an infinity; max_steps if the
// products were spent first. The answer is the iterate of smallest residual, x = 0 if there is none.

#include <banach/solvers/fixed_point.hpp>

namespace banach {

/// GMRES (Saad and Schultz 1986) on (I - M) x = b, restarted, one Krylov space a sample; all samples share
/// the applications of M.
struct Gmres {
  int restart = 30;
  int max_steps = 300;      ///< applications of M, those that check a residual included
  double tolerance = 1e-6;  ///< on ||b + M x - x|| / ||b||
  static constexpr std::string_view name = "gmres";
};

/// BiCGStab (van der Vorst 1992) on (I - M) x = b, with the larger stabilising step of Sleijpen and van der
/// Vorst (1995), so that it also serves matrices near to skew-symmetric ones. Memory does not grow with the
/// number of steps. After a breakdown, or where the true residual lags behind the recurrent one, it starts
/// again from its best iterate; if that does not help, with a random shadow residual.
struct BiCgStab {
  int max_steps = 300;      ///< applications of M (two a step), those that check a residual included
  double tolerance = 1e-6;  ///< on ||b + M x - x|| / ||b||
  static constexpr std::string_view name = "bicgstab";
};

/// Conjugate gradients (Hestenes and Stiefel 1952) for a symmetric positive definite I - M. A direction p
/// with p^T (I - M) p < 0 ends a solve that has not converged by then with `indefinite`. Symmetry is not
/// checked; where it is missing, the solve stagnates: converged means the true residual here too.
struct Cg {
  int max_steps = 300;      ///< applications of M, those that check a residual included
  double tolerance = 1e-6;  ///< on ||b + M x - x|| / ||b||
  static constexpr std::string_view name = "cg";
};

/// The n x n matrix of each sample from n applications of M, and an LU factorisation in f64 (LAPACK). For
/// small n. A singular system (reciprocal condition number below max(n eps of f64, eps of the data)) is
/// answered by its least-squares solution of least norm. There is no tolerance: converged means ||r|| <=
/// sqrt(eps) ||b||.
struct Dense {
  static constexpr std::string_view name = "dense";
};

/// x <- M x + b by a fixed-point solver, from x = b. The statuses are those of the fixed point, for b scaled
/// to length 1.
struct Iterative {
  static constexpr std::string_view name = "iterative";
  Solver solver = Picard{};
  int max_steps = 300;
  double tolerance = 1e-6;  ///< on ||b + M x - x|| / ||b||
};

struct LinearSolution {
  Tensor x;  ///< (batch, n)
  PoolVector<Status> status;
  PoolVector<double> residual;   ///< ||b + M x - x||_2 / ||b||_2 for each sample (0 for b = 0)
  int evaluations = 0;           ///< applications of M, to the whole batch
  PoolVector<int> applications;  ///< of M until each sample had its answer
};

/// Throw ValueError for an option outside its domain, as the solves do.
void check(const Gmres& solver);
void check(const BiCgStab& solver);
void check(const Cg& solver);
void check(const Dense& solver);
void check(const Iterative& solver);

LinearSolution solve_linear(const Gmres& solver, const StateMap& apply, const Tensor& b);
LinearSolution solve_linear(const BiCgStab& solver, const StateMap& apply, const Tensor& b);
LinearSolution solve_linear(const Cg& solver, const StateMap& apply, const Tensor& b);
LinearSolution solve_linear(const Dense& solver, const StateMap& apply, const Tensor& b);
LinearSolution solve_linear(const Iterative& solver, const StateMap& apply, const Tensor& b);

}  // namespace banach
