#include <banach/nn/linear.hpp>
#include <banach/nn/norm.hpp>
#include <banach/ops/norm.hpp>

#include <fmt/format.h>

namespace banach::nn {
namespace {

void check_options(std::string_view layer, std::int64_t channels, double eps) {
  if (channels < 1) fail<ValueError>(layer, fmt::format("expects at least 1 feature: got {}", channels));
  if (!(eps >= 0.0)) fail<ValueError>(layer, fmt::format("eps must be at least 0: got {}", eps));
}

}  // namespace

LayerNorm::LayerNorm(std::int64_t n, const LayerNormOptions& options) : features(n), eps(options.eps) {
  check_options("layer_norm", n, eps);
  if (!options.affine) return;
  weight = Parameter(Tensor::ones({n}, options.dtype));
  bias = Parameter(Tensor::zeros({n}, options.dtype));
}

Var LayerNorm::operator()(const Var& x) const {
  if (x.rank() == 0 || x.size(-1) != features)
    fail<ShapeError>("layer_norm",
                     fmt::format("input must end in {} features: got {}", features, x.shape().to_string()));
  return weight ? layer_norm(x, *weight, *bias, eps) : normalize(x, eps);
}

BatchNorm::BatchNorm(std::int64_t channels, const BatchNormOptions& options)
    : running_mean{Tensor::zeros({channels}, options.dtype)},
      running_variance{Tensor::ones({channels}, options.dtype)},
      eps(options.eps),
      momentum(options.momentum) {
  check_options("batch_norm", channels, eps);
  if (!(momentum >= 0.0 && momentum <= 1.0))
    fail<ValueError>("batch_norm", fmt::format("momentum must lie in [0, 1]: got {}", momentum));
  if (!options.affine) return;
  weight = Parameter(Tensor::ones({channels}, options.dtype));
  bias = Parameter(Tensor::zeros({channels}, options.dtype));
}

void BatchNorm::check(const Shape& x) const {
  const std::int64_t channels = running_mean.value.size();
  if ((x.rank() != 2 && x.rank() != 4) || x[1] != channels)
    fail<ShapeError>("batch_norm", fmt::format("input must be (n,{}) or (n,{},h,w): got {}", channels,
                                               channels, x.to_string()));
  if (mode.training && x.size() <= channels)
    fail<ShapeError>("batch_norm",
                     fmt::format("a channel must have more than one value in training: got {} (a batch of "
                                 "one? see LoaderOptions::drop_last and nn::eval)",
                                 x.to_string()));
}

Var BatchNorm::operator()(const Var& x) const {
  check(x.shape());
  const Var scale = detail::optional_var(weight), shift = detail::optional_var(bias);
  if (!mode.training)
    return batch_norm_by(x, Var(running_mean.value), Var(running_variance.value), scale, shift, eps);
  const auto [y, average, variance] = batch_norm(x, scale, shift, eps);
  // Not in a rehearsal for replays, which a solve makes where it starts.
  if (recording() && !Tape::current()->replays())
    move_running(average.value(), variance.value(), x.size() / running_mean.value.size());
  return y;
}

GroupNorm::GroupNorm(std::int64_t number, std::int64_t channels, const GroupNormOptions& options)
    : groups(number), eps(options.eps) {
  check_options("group_norm", channels, eps);
  if (groups < 1 || channels % groups != 0)
    fail<ValueError>("group_norm",
                     fmt::format("groups must divide the channels: {} for {}", groups, channels));
  if (!options.affine) return;
  weight = Parameter(Tensor::ones({channels}, options.dtype));
  bias = Parameter(Tensor::zeros({channels}, options.dtype));
}

Var GroupNorm::operator()(const Var& x) const {
  return group_norm(x, groups, detail::optional_var(weight), detail::optional_var(bias), eps);
}

void BatchNorm::move_running(const Tensor& average, const Tensor& variance, std::int64_t count) const {
  if (!average.all_finite() || !variance.all_finite()) return;
  const auto move = [&](Tensor& running, const Tensor& newest, double factor) {
    dispatch_floating(running.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T* out = running.mutable_data<T>();
      const T* in = newest.data<T>();
      for (std::int64_t c = 0; c < running.size(); ++c)
        out[c] = static_cast<T>((1.0 - momentum) * static_cast<double>(out[c]) +
                                momentum * factor * static_cast<double>(in[c]));
    });
  };
  move(running_mean.value, average, 1.0);
  move(running_variance.value, variance, static_cast<double>(count) / static_cast<double>(count - 1));
}

}  // namespace banach::nn
