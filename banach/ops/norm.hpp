#pragma once
// Normalisation along the last axis, f32 and f64. Batch statistics are composed of mean and arithmetic in nn.

#include <banach/engine/op.hpp>

namespace banach {

/// (x - mean) / sqrt(variance + eps) along the last axis, with the population variance (divided by n).
/// Throws ShapeError for a scalar, ValueError unless eps >= 0.
Var normalize(const Var& x, double eps = 1e-5);

/// normalize(x, eps) * gamma + beta, with gamma and beta of the last axis' extent.
/// Ba, Kiros and Hinton, "Layer normalization", 2016, equation 4.
Var layer_norm(const Var& x, const Var& gamma, const Var& beta, double eps = 1e-5);

}  // namespace banach
