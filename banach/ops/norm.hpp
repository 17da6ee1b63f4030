#pragma once
// Normalisation, f32 and f64: of rows, of groups of channels, of batches. Constant values give 0 (before
// scale and shift), or NaN where eps is 0; a NaN or an infinity makes NaN of all that shares its statistics.

#include <banach/engine/op.hpp>

namespace banach {

/// (x - mean) / sqrt(variance + eps) along the last axis, with the population variance (divided by n).
/// Throws ShapeError for a scalar, ValueError unless eps >= 0.
Var normalize(const Var& x, double eps = 1e-5);

/// normalize(x, eps) * gamma + beta, with gamma and beta of the last axis' extent.
/// Ba, Kiros and Hinton, "Layer normalization", 2016, equation 4.
Var layer_norm(const Var& x, const Var& gamma, const Var& beta, double eps = 1e-5);

/// Of x (n, c, ...), with the c channels cut into so many groups of neighbours: normalised over the channels
/// of a group and all later axes, of each sample alone. Then times gamma (c) plus beta (c), unless these are
/// left out. Wu and He, "Group normalization", 2018, equation 7. Groups of one channel: instance
/// normalisation. Throws ShapeError unless groups divides c.
Var group_norm(const Var& x, std::int64_t groups, const Var& gamma = {}, const Var& beta = {},
               double eps = 1e-5);

struct BatchNormResult {
  Var y, mean, variance;
};

/// (x - mean) / sqrt(variance + eps) of each channel of x (n, c, ...), with the mean and population variance
/// of the batch; then times gamma (c) plus beta (c), unless these are left out. Ioffe and Szegedy, "Batch
/// normalization", 2015, algorithm 1. Throws ShapeError for a batch without values.
BatchNormResult batch_norm(const Var& x, const Var& gamma = {}, const Var& beta = {}, double eps = 1e-5);

/// The same by a mean (c) and a variance (c) that are given, as in evaluation.
Var batch_norm_by(const Var& x, const Var& mean, const Var& variance, const Var& gamma = {},
                  const Var& beta = {}, double eps = 1e-5);

}  // namespace banach
