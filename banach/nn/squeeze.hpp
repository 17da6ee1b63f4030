#pragma once

#include <banach/nn/flow.hpp>

namespace banach::nn {

/// Invertible down-sampling: each square of factor x factor pixels becomes as many channels, (n,c,h,w) ->
/// (n, c factor^2, h / factor, w / factor); entries only move, so log |det| = 0. Dinh, Sohl-Dickstein and
/// Bengio 2017, "Density estimation using Real NVP", section 3.6; Jacobsen, Smeulders and Oyallon 2018,
/// "i-RevNet", section 3.2. Channel (c factor + i) factor + j of the result holds row i and column j of each
/// square of channel c.
struct Squeeze {
  std::int64_t factor;

  /// Throws ValueError unless factor >= 1.
  explicit Squeeze(std::int64_t factor = 2);
  /// Throws ShapeError unless x is (n,c,h,w) and factor divides h and w.
  Transformed forward(const Var& x) const;
  /// Throws ShapeError unless y is (n,c,h,w) and factor^2 divides c.
  Var inverse(const Var& y) const;
  void visit(Visitor&) {}
};

}  // namespace banach::nn
