#pragma once

#include <banach/engine/op.hpp>

#include <optional>

namespace banach {

struct AttentionOptions {
  bool causal = false;               ///< query i sees keys 0 to i only
  std::optional<double> scale = {};  ///< of the scores; 1 / sqrt(d) unless given
};

/// softmax(scale q k^T) v for q (..., l, d), k (..., m, d) and v (..., m, e) with equal leading axes:
/// (..., l, e). Vaswani et al., "Attention is all you need", 2017, equation 1. Values and first derivatives
/// take memory for a few rows of scores at a time, never for all (l, m) of them; derivatives of derivatives
/// take that.
///
/// A hidden key (causal, or -infinity in the mask) has no influence, whatever it holds, NaN included. A query
/// that sees no key gets zeros, and gives none of its cotangent on. Throws ShapeError if the shapes do not
/// fit.
Var scaled_dot_product_attention(const Var& q, const Var& k, const Var& v,
                                 const AttentionOptions& options = {});

/// The same with `mask` added to the scores; it broadcasts to their shape (..., l, m).
Var scaled_dot_product_attention(const Var& q, const Var& k, const Var& v, const Var& mask,
                                 const AttentionOptions& options = {});

}  // namespace banach
