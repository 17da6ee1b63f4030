#include <banach/nn/act_norm.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <algorithm>
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

struct Moments {
  double mean = 0, deviation = 0;
};

// Of channel c of x, in double, in units of its largest entry: no square overflows.
template <class T>
Moments moments_of(const Tensor& x, std::int64_t c) {
  const std::int64_t samples = x.size(0), channels = x.size(1), pixels = x.shape().size(2, x.rank());
  const auto each = [&](auto body) {
    for (std::int64_t i = 0; i < samples; ++i) {
      const T* pixel = x.data<T>() + (i * channels + c) * pixels;
      for (std::int64_t k = 0; k < pixels; ++k) body(static_cast<double>(pixel[k]));
    }
  };
  double unit = 0.0;
  each([&](double value) { unit = std::max(unit, std::abs(value)); });
  if (unit == 0.0) return {};
  const auto n = static_cast<double>(samples * pixels);
  double sum = 0.0, squares = 0.0;
  each([&](double value) { sum += value / unit; });
  const double mean = sum / n;
  each([&](double value) { squares += (value / unit - mean) * (value / unit - mean); });
  return {unit * mean, unit * std::sqrt(squares / n)};
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
  Tensor shifts = Tensor::empty(shift.shape(), DType::f64), scales = shifts.clone();
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    constexpr double epsilon = std::numeric_limits<T>::epsilon(), smallest = std::numeric_limits<T>::min();
    for (std::int64_t c = 0; c < shift.size(); ++c) {
      const auto [middle, deviation] = moments_of<T>(x, c);
      if (!(deviation < 1.0 / smallest))
        fail<ValueError>("act_norm",
                         fmt::format("a channel's deviation must be below {:.1e}, or its scale is no number "
                                     "in {}: channel {} has {:.1e}; scale the data down",
                                     1.0 / smallest, name(x.dtype()), c, deviation));
      const bool varies = deviation > 16.0 * epsilon * std::abs(middle);
      shifts.mutable_data<double>()[c] = -middle;
      scales.mutable_data<double>()[c] = varies ? -std::log(deviation) : 0.0;
    }
  });
  shift.set(shifts.to(shift.dtype()));
  log_scale.set(scales.to(log_scale.dtype()));
  *started.value.mutable_data<std::int64_t>() = 1;
}

}  // namespace banach::nn
