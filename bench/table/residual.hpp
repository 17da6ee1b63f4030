#pragma once
// The invertible residual block x + g(x) on images: g has three convolutions 3x3 of channels 1-32-32-1, an
// activation between each two, and a Lipschitz constant of at most 0.9. The peer reads its parameters.

#include <banach/banach.hpp>

#include <vector>

namespace residual {

using namespace banach;

constexpr std::int64_t batch = 64, side = 28, channels[] = {1, 32, 32, 1};
constexpr int terms = 5;
constexpr double lipschitz = 0.9;

enum class Activation : std::uint8_t { elu, lip_swish };

struct Parameters {
  Tensor x;                     // (batch, 1, side, side)
  std::vector<Tensor> weights;  // w1, b1, w2, b2, w3, b3, of bounded norm as they are
  double beta = 0.5;            // of LipSwish

  Parameters() {
    Random random(9);
    x = nn::init::normal({batch, 1, side, side}, 0.0, 1.0, random);
    const auto net =
        nn::contractive_conv_net({channels, channels + 4}, {3, 3, 3}, side, random, {.lipschitz = lipschitz});
    for (const nn::SpectralConv2d& layer : net.layers) {
      weights.push_back(layer.weight().value());
      weights.push_back(layer.bias->value());
    }
  }
};

/// g by Vars: those of the weights, and for LipSwish beta's.
struct Map {
  Vars weights;
  Var beta;  ///< undefined: ELU

  Var activated(const Var& y) const { return beta.defined() ? y * sigmoid(y * beta) * (1.0 / 1.1) : elu(y); }
  Var operator()(const Var& x) const {
    Var y = x;
    for (std::size_t i = 0; i < weights.size(); i += 2)
      y = nn::conv2d_with_bias(i == 0 ? y : activated(y), weights[i], weights[i + 1], {.padding = 1});
    return y;
  }
};

}  // namespace residual
