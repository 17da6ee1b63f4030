#pragma once
// Layers of bounded Lipschitz constant. The weight W is used as W min(1, bound / sigma), sigma being the norm
// of the layer's linear map; in the 2-norm its largest singular value, estimated by power iteration: Miyato,
// Kataoka, Koyama and Yoshida 2018, "Spectral normalization for generative adversarial networks", algorithm
// 1; taken on the convolution itself as Gouk, Frank, Pfahringer and Cree 2021, "Regularisation of neural
// networks by enforcing Lipschitz continuity", section 4.2, do, and only ever making weights smaller, as
// Behrmann et al. 2019, "Invertible residual networks", eq. 10, do. Other norms of input and output as in
// Chen, Behrmann, Duvenaud and Jacobsen 2019, "Residual flows", appendix D.
//
// The estimate may be too small by what the tolerance leaves: ask for a bound with a margin, for
// `close_power_iteration`, or for a certified bound. Its derivative is u^T dW v, exact
// where the norming vectors are; second derivatives hold u and v fixed. weight() is the effective weight: a
// body of a fixed point may take it once outside. These layers remember vectors between calls: one thread at
// a time.

#include <banach/nn/conv.hpp>
#include <banach/nn/power_iteration.hpp>

namespace banach::nn {

struct SpectralOptions {
  double bound = 1.0;     ///< largest norm, finite: the Lipschitz constant, from the p-norm to the q-norm
  InducedNorm norm = {};  ///< p = q = 2: the largest singular value
  PowerIterationOptions power = {};
  /// Divide by the upper bound of the norm (see NormBounds) in place of the estimate: the Lipschitz constant
  /// is then below `bound` for certain, but for rounding of the dtype, by as much as the two differ. Costs
  /// the bound after every update. The derivative is that of the estimate, scaled.
  bool certified = false;
};

/// What is known of a Lipschitz constant: it lies between the two.
struct NormBounds {
  double estimate;  ///< attained, but for rounding
  double upper;     ///< certain, but for the last bits: see induced_norm_bound, singular_bound
};

/// Linear whose map has a norm of at most `bound`.
struct SpectralLinear {
  Parameter raw_weight;           ///< (out,in)
  std::optional<Parameter> bias;  ///< (out)
  double bound;
  mutable PowerIteration power;

  SpectralLinear(std::int64_t in, std::int64_t out, Random& random, const SpectralOptions& spectral = {},
                 const LinearOptions& options = {});
  /// The effective weight (out,in).
  Var weight() const;
  /// sigma of raw_weight, a scalar: for other norms than p = q = 2 the estimate of that norm.
  Var singular_value() const;
  /// Of the effective weight.
  NormBounds lipschitz() const;
  Var operator()(const Var& x) const { return linear(x, weight(), detail::optional_var(bias)); }
  void visit(Visitor& visitor) {
    visitor("weight", raw_weight)("bias", bias)("power", power)("upper", upper);
  }

  mutable std::optional<Buffer> upper;  ///< if certified: the upper bound that was divided by
};

/// Conv2d whose map on images of h x w = `image` has a norm of at most `bound`. Images of another size are
/// taken, but the bound then holds only roughly.
struct SpectralConv2d {
  Parameter raw_weight;           ///< (out, in / groups, kh, kw)
  std::optional<Parameter> bias;  ///< (out)
  Conv2dOptions geometry;
  Pair image;
  double bound;
  mutable PowerIteration power;

  SpectralConv2d(std::int64_t in, std::int64_t out, Pair kernel, Pair image, Random& random,
                 const SpectralOptions& spectral = {}, const ConvOptions& options = {});
  Var weight() const;
  Var singular_value() const;
  NormBounds lipschitz() const;
  Var operator()(const Var& x) const {
    return conv2d_with_bias(x, weight(), detail::optional_var(bias), geometry);
  }
  void visit(Visitor& visitor) {
    visitor("weight", raw_weight)("bias", bias)("power", power)("upper", upper);
  }

  mutable std::optional<Buffer> upper;  ///< if certified: the upper bound that was divided by

 private:
  SpectralConv2d(Conv2d start, std::int64_t in, Pair image, const SpectralOptions& spectral);
};

}  // namespace banach::nn
