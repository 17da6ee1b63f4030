#include <apps/lab/models.hpp>

#include <array>
#include <cmath>

#include <fmt/format.h>

#include <banach/nn/conv.hpp>
#include <banach/nn/init.hpp>
#include <banach/nn/linear.hpp>
#include <banach/nn/norm.hpp>
#include <banach/nn/spectral.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/norm.hpp>
#include <banach/ops/pool.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::lab {
namespace {

/// z = tanh(W z + u), u = normalize(U x + b) / 2, with ||W||_2 <= bound: a contraction for a bound below 1,
/// since tanh is 1-Lipschitz. W starts as 0.85 / 0.9 of that times an orthogonal matrix, and u is kept small
/// so that tanh does not saturate: else df/dz nearly vanishes in training, and all gradient estimates agree.
class Mlp final : public Classifier {
 public:
  Mlp(std::int64_t pixels, std::int64_t hidden, std::int64_t classes, double bound, Random random)
      : recur_(hidden, hidden, random, {.bound = bound}, {.bias = false}),
        inject_(pixels, hidden, random),
        head_(hidden, classes, random) {
    recur_.raw_weight.set(nn::init::orthogonal({hidden, hidden}, random, 0.85 / 0.9 * bound));
  }

  std::unique_ptr<Classifier> clone() const override { return std::make_unique<Mlp>(*this); }
  void visit(nn::Visitor& visitor) override { visitor("recur", recur_)("inject", inject_)("head", head_); }

  Equation equation(const Var& x) const override {
    const Var u = 0.5 * normalize(inject_(flatten(x))), w = recur_.weight();
    return {[=](const Var& z) { return tanh(matmul(z, w, {.transpose_b = true}) + u); },
            Var(Tensor::zeros(u.shape(), u.dtype())), Batch::axis0};
  }
  Var head(const Var& z) const override { return head_(z); }
  void after_step(const Tensor&, const Tensor&, Random) override {}

 private:
  nn::SpectralLinear recur_;
  nn::Linear inject_, head_;
};

/// The MNIST network of Fung, Heaton et al. 2021: two convolutions with batch norm make v (B, 32, 9, 9) of
/// the image; f adds v to the state, passes two residual blocks, each followed by a batch norm without
/// parameters, and shrinks by gamma. Their dropout in front of the last layer is left out.
class ConvNet final : public Classifier {
 public:
  ConvNet(std::int64_t classes, Random random)
      : conv1_(1, 16, 3, random, same),
        conv2_(16, channels, 3, random, same),
        norm1_(16),
        norm2_(channels),
        blocks_{Block{random}, Block{random}},
        conv_head_(channels, 16, 3, random),
        head_(784, classes, random, {.bias = false}) {
    const std::int64_t parameters = nn::count(nn::parameters(*this));
    if (classes == 10 && parameters != 54'352)
      fail<ValueError>("conv", fmt::format("must have 54352 parameters: has {}", parameters));
  }

  std::unique_ptr<Classifier> clone() const override { return std::make_unique<ConvNet>(*this); }
  void visit(nn::Visitor& visitor) override {
    visitor("conv1", conv1_)("norm1", norm1_)("conv2", conv2_)("norm2", norm2_)("blocks", blocks_)(
        "conv_head", conv_head_)("head", head_);
  }

  Equation equation(const Var& x) const override {
    const Var v = inject(x);
    // In training batch norm takes its statistics from the whole batch, and so mixes the samples.
    const bool mixes = norm1_.mode.training;
    return {[=, this](const Var& z) { return latent(z, v); }, Var(Tensor::zeros(v.shape(), v.dtype())),
            mixes ? Batch::none : Batch::axis0};
  }
  Var head(const Var& z) const override { return head_(flatten(leaky_relu(conv_head_(z), slope))); }

  /// Keeps f close to gamma-Lipschitz, as the authors do: where random neighbours of z are farther apart
  /// after f than gamma times before, the convolutions of f shrink by that ratio, shared out over the blocks.
  void after_step(const Tensor& x, const Tensor& z, Random random) override {
    const NoGrad off;
    const auto noise = [&] {
      Tensor values = Tensor::empty(z.shape(), z.dtype());
      dispatch_floating(z.dtype(), [&](auto zero) {
        random.fill_normal(values.mutable_data<decltype(zero)>(), values.size());
      });
      return Var(values);
    };
    const Var step = noise(), v = inject(Var(x)) + noise(), at(z);
    const double moved = mean_channel_norm((latent(at + step, v) - latent(at, v)).value());
    const double ratio = gamma * mean_channel_norm(step.value()) / moved;
    if (!(ratio < 1.0)) return;
    const double factor = std::pow(ratio, 1.0 / static_cast<double>(blocks_.size()));
    for (Block& block : blocks_)
      for (nn::Conv2d* conv : {&block.first, &block.second}) {
        conv->weight.set((Var(conv->weight.value()) * factor).value());
        conv->bias->set((Var(conv->bias->value()) * factor).value());
      }
  }

 private:
  static constexpr std::int64_t channels = 32;
  static constexpr double slope = 0.1, gamma = 0.5;
  static inline const nn::ConvOptions same{.padding = 1};

  struct Block {
    nn::Conv2d first, second;
    nn::BatchNorm norm{channels, {.affine = false}};

    explicit Block(Random& random)
        : first(channels, channels, 3, random, same), second(channels, channels, 3, random, same) {}
    Var operator()(const Var& x) const {
      // The leaky relu twice in a row is the authors'.
      const Var inner = leaky_relu(second(leaky_relu(first(x), slope)), slope);
      return norm(x + leaky_relu(inner, slope));
    }
    void visit(nn::Visitor& visitor) { visitor("first", first)("second", second)("norm", norm); }
  };

  Var inject(const Var& x) const {
    const Var small = max_pool2d(leaky_relu(norm1_(conv1_(x)), slope), {.kernel = 3, .stride = 3});
    return leaky_relu(norm2_(conv2_(small)), slope);
  }
  Var latent(const Var& z, const Var& v) const { return gamma * blocks_[1](blocks_[0](z + v)); }

  /// Mean over samples and places of the 2-norm over the channels.
  static double mean_channel_norm(const Tensor& x) {
    const std::int64_t images = x.size(0), places = x.size(2) * x.size(3);
    double total = 0.0;
    dispatch_floating(x.dtype(), [&](auto zero) {
      const auto* data = x.data<decltype(zero)>();
      for (std::int64_t i = 0; i < images; ++i)
        for (std::int64_t p = 0; p < places; ++p) {
          double squares = 0.0;
          for (std::int64_t c = 0; c < channels; ++c) {
            const auto value = static_cast<double>(data[(i * channels + c) * places + p]);
            squares += value * value;
          }
          total += std::sqrt(squares);
        }
    });
    return total / static_cast<double>(images * places);
  }

  nn::Conv2d conv1_, conv2_;
  nn::BatchNorm norm1_, norm2_;
  std::array<Block, 2> blocks_;
  nn::Conv2d conv_head_;
  nn::Linear head_;
};

}  // namespace

std::unique_ptr<Classifier> make_classifier(const TrainSettings& settings, const Shape& image,
                                            std::int64_t classes) {
  const Random random(settings.seed);
  if (settings.model == "conv") return std::make_unique<ConvNet>(classes, random);
  return std::make_unique<Mlp>(image.size(), settings.hidden, classes, settings.bound, random);
}

std::unique_ptr<Classifier> in_double(const Classifier& model) {
  std::unique_ptr<Classifier> copy = model.clone();
  nn::to(*copy, DType::f64);
  return copy;
}

}  // namespace banach::lab
