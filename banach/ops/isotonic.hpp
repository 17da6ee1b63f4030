#pragma once
// Isotonic regression along the last axis, and sums over the blocks that it finds. f32 and f64.

#include <banach/engine/op.hpp>

namespace banach {

struct Isotonic {
  Var values;  ///< z, of y's shape; it rises along each row
  Var blocks;  ///< i64, of y's shape: where in its row each entry's block begins; -1 all along a row of NaN
};

/// Each row y (..., n) -> argmin over z of 1/2 sum of w_i (z_i - y_i)^2 subject to z_1 <= ... <= z_n, for
/// positive finite weights w of y's shape or (n), 1 if undefined. By pooling adjacent violators (Barlow,
/// Bartholomew, Bremner and Brunk 1972, "Statistical inference under order restrictions"): z is the weighted
/// mean of y over each block, in time that grows with n. Sums are kept in twice the digits of double, so no
/// entry is lost beside a larger one, unless, in f64, w_i / max w or |y_i| w_i / max w is below 1e-280 or so.
/// A block of one entry is that entry, to the last bit.
///
/// The derivative is that of the means: dz/dy_i = w_i / W and dz/dw_i = (y_i - z_i) / W all over the block of
/// i, whose weights add up to W. So there is none of second order in y. Neighbouring blocks of equal means
/// count as one: that is an element of the generalised Jacobian, the limit from rows in which the first of
/// them lies a little higher.
///
/// A row with a NaN or an infinity, or with a weight that is not positive and finite, is NaN, with its
/// derivatives. Throws ShapeError for a scalar, or weights of another shape; DTypeError.
Isotonic isotonic_regression(const Var& y, const Var& weights = {});

/// The sum of x over each block, divided by that of w: with w = 1 the mean. A block is a run of equal entries
/// of `blocks` (i64) in a row; x, w and blocks are (..., n) of one shape. A negative entry makes its run NaN.
/// Throws ShapeError, DTypeError.
Var block_ratio(const Var& x, const Var& w, const Var& blocks);

}  // namespace banach
