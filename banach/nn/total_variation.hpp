#pragma once

#include <banach/nn/module.hpp>
#include <banach/ops/implicit/qp.hpp>

#include <cstdint>

namespace banach::nn {

struct TotalVariationOptions {
  double lambda = 1.0;   ///< at the start; > 0
  bool learn_D = false;  ///< otherwise D is frozen
  QpSolveOptions solve = {};
  DType dtype = DType::f32;
};

/// Signals y (batch, n) -> argmin over z of 1/2 |y - z|^2 + lambda |D z|_1, with a learned lambda and D the
/// first differences, unless it is learned too (Rudin, Osher and Fatemi 1992; Amos and Kolter 2017, section
/// 4.3).
///
/// Solved in its dual, z = y - D'w with w = argmin 1/2 |y - D'w|^2 subject to |w| <= lambda: its solution is
/// regular where pieces of z are constant, which is everywhere, whereas the primal problem with a slack for
/// each side of |Dz| is degenerate there. Status and gradient status are those of the dual; where a piece is
/// just about to part (Dz = 0 and |w| = lambda), the gradient is non_differentiable, and that of the piece.
struct TotalVariation {
  Parameter D;  ///< (n-1,n) at first; any number of rows
  /// (1); or, put here by the user, (2 rows of D): those of w <= lambda, then those of -w <= lambda.
  Parameter log_lambda;
  QpSolveOptions solve;

  struct Output {
    Var z;  ///< (batch, n)
    Var w;  ///< (batch, rows of D): where Dz is not 0, lambda times its sign
    QpReport report;
    AdjointLog adjoint;
  };

  /// Throws ValueError unless n is at least 2 and lambda positive.
  explicit TotalVariation(std::int64_t n, const TotalVariationOptions& options = {});
  /// Of y (n) the result is (n). Throws ShapeError for other shapes, DTypeError for another dtype.
  Output operator()(const Var& y) const;
  void visit(Visitor& visitor) { visitor("D", D)("log_lambda", log_lambda); }
};

}  // namespace banach::nn
