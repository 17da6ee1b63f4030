#include <banach/engine/tape.hpp>
#include <banach/nn/residual_flow.hpp>
#include <banach/ops/elementwise.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <cmath>
#include <limits>

namespace banach::nn {
namespace {

// What a solution's residual stands for, as a constant to be added: an error up to 1 / (1 - c) times as
// large, which plain steps of the contraction take down to what the last one rounds.
Var left_by(FunctionRef<Var(const Var&)> step, const Tensor& solution) {
  const NoGrad off;
  constexpr int steps = 20;
  Var x(solution);
  for (int i = 0; i < steps; ++i) x = step(x);
  return x - Var(solution);
}

}  // namespace

namespace detail {

ResidualTransformed residual_forward(FunctionRef<Var(const Var&)> g, const Var& x,
                                     const LogDetOptions& options) {
  LogDet found = log_det(g, x, options);
  return {{x + found.image, std::move(found.value)}, std::move(found.report)};
}

ImplicitSolution residual_inverse(FunctionRef<Var(const Var&)> g, const Var& y, FixedPointOptions options) {
  const double rounding = y.dtype() == DType::f64 ? std::numeric_limits<double>::epsilon()
                                                  : std::numeric_limits<float>::epsilon();
  const double least = 8.0 * rounding;
  const bool polish = options.tolerance < least;
  options.tolerance = std::max(options.tolerance, least);
  const auto step = [&](const Var& x) { return y - g(x); };
  ImplicitSolution found = fixed_point(step, y, options);
  if (!polish) return found;
  found.z = found.z + left_by(step, found.z.value());
  return found;
}

LogDetOptions next_draw(const LogDetEstimator& estimator, double lipschitz, Buffer& generator) {
  std::int64_t* state = generator.value.mutable_data<std::int64_t>();
  Random random(std::bit_cast<std::uint64_t>(state[0]), static_cast<std::uint64_t>(state[1]++));
  return {.estimator = estimator, .lipschitz = lipschitz, .seed = random.bits()};
}

Buffer draws_of(Random& random) {
  return {tensor({std::bit_cast<std::int64_t>(random.bits()), std::int64_t{0}})};
}

double checked_contraction(double lipschitz) {
  if (!(lipschitz > 0.0 && lipschitz < 1.0))
    fail<ValueError>("residual_flow", fmt::format("lipschitz must lie in (0, 1): got {}", lipschitz));
  return lipschitz;
}

}  // namespace detail

namespace {

void check_widths(const std::vector<std::int64_t>& widths) {
  if (widths.size() < 2 || widths.front() != widths.back())
    fail<ValueError>(
        "residual_flow",
        fmt::format("a block must have two widths or more, the last being the first: got {}", widths));
}

// A net of so many layers, made by make(layer, options of its norm).
template <class Layer, class Make>
ContractiveNet<Layer> make_net(std::size_t layers, const ContractionOptions& options, Make make) {
  const double c = detail::checked_contraction(options.lipschitz);
  const SpectralOptions spectral{.bound = std::pow(c, 1.0 / static_cast<double>(layers)),
                                 .power = options.power,
                                 .certified = options.certified};
  ContractiveNet<Layer> net;
  for (std::size_t i = 0; i < layers; ++i) {
    net.layers.push_back(make(i, spectral));
    if (i > 0 || options.activate_input) net.activations.emplace_back(options.dtype);
  }
  return net;
}

}  // namespace

ContractiveMlp contractive_mlp(const std::vector<std::int64_t>& widths, Random& random,
                               const ContractionOptions& options) {
  check_widths(widths);
  return make_net<SpectralLinear>(
      widths.size() - 1, options, [&](std::size_t i, const SpectralOptions& spectral) {
        return SpectralLinear(widths[i], widths[i + 1], random, spectral, {.dtype = options.dtype});
      });
}

ContractiveConvNet contractive_conv_net(const std::vector<std::int64_t>& channels,
                                        const std::vector<std::int64_t>& kernels, Pair image, Random& random,
                                        const ContractionOptions& options) {
  check_widths(channels);
  if (kernels.size() + 1 != channels.size())
    fail<ValueError>(
        "residual_flow",
        fmt::format("there must be one kernel between each two channels: got {} and {}", kernels, channels));
  for (const std::int64_t kernel : kernels)
    if (kernel % 2 != 1)
      fail<ValueError>("residual_flow", fmt::format("kernels must be odd: got {}", kernels));
  return make_net<SpectralConv2d>(
      kernels.size(), options, [&](std::size_t i, const SpectralOptions& spectral) {
        return SpectralConv2d(channels[i], channels[i + 1], kernels[i], image, random, spectral,
                              {.padding = kernels[i] / 2, .dtype = options.dtype});
      });
}

}  // namespace banach::nn
