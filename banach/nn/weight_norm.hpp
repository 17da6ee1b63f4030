#pragma once
// Salimans and Kingma 2016, "Weight normalization", eq. 2: w = g v / ||v|| for each output, so that length
// and direction are trained apart. The start is that of the plain layer: g = ||v||.

#include <banach/nn/conv.hpp>

namespace banach::nn {

/// g v / ||v|| along axis 0: v (out, ...), g (out); the norm runs over all other axes and must not be zero.
Var weight_norm(const Var& direction, const Var& magnitude);

/// x W^T + b. As the layers of a cell have weight normalisation as an option, so has this.
struct WeightNormLinear {
  Parameter direction;                 ///< (out,in): v where the weight is normalised, else the weight itself
  std::optional<Parameter> magnitude;  ///< g (out)
  std::optional<Parameter> bias;       ///< (out)

  WeightNormLinear(std::int64_t in, std::int64_t out, Random& random, const LinearOptions& options = {},
                   bool normalised = true);
  /// The effective weight (out,in). A cell takes it once for all steps of a solve.
  Var weight() const { return magnitude ? weight_norm(direction, *magnitude) : direction.var(); }
  Var operator()(const Var& x) const { return linear(x, weight(), detail::optional_var(bias)); }
  void visit(Visitor& visitor) { visitor("direction", direction)("magnitude", magnitude)("bias", bias); }
};

struct WeightNormConv2d {
  Parameter direction;            ///< v (out, in / groups, kh, kw)
  Parameter magnitude;            ///< g (out)
  std::optional<Parameter> bias;  ///< (out)
  Conv2dOptions geometry;

  WeightNormConv2d(std::int64_t in, std::int64_t out, Pair kernel, Random& random,
                   const ConvOptions& options = {});
  Var weight() const { return weight_norm(direction, magnitude); }
  Var operator()(const Var& x) const {
    return conv2d_with_bias(x, weight(), detail::optional_var(bias), geometry);
  }
  void visit(Visitor& visitor) { visitor("direction", direction)("magnitude", magnitude)("bias", bias); }
};

}  // namespace banach::nn
