#pragma once
// Activations whose Lipschitz constant is 1 in every p-norm, for maps that must be contractions. Of the
// others banach::relu, tanh, softplus, leaky_relu with a slope and elu with an alpha in [-1, 1] have it too;
// sigmoid has 1/4; silu and gelu exceed 1. A density needs log det of the derivative, so its gradient needs
// second derivatives that do not vanish: lip_swish and elu rather than relu or sorting.

#include <banach/nn/module.hpp>

#include <cstdint>

namespace banach::nn {

/// x sigmoid(beta x) / 1.1 with a learned beta > 0: Chen, Behrmann, Duvenaud and Jacobsen 2019, "Residual
/// flows for invertible generative modeling", section 3.3. Its derivative depends on beta x alone, lies in
/// [-0.0908, 0.9999], and comes close to 1, unlike tanh's and elu's, where it still bends.
struct LipSwish {
  Parameter raw_beta;  ///< (), beta = softplus(raw_beta); 0.5 at first

  explicit LipSwish(DType dtype = DType::f32);
  Var operator()(const Var& x) const;
  void visit(Visitor& visitor) { visitor("beta", raw_beta); }
};

/// Entries sorted, rising, in groups of `group` neighbours along one axis (channels), of x's shape: Anil,
/// Lucas and Grosse 2019, "Sorting out Lipschitz function approximation", section 4.1. It permutes, so norms
/// of gradients are preserved. Throws ValueError unless group >= 1, ShapeError unless it divides the axis.
Var group_sort(const Var& x, std::int64_t group, int axis = 1);

/// Smaller and larger one of each pair of neighbouring channels: group_sort for pairs, without a sort. At
/// ties each gets half of both cotangents.
Var max_min(const Var& x, int axis = 1);

}  // namespace banach::nn
