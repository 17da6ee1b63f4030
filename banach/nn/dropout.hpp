#pragma once

#include <banach/nn/module.hpp>
#include <banach/ops/dropout.hpp>

namespace banach::nn {

/// One mask of a Dropout layer: drops the same places at each call.
struct DropoutMask {
  double p;  ///< 0 in evaluation: nothing is dropped
  RandomState state;
  Var operator()(const Var& x) const { return p == 0.0 ? x : dropout(x, p, state); }
};

/// Drops elements with probability p in training, see banach::dropout; the identity in evaluation. Each call
/// draws another mask; the masks are decided by the seed and the number of those drawn before, both of which
/// a checkpoint keeps.
///
/// Inside a fixed point draw one mask for the whole solve, or there is nothing to converge to (Gal and
/// Ghahramani 2016, "A theoretically grounded application of dropout in recurrent neural networks", section
/// 4: the same mask at every step):
///
///   const auto drop = dropout.mask();
///   fixed_point([&](const Var& z) { return tanh(drop(recur(z)) + u); }, z0, options);
struct Dropout {
  double p;
  Mode mode;
  mutable Buffer generator;  ///< i64 (2): seed and number of masks drawn

  /// Throws ValueError unless p lies in [0, 1).
  Dropout(double p, Random& random);
  /// The next mask.
  DropoutMask mask() const;
  Var operator()(const Var& x) const { return mask()(x); }
  void visit(Visitor& visitor) { visitor("mode", mode)("generator", generator); }
};

}  // namespace banach::nn
