#pragma once
// Residual blocks y = x + g(x) as flows: invertible where g is a contraction, of a log-determinant that can
// be estimated. Behrmann, Grathwohl, Chen, Duvenaud and Jacobsen 2019, "Invertible residual networks"; Chen,
// Behrmann, Duvenaud and Jacobsen 2019, "Residual flows for invertible generative modeling".

#include <banach/nn/flow.hpp>
#include <banach/nn/lipschitz_activation.hpp>
#include <banach/nn/spectral.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/log_det.hpp>

namespace banach::nn {

struct ResidualBlockOptions {
  LogDetEstimator estimator = Exact{};
  std::optional<LogDetEstimator> evaluation = {};  ///< in evaluation mode; unless given, the same
  /// Of x = y - g(x). A tolerance below 8 roundings counts as so much, and 20 plain steps follow: 0 solves
  /// as far as the dtype allows.
  /// Near lipschitz = 1 take `NewtonKrylov` for the solver.
  FixedPointOptions inverse = {.tolerance = 0.0, .max_steps = 1000, .body = Body::replayed};
};

/// What a block's forward found, with the estimator's report for each sample.
struct ResidualTransformed : Transformed {
  LogDetReport report;
};

namespace detail {
ResidualTransformed residual_forward(FunctionRef<Var(const Var&)> g, const Var& x,
                                     const LogDetOptions& options);
ImplicitSolution residual_inverse(FunctionRef<Var(const Var&)> g, const Var& y, FixedPointOptions options);
/// The options of one estimate, drawn by the next seed of `generator`.
LogDetOptions next_draw(const LogDetEstimator& estimator, double lipschitz, Buffer& generator);
Buffer draws_of(Random& random);
/// Throws ValueError unless it lies in (0, 1).
double checked_contraction(double lipschitz);
}  // namespace detail

/// A module g that maps each sample to one of its own shape, with a Lipschitz constant of at most `bound()`.
template <class G>
concept ContractiveModule = Module<G> && requires(const G& g, const Var& x) {
  { g(x) } -> std::convertible_to<Var>;
  { g.bound() } -> std::convertible_to<double>;
};

/// y = x + g(x). Its inverse is the fixed point of x -> y - g(x): each sample stops by its residual, with a
/// status of its own, and x is differentiable in y and in g's parameters. Each forward of an estimator that
/// draws takes other vectors, decided by the seed and the number of those before, both of which a checkpoint
/// keeps.
template <ContractiveModule G>
struct ResidualBlock {
  G g;
  ResidualBlockOptions options;
  mutable Buffer generator;  ///< i64 (2): seed and number of draws
  Mode mode;

  /// Throws ValueError unless the bound of g lies in (0, 1).
  ResidualBlock(G map, Random& random, ResidualBlockOptions block_options = {})
      : g(std::move(map)), options(std::move(block_options)), generator(detail::draws_of(random)) {
    detail::checked_contraction(g.bound());
  }

  ResidualTransformed forward(const Var& x) const {
    const bool other = !mode.training && options.evaluation;
    return detail::residual_forward(
        [&](const Var& z) { return g(z); }, x,
        detail::next_draw(other ? *options.evaluation : options.estimator, g.bound(), generator));
  }
  /// The inverse with its report.
  ImplicitSolution solve(const Var& y) const {
    return detail::residual_inverse([&](const Var& z) { return g(z); }, y, options.inverse);
  }
  Var inverse(const Var& y) const { return solve(y).z; }
  void visit(Visitor& visitor) { visitor("g", g)("generator", generator)("mode", mode); }
};

/// Layers of bounded norm with a LipSwish between each two: a contraction. The layers are SpectralLinear or
/// SpectralConv2d, or of that form.
template <class Layer>
struct ContractiveNet {
  std::vector<Layer> layers;
  std::vector<LipSwish> activations;  ///< before each layer but the first, or before each

  Var operator()(const Var& x) const {
    Var y = x;
    const std::size_t plain = layers.size() - activations.size();
    for (std::size_t i = 0; i < layers.size(); ++i) y = layers[i](i < plain ? y : activations[i - plain](y));
    return y;
  }
  /// That the layers are kept to.
  double bound() const {
    double product = 1.0;
    for (const Layer& layer : layers) product *= layer.bound;
    return product;
  }
  /// Of the layers as they are, the product of their estimates and of their upper bounds. The product of
  /// estimates is no estimate from below of the whole map's constant.
  NormBounds lipschitz() const {
    NormBounds product{1.0, 1.0};
    for (const Layer& layer : layers) {
      const NormBounds of_layer = layer.lipschitz();
      product = {product.estimate * of_layer.estimate, product.upper * of_layer.upper};
    }
    return product;
  }
  void visit(Visitor& visitor) { visitor("layers", layers)("activations", activations); }
};

struct ContractionOptions {
  double lipschitz = 0.9;       ///< of the whole map; the layers share it evenly
  bool activate_input = false;  ///< an activation before the first layer, too
  PowerIterationOptions power = close_power_iteration;
  bool certified = false;  ///< see SpectralOptions
  DType dtype = DType::f32;
};

using ContractiveMlp = ContractiveNet<SpectralLinear>;
using ContractiveConvNet = ContractiveNet<SpectralConv2d>;

/// Dense layers of these widths, the first of which is also the last: {2, 64, 64, 2}. Throws ValueError for
/// others, for less than two, or unless lipschitz lies in (0, 1).
ContractiveMlp contractive_mlp(const std::vector<std::int64_t>& widths, Random& random,
                               const ContractionOptions& options = {});

/// Convolutions of so many channels and square kernels of odd widths, one fewer, on images that keep their
/// size: channels {3, 32, 32, 3}, kernels {3, 1, 3}. Throws as contractive_mlp does, and for even kernels.
ContractiveConvNet contractive_conv_net(const std::vector<std::int64_t>& channels,
                                        const std::vector<std::int64_t>& kernels, Pair image, Random& random,
                                        const ContractionOptions& options = {});

}  // namespace banach::nn
