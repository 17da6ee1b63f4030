#pragma once
// Layers whose output is the solution of a quadratic program with learned parts: Amos and Kolter 2017,
// "OptNet: differentiable optimization as a layer in neural networks".

#include <banach/engine/random.hpp>
#include <banach/nn/module.hpp>
#include <banach/ops/implicit/qp.hpp>

#include <cstdint>
#include <optional>

namespace banach::nn {

struct OptNetOptions {
  std::int64_t inequalities = 0;  ///< rows of a learned G
  std::int64_t equalities = 0;    ///< rows of a learned A
  bool nonnegative = false;       ///< z >= 0 as well
  bool learn_Q = true;            ///< Q = L L' + eps I with a learned L; otherwise it stays eps I
  double eps = 1e-4;              ///< > 0
  QpSolveOptions solve = {};
  DType dtype = DType::f32;
};

/// x (batch, n) -> argmin over z of 1/2 z'Qz - x'z subject to Gz <= h, Az = b and, if asked for, z >= 0.
/// Whatever the parameters are, there is one solution: Q is positive definite, and z0 satisfies the
/// constraints, as h = G z0 + exp(log_s0) and b = A z0 (the paper, section 3.2); where z >= 0 is asked for,
/// z0 is exp(log_z0). What is not asked for is absent; a part that shall stay as it is can be frozen.
///
/// The layer for Sudoku in the paper's section 4.4: {.equalities = 40, .nonnegative = true, .learn_Q = false,
/// .eps = 0.1}, with n = 64.
struct OptNet {
  std::optional<Parameter> L;           ///< (n,n), of which the lower triangle counts; starts at I
  std::optional<Parameter> G;           ///< (inequalities,n); rows start with a length of about 1
  std::optional<Parameter> log_s0;      ///< (inequalities), slacks at z0; starts at 0
  std::optional<Parameter> A;           ///< (equalities,n); starts uniform on [0, 1)
  std::optional<Parameter> z0, log_z0;  ///< (n), at most one of them; starts at 0
  std::int64_t features;                ///< n
  bool nonnegative;
  double eps;
  QpSolveOptions solve;

  /// Throws ValueError unless n is at least 1, the counts of rows at least 0 and eps positive.
  OptNet(std::int64_t n, Random& random, const OptNetOptions& options = {});
  /// Of x (n) the result is (n). Throws ShapeError for other shapes, DTypeError for another dtype.
  QpSolved operator()(const Var& x) const;
  /// The program for the linear term p (batch, n) or (n), to be changed as you like before it is solved. With
  /// nonnegative, the first n inequalities are -z <= 0.
  QpParameters problem(const Var& p) const;
  void visit(Visitor& visitor) {
    visitor("L", L)("G", G)("log_s0", log_s0)("A", A)("z0", z0)("log_z0", log_z0);
  }
};

}  // namespace banach::nn
