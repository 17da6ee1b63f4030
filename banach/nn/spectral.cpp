#include <banach/nn/spectral.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

namespace banach::nn {
namespace {

double checked_bound(double bound) {
  if (!(bound > 0.0)) fail<ValueError>("spectral", fmt::format("bound must be above 0: got {}", bound));
  return bound;
}

// w min(1, bound / sigma), without a division by zero for sigma = 0.
Var bounded(const Var& w, const Var& sigma, double bound) { return w * (bound / maximum(sigma, bound)); }

Shape image_output(const Conv2d& layer, std::int64_t in, Pair image) {
  const NoGrad off;
  const Tensor& w = layer.weight.value();
  return conv2d(Var(Tensor::zeros({1, in, image.h, image.w}, w.dtype())), Var(w), layer.geometry).shape();
}

}  // namespace

SpectralLinear::SpectralLinear(std::int64_t in, std::int64_t out, Random& random,
                               const SpectralOptions& spectral, const LinearOptions& options)
    : bound(checked_bound(spectral.bound)), power({in, 1}, {out, 1}, options.dtype, spectral.power) {
  Linear start(in, out, random, options);
  raw_weight = std::move(start.weight);
  bias = std::move(start.bias);
}

Var SpectralLinear::singular_value(const Var& w) const {
  const Var matrix = w.detach();
  power.update(
      raw_weight, matrix.value(), [&](const Tensor& v) { return matmul(matrix, Var(v)).value(); },
      [&](const Tensor& u) { return matmul(matrix, Var(u), {.transpose_a = true}).value(); });
  const Var left(power.left()), right(power.right());
  return reshape(matmul(left, matmul(w, right), {.transpose_a = true}), {});
}

Var SpectralLinear::singular_value() const { return singular_value(raw_weight); }

Var SpectralLinear::weight() const {
  const Var w = raw_weight;
  return bounded(w, singular_value(w), bound);
}

SpectralConv2d::SpectralConv2d(std::int64_t in, std::int64_t out, Pair kernel, Pair size, Random& random,
                               const SpectralOptions& spectral, const ConvOptions& options)
    : SpectralConv2d(Conv2d(in, out, kernel, random, options), in, size, spectral) {}

SpectralConv2d::SpectralConv2d(Conv2d start, std::int64_t in, Pair size, const SpectralOptions& spectral)
    : geometry(start.geometry),
      image(size),
      bound(checked_bound(spectral.bound)),
      power({1, in, size.h, size.w}, image_output(start, in, size), start.weight.dtype(), spectral.power) {
  raw_weight = std::move(start.weight);
  bias = std::move(start.bias);
}

Var SpectralConv2d::singular_value(const Var& w) const {
  const Var filters = w.detach();
  power.update(
      raw_weight, filters.value(), [&](const Tensor& v) { return conv2d(Var(v), filters, geometry).value(); },
      [&](const Tensor& u) { return conv2d_input_grad(Var(u), filters, image, geometry).value(); });
  return sum(Var(power.left()) * conv2d(Var(power.right()), w, geometry));
}

Var SpectralConv2d::singular_value() const { return singular_value(raw_weight); }

Var SpectralConv2d::weight() const {
  const Var w = raw_weight;
  return bounded(w, singular_value(w), bound);
}

}  // namespace banach::nn
