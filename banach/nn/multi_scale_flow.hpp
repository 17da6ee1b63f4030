#pragma once

#include <banach/nn/flow.hpp>

namespace banach::nn {

/// Half of the channels leaves, the others go on: Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation
/// using Real NVP", section 3.6. It only splits, so log |det| = 0.
struct FactorOut {
  struct Halves {
    Var gone, rest;  ///< the first channels, and the others
  };
  /// x (n,c,...). Throws ShapeError where c is odd.
  Halves forward(const Var& x) const;
  Var inverse(const Halves& y) const;
  void visit(Visitor&) {}
};

/// What leaves a multi-scale flow, and log |det| of each sample.
struct MultiScaleTransformed {
  Vars z;       ///< one part a level: the first half of the channels after each but the last, then all
  Var log_det;  ///< (batch)
};

/// The multi-scale architecture: after each level but the last, half of the channels leave (FactorOut). A
/// level is a flow, say squeeze and then some blocks. All parts together have as many entries as x, and the
/// density of x is the product of those of its parts times |det|.
struct MultiScaleFlow {
  std::vector<AnyFlow> levels;

  /// Throws ValueError unless there is a level.
  explicit MultiScaleFlow(std::vector<AnyFlow> levels);
  /// x (n,c,...). Throws ShapeError where channels that are to be halved are odd in number.
  MultiScaleTransformed forward(const Var& x) const;
  /// Throws ShapeError unless there is one part a level, each fitting what comes from the levels after it.
  Var inverse(const Vars& z) const;
  void visit(Visitor& visitor) { visitor("levels", levels); }
};

}  // namespace banach::nn
