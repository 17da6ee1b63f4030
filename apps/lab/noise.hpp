#pragma once
// Bias and variance of a gradient estimate over minibatches and draws.

#include <vector>

#include <apps/lab/results.hpp>

namespace banach::lab {

using Gradient = std::vector<double>;

/// `estimates[b][s]`: of minibatch b at draw s (one for a rule that draws nothing); `exact[b]`: the exact
/// gradient of minibatch b. With G the mean of `exact`, all figures are relative to ||G||; what would need
/// more minibatches or draws is unknown.
Noise noise_of(const std::vector<std::vector<Gradient>>& estimates, const std::vector<Gradient>& exact);

}  // namespace banach::lab
