#include <banach/nn/conv.hpp>
#include <banach/nn/init.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach::nn {

Var conv2d_with_bias(const Var& x, const Var& weight, const Var& bias, const Conv2dOptions& geometry) {
  const Var y = conv2d(x, weight, geometry);
  return bias.defined() ? y + reshape(bias, {bias.size(), 1, 1}) : y;
}

Conv2d::Conv2d(std::int64_t in, std::int64_t out, Pair kernel, Random& random, const ConvOptions& options)
    : geometry(options.geometry()) {
  if (in < 1 || out < 1 || kernel.h < 1 || kernel.w < 1)
    fail<ValueError>(
        "conv2d", fmt::format("channels and kernel must be at least 1: got {} to {} channels, kernel ({},{})",
                              in, out, kernel.h, kernel.w));
  if (options.groups < 1 || in % options.groups != 0 || out % options.groups != 0)
    fail<ValueError>("conv2d", fmt::format("groups must divide both numbers of channels: {} for {} to {}",
                                           options.groups, in, out));
  const Shape shape{out, in / options.groups, kernel.h, kernel.w};
  const double limit = 1.0 / std::sqrt(static_cast<double>(init::fans(shape).in));
  weight = Parameter(init::uniform(shape, -limit, limit, random, options.dtype));
  if (options.bias) bias = Parameter(init::uniform({out}, -limit, limit, random, options.dtype));
}

Var Conv2d::operator()(const Var& x) const {
  return conv2d_with_bias(x, weight, detail::optional_var(bias), geometry);
}

}  // namespace banach::nn
