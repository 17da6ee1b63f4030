#pragma once

#include <banach/nn/flow.hpp>

namespace banach::nn {

/// y = log(s / (1 - s)) of s = alpha + (1 - 2 alpha) x, for x in [0, 1], of any shape: data in a box become
/// data on the whole line. log |det| is the sum of log(1 - 2 alpha) - log s - log(1 - s). Dinh,
/// Sohl-Dickstein and Bengio 2017, "Density estimation using Real NVP", section 4.1. With alpha = 0 the ends
/// of the box go to infinity; x outside of [-alpha, 1 - alpha] / (1 - 2 alpha), roughly, gives NaN.
struct LogitTransform {
  double alpha;

  /// Throws ValueError unless alpha lies in [0, 1/2).
  explicit LogitTransform(double alpha = 0.05);
  /// Throws ShapeError for a scalar.
  Transformed forward(const Var& x) const;
  Var inverse(const Var& y) const;
  void visit(Visitor&) {}
};

}  // namespace banach::nn
