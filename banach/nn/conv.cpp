#include <banach/nn/conv.hpp>
#include <banach/nn/init.hpp>
#include <banach/ops/conv_bias.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach::nn {
namespace {

void check_channels(std::string_view layer, std::int64_t in, std::int64_t out, Pair kernel,
                    std::int64_t groups) {
  if (in < 1 || out < 1 || kernel.h < 1 || kernel.w < 1)
    fail<ValueError>(
        layer, fmt::format("channels and kernel must be at least 1: got {} to {} channels, kernel ({},{})",
                           in, out, kernel.h, kernel.w));
  if (groups < 1 || in % groups != 0 || out % groups != 0)
    fail<ValueError>(
        layer, fmt::format("groups must divide both numbers of channels: {} for {} to {}", groups, in, out));
}

// Weight and bias, uniform on (-1, 1) / sqrt(terms), where an output is a sum of so many.
template <class Layer>
void initialise(Layer& layer, const Shape& weight, std::int64_t out, std::int64_t terms, bool bias,
                Random& random, DType dtype) {
  const double limit = 1.0 / std::sqrt(static_cast<double>(terms));
  layer.weight = Parameter(init::uniform(weight, -limit, limit, random, dtype));
  if (bias) layer.bias = Parameter(init::uniform({out}, -limit, limit, random, dtype));
}

}  // namespace

Var conv2d_with_bias(const Var& x, const Var& weight, const Var& bias, const Conv2dOptions& geometry) {
  return bias.defined() ? conv2d(x, weight, bias, geometry) : conv2d(x, weight, geometry);
}

Conv2d::Conv2d(std::int64_t in, std::int64_t out, Pair kernel, Random& random, const ConvOptions& options)
    : geometry(options.geometry()) {
  check_channels("conv2d", in, out, kernel, options.groups);
  const Shape shape{out, in / options.groups, kernel.h, kernel.w};
  initialise(*this, shape, out, shape.size(1, 4), options.bias, random, options.dtype);
}

Var Conv2d::operator()(const Var& x) const {
  return conv2d_with_bias(x, weight, detail::optional_var(bias), geometry);
}

ConvTranspose2d::ConvTranspose2d(std::int64_t in, std::int64_t out, Pair kernel, Random& random,
                                 const ConvTransposeOptions& options)
    : geometry(options.geometry()) {
  check_channels("conv_transpose2d", in, out, kernel, options.groups);
  const Shape shape{in, out / options.groups, kernel.h, kernel.w};
  initialise(*this, shape, out, shape.size(1, 4), options.bias, random, options.dtype);
}

Var ConvTranspose2d::operator()(const Var& x) const {
  const Var y = conv_transpose2d(x, weight, geometry);
  return bias ? y + reshape(*bias, {bias->value().size(), 1, 1}) : y;
}

Conv1d::Conv1d(std::int64_t in, std::int64_t out, std::int64_t kernel, Random& random,
               const Conv1dLayerOptions& options)
    : geometry(options.geometry()) {
  check_channels("conv1d", in, out, {kernel, 1}, options.groups);
  const Shape shape{out, in / options.groups, kernel};
  initialise(*this, shape, out, shape.size(1, 3), options.bias, random, options.dtype);
}

Var Conv1d::operator()(const Var& x) const {
  const Var y = conv1d(x, weight, geometry);
  return bias ? y + reshape(*bias, {bias->value().size(), 1}) : y;
}

}  // namespace banach::nn
