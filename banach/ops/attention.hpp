#pragma once

#include <banach/engine/op.hpp>

#include <optional>

namespace banach {

struct AttentionOptions {
  bool causal = false;               ///< query i sees keys 0 to i only
  std::int64_t heads = 1;            ///< products side by side along the last axes of q, k and v
  std::optional<double> scale = {};  ///< of the scores; 1 / sqrt(d) unless given
};

/// softmax(scale q k^T) v for q (..., l, d), k (..., m, d) and v (..., m, e) with equal leading axes:
/// (..., l, e). Vaswani et al., "Attention is all you need", 2017, equation 1. Values and first derivatives
/// take memory for a few rows of scores at a time, never for all (l, m) of them; derivatives of derivatives
/// take that.
///
/// With h heads, q is (..., l, h d), head i having columns i d to (i + 1) d, and so on: the result, (..., l,
/// h e), is that of each head alone.
///
/// A hidden key (causal, or -infinity in the mask) has no influence on values and first derivatives, whatever
/// it holds, NaN included. A query that sees no key gets zeros, and gives none of its cotangent on. Throws
/// ShapeError if the shapes do not fit, DTypeError for mixed dtypes, ValueError unless heads >= 1 and the
/// scale is finite.
Var scaled_dot_product_attention(const Var& q, const Var& k, const Var& v,
                                 const AttentionOptions& options = {});

/// The same with `mask` added to the scores; it broadcasts to their shape (..., l, m), or (..., h, l, m) for
/// h > 1 heads.
Var scaled_dot_product_attention(const Var& q, const Var& k, const Var& v, const Var& mask,
                                 const AttentionOptions& options = {});

struct RelativeAttentionOptions {
  std::int64_t heads = 1;            ///< products side by side along the last axes of q, k, v and r
  std::optional<double> scale = {};  ///< of the scores; 1 / sqrt(d) unless given
};

/// Causal attention by content and distance, with memory in front: Dai et al., "Transformer-XL: Attentive
/// language models beyond a fixed-length context", 2019, section 3.3. For q (..., l, d), k (..., m, d) and v
/// (..., m, e) with m >= l and equal leading axes, query i stands at the place of key m - l + i and sees the
/// keys up to it. The score of key j, t places before, is
///     scale ((q_i + content_bias) . k_j + (q_i + position_bias) . r_t),
/// where row t of r (m, d) stands for distance t, and the biases are (d): shared by all leading axes. The
/// result is (..., l, e).
///
/// Heads, hidden keys and memory are as above: the scores of all distances are never held either, and those
/// of content and of distance are added up without being moved. In a solve at fixed r, r is packed once.
/// Throws as above.
Var relative_attention(const Var& q, const Var& k, const Var& v, const Var& r, const Var& content_bias,
                       const Var& position_bias, const RelativeAttentionOptions& options = {});

}  // namespace banach
