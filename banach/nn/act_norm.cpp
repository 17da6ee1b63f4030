#include <banach/nn/act_norm.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace banach::nn {
namespace {

void check(const Var& x, const Parameter& shift) {
  const std::int64_t channels = shift.size();
  if ((x.rank() != 2 && x.rank() != 4) || x.size(1) != channels)
    fail<ShapeError>("act_norm", fmt::format("input must be (n,{}) or (n,{},h,w): got {}", channels, channels,
                                             x.shape().to_string()));
  if (x.dtype() != shift.dtype())
    fail<DTypeError>("act_norm", fmt::format("input must be {} as the parameters are: got {}",
                                             name(shift.dtype()), name(x.dtype())));
}

// A value a channel, as it stands beside x.
Var beside(const Parameter& values, const Var& x) {
  return x.rank() == 2 ? values.var() : reshape(values, {values.size(), 1, 1});
}

}  // namespace

ActNorm::ActNorm(std::int64_t channels, DType dtype) : started{Tensor::zeros({}, DType::i64)} {
  if (channels < 1)
    fail<ValueError>("act_norm", fmt::format("channels must be at least 1: got {}", channels));
  shift = Parameter(Tensor::zeros({channels}, dtype));
  log_scale = Parameter(Tensor::zeros({channels}, dtype));
}

Transformed ActNorm::forward(const Var& x) const {
  check(x, shift);
  if (mode.training && started.value.item() == 0.0) start_from(x.value());
  const auto pixels = static_cast<double>(x.shape().size(2, x.rank()));
  return {(x + beside(shift, x)) * exp(beside(log_scale, x)),
          broadcast_to(sum(log_scale) * pixels, {x.size(0)})};
}

Var ActNorm::inverse(const Var& y) const {
  check(y, shift);
  return y * exp(-beside(log_scale, y)) - beside(shift, y);
}

void ActNorm::start_from(const Tensor& x) const {
  if (x.size() == 0 || !x.all_finite()) return;
  const NoGrad off;
  const Axes axes = x.rank() == 2 ? Axes{0} : Axes{0, 2, 3};
  const Var average = mean(Var(x), axes), variance = var(Var(x), axes, 0);
  Tensor shifts = Tensor::empty(shift.shape(), DType::f64), scales = shifts.clone();
  const double epsilon = x.dtype() == DType::f32 ? std::numeric_limits<float>::epsilon()
                                                 : std::numeric_limits<double>::epsilon();
  for (std::int64_t c = 0; c < shift.size(); ++c) {
    const double middle = average.value().at(c), deviation = std::sqrt(variance.value().at(c));
    if (!std::isfinite(deviation))
      fail<ValueError>(
          "act_norm",
          fmt::format("a channel's variance must be finite to start from: channel {}'s overflows {}", c,
                      name(x.dtype())));
    const bool varies = deviation > 16.0 * epsilon * std::abs(middle);
    shifts.mutable_data<double>()[c] = -middle;
    scales.mutable_data<double>()[c] = varies ? -std::log(deviation) : 0.0;
  }
  shift.set(shifts.to(shift.dtype()));
  log_scale.set(scales.to(log_scale.dtype()));
  *started.value.mutable_data<std::int64_t>() = 1;
}

}  // namespace banach::nn
