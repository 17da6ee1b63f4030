#pragma once
// Layers of bounded Lipschitz constant. The weight W is used as W min(1, bound / sigma), sigma being the
// largest singular value of the layer's linear map, estimated by power iteration: Miyato, Kataoka, Koyama and
// Yoshida 2018, "Spectral normalization for generative adversarial networks", algorithm 1; taken on the
// convolution itself as Gouk, Frank, Pfahringer and Cree 2021, "Regularisation of neural networks by
// enforcing Lipschitz continuity", section 4.2, do, and only ever making weights smaller, as Behrmann et al.
// 2019, "Invertible residual networks", eq. 10, do.
//
// The estimate may be too small by what the tolerance leaves: ask for a bound with a margin. Its derivative
// is u^T dW v, exact where the singular vectors are; second derivatives hold u and v fixed. weight() is the
// effective weight: a body of a fixed point may take it once outside. These layers remember vectors between
// calls: one thread at a time.

#include <banach/nn/conv.hpp>
#include <banach/nn/power_iteration.hpp>

namespace banach::nn {

struct SpectralOptions {
  double bound = 1.0;  ///< largest singular value allowed: the Lipschitz constant in the 2-norm
  PowerIterationOptions power = {};
};

/// Linear whose map has singular values of at most `bound`.
struct SpectralLinear {
  Parameter raw_weight;           ///< (out,in)
  std::optional<Parameter> bias;  ///< (out)
  double bound;
  mutable PowerIteration power;

  SpectralLinear(std::int64_t in, std::int64_t out, Random& random, const SpectralOptions& spectral = {},
                 const LinearOptions& options = {});
  /// The effective weight (out,in).
  Var weight() const;
  /// sigma of raw_weight, a scalar.
  Var singular_value() const;
  Var operator()(const Var& x) const { return linear(x, weight(), detail::optional_var(bias)); }
  void visit(Visitor& visitor) { visitor("weight", raw_weight)("bias", bias)("power", power); }

 private:
  Var singular_value(const Var& w) const;
};

/// Conv2d whose map on images of h x w = `image` has singular values of at most `bound`. Images of another
/// size are taken, but the bound then holds only roughly.
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
  Var operator()(const Var& x) const {
    return conv2d_with_bias(x, weight(), detail::optional_var(bias), geometry);
  }
  void visit(Visitor& visitor) { visitor("weight", raw_weight)("bias", bias)("power", power); }

 private:
  SpectralConv2d(Conv2d start, std::int64_t in, Pair image, const SpectralOptions& spectral);
  Var singular_value(const Var& w) const;
};

}  // namespace banach::nn
