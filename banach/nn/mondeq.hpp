#pragma once

#include <banach/nn/linear.hpp>
#include <banach/ops/implicit/monotone.hpp>

namespace banach::nn {

struct MonDeqOptions {
  double monotonicity = 0.1;  ///< m > 0: I - W is strongly monotone with it, whatever A and B are
  MonotoneOptions solve = {};
  DType dtype = DType::f32;
};

/// The monotone equilibrium layer: x (batch, in) -> z (batch, out) with z = relu(z W^T + U x + b) and
/// W = (1 - m) I - A^T A + B - B^T (Winston and Kolter 2020, "Monotone operator equilibrium networks",
/// proposition 1 and eq. 8): every W with I - W >= m I has such a form, and every such form has a unique
/// equilibrium. A and B are unconstrained.
struct MonDeq {
  Parameter A, B;  ///< (out,out)
  Linear inject;   ///< U and b
  double monotonicity;
  MonotoneOptions solve;

  /// Throws ValueError unless the features are at least 1 and the monotonicity is positive.
  MonDeq(std::int64_t in, std::int64_t out, Random& random, const MonDeqOptions& options = {});
  /// W (out,out).
  Var weight() const;
  ImplicitSolution operator()(const Var& x) const { return monotone_fixed_point(weight(), inject(x), solve); }
  void visit(Visitor& visitor) { visitor("A", A)("B", B)("inject", inject); }
};

}  // namespace banach::nn
