#pragma once
// Operator splitting for the monotone equilibrium z = relu(z W^T + c), one sample a row: Winston and Kolter
// 2020, "Monotone operator equilibrium networks". Where I - W is strongly monotone, z'(I - W) z >= m ||z||^2
// with m > 0, the equilibrium exists, is unique, and both methods find it from any start, however large W is
// (Picard's iteration may diverge).

#include <banach/solvers/fixed_point.hpp>

#include <optional>
#include <variant>

namespace banach {

/// z <- relu(z + step (z W^T + c - z)) (theorem 1 and algorithm 1 there). Converges for step < 2 m / L^2, L
/// being the 2-norm of I - W.
struct ForwardBackward {
  std::optional<double> step = {};  ///< unless given, m / L^2, by an eigenvalue and a singular value problem
  static constexpr std::string_view name = "forward_backward";
};

/// u <- 2 v - (2 z - u), z = relu(u), where v solves (I + step (I - W)) v = 2 z - u + step c (algorithm 2
/// there); its matrix is inverted once a solve. Converges for any positive step, mostly in fewer iterations.
struct PeacemanRachford {
  double step = 1.0;
  static constexpr std::string_view name = "peaceman_rachford";
};

using Splitting = std::variant<ForwardBackward, PeacemanRachford>;

/// Solves z = relu(z W^T + c) from z0. W is (n, n), c and z0 are (batch, n), of one dtype. Residuals are
/// those of the equilibrium itself, ||relu(z W^T + c) - z||. Throws ShapeError or DTypeError for what does
/// not fit, ValueError for a step that is not positive, or where ForwardBackward is to choose one and I - W
/// is not strongly monotone.
FixedPointSolution solve_splitting(const Splitting& splitting, const Tensor& W, const Tensor& c,
                                   const Tensor& z0, const StopOptions& options);

}  // namespace banach
