#include <banach/nn/singular_bound.hpp>
#include <banach/nn/spectral.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/reduce.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach::nn {
namespace {

double checked_bound(double bound) {
  if (!(bound > 0.0 && std::isfinite(bound)))
    fail<ValueError>("spectral", fmt::format("bound must be above 0 and finite: got {}", bound));
  return bound;
}

std::optional<Buffer> upper_of(const SpectralOptions& options) {
  if (!options.certified) return {};
  return Buffer{scalar(0.0, DType::f64)};
}

Shape image_output(const Conv2d& layer, std::int64_t in, Pair image) {
  const NoGrad off;
  const Tensor& w = layer.weight.value();
  return conv2d(Var(Tensor::zeros({1, in, image.h, image.w}, w.dtype())), Var(w), layer.geometry).shape();
}

// body(map) with the layer's linear map.
template <class Body>
auto with_map(const SpectralLinear& layer, Body body) {
  const auto apply = [](const Var& w, const Var& x) { return matmul(w, x); };
  const auto transposed = [](const Var& w, const Var& y) { return matmul(w, y, {.transpose_a = true}); };
  return body(WeightedMap{layer.power.right().shape(), layer.power.left().shape(), apply, transposed});
}
template <class Body>
auto with_map(const SpectralConv2d& layer, Body body) {
  const auto apply = [&](const Var& w, const Var& x) { return conv2d(x, w, layer.geometry); };
  const auto transposed = [&](const Var& w, const Var& y) {
    return conv2d_input_grad(y, w, layer.image, layer.geometry);
  };
  return body(WeightedMap{layer.power.right().shape(), layer.power.left().shape(), apply, transposed});
}

// A bound after every update must be cheap. Who asks for one waits up to a second for it.
constexpr std::int64_t dense_at_updates = 128, dense_on_request = 1024;

double singular_bound_of(const SpectralLinear&, const Tensor& w, std::int64_t) { return singular_bound(w); }
double singular_bound_of(const SpectralConv2d& layer, const Tensor& w, std::int64_t most_dense) {
  return conv_singular_bound(w, layer.image, layer.geometry, most_dense);
}

template <class Layer>
double upper_bound(const Layer& layer, const Tensor& w, const WeightedMap& map, std::int64_t most_dense) {
  return induced_norm_bound(map, w, layer.power.norm(), singular_bound_of(layer, w, most_dense));
}

// The estimate u^T A(w) v, with u and v up to date.
template <class Layer>
Var estimate(const Layer& layer, const Var& w) {
  return with_map(layer, [&](const WeightedMap& map) {
    const bool changed = layer.power.update(layer.raw_weight, w.value(), map);
    if (changed && layer.upper)
      layer.upper->value = scalar(upper_bound(layer, w.value(), map, dense_at_updates), DType::f64);
    return sum(Var(layer.power.left()) * map.apply(w, Var(layer.power.right())));
  });
}

// w min(1, bound / norm), without a division by zero for a norm of 0.
template <class Layer>
Var bounded_weight(const Layer& layer) {
  const Var w = layer.raw_weight;
  Var norm = estimate(layer, w);
  if (layer.upper) {
    const double upper = layer.upper->value.item(), value = norm.item();
    norm = value > 0.0 ? norm * (upper / value) : Var(scalar(upper, w.dtype()));
  }
  return w * (layer.bound / maximum(norm, layer.bound));
}

template <class Layer>
NormBounds bounds_of(const Layer& layer) {
  const NoGrad off;
  const Var w = layer.weight();
  return with_map(layer, [&](const WeightedMap& map) {
    const double found = sum(Var(layer.power.left()) * map.apply(w, Var(layer.power.right()))).item();
    return NormBounds{found, upper_bound(layer, w.value(), map, dense_on_request)};
  });
}

}  // namespace

SpectralLinear::SpectralLinear(std::int64_t in, std::int64_t out, Random& random,
                               const SpectralOptions& spectral, const LinearOptions& options)
    : bound(checked_bound(spectral.bound)),
      power({in, 1}, {out, 1}, options.dtype, spectral.power, spectral.norm),
      upper(upper_of(spectral)) {
  Linear start(in, out, random, options);
  raw_weight = std::move(start.weight);
  bias = std::move(start.bias);
}

Var SpectralLinear::singular_value() const { return estimate(*this, raw_weight); }
Var SpectralLinear::weight() const { return bounded_weight(*this); }
NormBounds SpectralLinear::lipschitz() const { return bounds_of(*this); }

SpectralConv2d::SpectralConv2d(std::int64_t in, std::int64_t out, Pair kernel, Pair size, Random& random,
                               const SpectralOptions& spectral, const ConvOptions& options)
    : SpectralConv2d(Conv2d(in, out, kernel, random, options), in, size, spectral) {}

SpectralConv2d::SpectralConv2d(Conv2d start, std::int64_t in, Pair size, const SpectralOptions& spectral)
    : geometry(start.geometry),
      image(size),
      bound(checked_bound(spectral.bound)),
      power({1, in, size.h, size.w}, image_output(start, in, size), start.weight.dtype(), spectral.power,
            spectral.norm),
      upper(upper_of(spectral)) {
  raw_weight = std::move(start.weight);
  bias = std::move(start.bias);
}

Var SpectralConv2d::singular_value() const { return estimate(*this, raw_weight); }
Var SpectralConv2d::weight() const { return bounded_weight(*this); }
NormBounds SpectralConv2d::lipschitz() const { return bounds_of(*this); }

}  // namespace banach::nn
