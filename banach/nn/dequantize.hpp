#pragma once

#include <banach/engine/random.hpp>
#include <banach/nn/flow.hpp>

namespace banach::nn {

/// y = (x + u) / levels for x in {0, ..., levels - 1}, of any shape, and u uniform on (0, 1): a density of y
/// on [0, 1) bounds the probability of x, log P(x) >= mean over u of log p(y) - d log levels for d entries.
/// That is log p(y) + log |det|, so it stands at the head of a flow like any other map. Theis, van den Oord
/// and Bethge 2016, "A note on the evaluation of generative models", section 3.1. The inverse rounds down.
///
/// Each forward draws another u, decided by the seed and the number of those before, both of which a
/// checkpoint keeps; in evaluation too. u lies on a grid coarse enough for rounding never to reach the next
/// level.
struct Dequantize {
  std::int64_t levels;
  mutable Buffer generator;  ///< i64 (2): seed and number of draws

  /// Throws ValueError unless levels lies in [1, 2^20].
  Dequantize(std::int64_t levels, Random& random);
  /// Throws ShapeError for a scalar.
  Transformed forward(const Var& x) const;
  /// Values outside of [0, 1) give the nearest level. A constant for every derivative.
  Var inverse(const Var& y) const;
  void visit(Visitor& visitor) { visitor("generator", generator); }
};

}  // namespace banach::nn
