#pragma once

#include <banach/nn/dropout.hpp>
#include <banach/nn/norm.hpp>
#include <banach/nn/sequence.hpp>
#include <banach/nn/weight_norm.hpp>

namespace banach::nn {

struct TransformerCellOptions {
  std::int64_t d_model = 0;  ///< width of x and of the state
  std::int64_t heads = 1;
  std::int64_t hidden = 0;  ///< width between the two maps of the feed-forward part
  std::int64_t memory = 0;  ///< positions before a segment that it sees
  bool pre_norm = false;
  bool weight_norm = true;
  double dropout =
      0.0;  ///< of what attention gives and of the hidden units: one mask for all positions and steps
  DType dtype = DType::f32;
};

/// The transformer as a cell: Bai, Kolter, Koltun 2019, "Deep equilibrium models", section 4.2, on the
/// attention of Transformer-XL (banach::relative_attention). State z and x are (batch, length, d_model). With
/// Attention(z), whose queries, keys and values are maps of z plus maps of x (the injection), and
/// FeedForward(a) = W_2 relu(W_1 a + b_1) + b_2:
///     post-norm: a = norm(z + x + Attention(z)),    f(z) = norm(a + FeedForward(a))
///     pre-norm:  a = x + Attention(norm(z)),        f(z) = a + FeedForward(norm(a))
/// x stands in the residual too. In norm(z + Attention(z)) alone, z would keep its length and almost its
/// direction, and J its eigenvalues near 1, at the start of a training; and z as a residual that is never
/// normalised, z + Attention(norm(z)), has no fixed point that a solver would find.
///
/// At the start f is a contraction: at width 128 and random x, the spectral radius of J at the equilibrium is
/// 0.6 to 0.7 (pre-norm: 0.3), and Anderson takes 13 evaluations to 1e-5.
class TransformerCell {
 public:
  /// Throws ValueError for widths below 1, heads that do not divide d_model, or a negative memory.
  TransformerCell(const TransformerCellOptions& options, Random& random);

  /// Throws ShapeError unless x is (batch, length, d_model), of one position or more, and the memory the same
  /// for one length of its own. Keys and values of the memory are constants of the solve, but what they give
  /// to the weights that made them is counted. Throws DTypeError for another dtype than the parameters'.
  SequenceBody bind(const Var& x, const SegmentMemory& memory = {}) const;
  Var start(const Var& x) const;
  Var output(const Var& z) const { return z; }
  SegmentMemory remember(const SegmentMemory& old, const Tensor& z, const Tensor& x) const;
  void visit(Visitor& visitor);

 private:
  static const TransformerCellOptions& checked(const TransformerCellOptions& options);
  WeightNormLinear map(std::int64_t in, std::int64_t out, bool bias, Random& random) const;
  void check(const Var& x, const SegmentMemory& memory) const;

  TransformerCellOptions options_;
  WeightNormLinear query_, key_, value_;    ///< of z
  WeightNormLinear inject_;                 ///< of x: (3 d_model, d_model), for q, k and v, with biases
  WeightNormLinear position_;               ///< of the encodings of distances
  Parameter content_bias_, position_bias_;  ///< (d_model): u and v of Transformer-XL
  WeightNormLinear output_projection_;      ///< of what the heads give
  WeightNormLinear linear1_, linear2_;      ///< the feed-forward part
  LayerNorm attention_norm_, feed_norm_;
  Dropout dropout_;
};

/// Sinusoidal encodings of distances 0 to count - 1, (count, width): the sines of distance / 10000^(2 i /
/// width) for i < width / 2 rounded up, then the cosines. Vaswani et al., "Attention is all you need", 2017,
/// section 3.5, in the order of Transformer-XL.
Tensor sinusoidal_encoding(std::int64_t count, std::int64_t width, DType dtype = DType::f32);

}  // namespace banach::nn
