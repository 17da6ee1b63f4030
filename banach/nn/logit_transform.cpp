#include <banach/nn/logit_transform.hpp>
#include <banach/ops/elementwise.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach::nn {

LogitTransform::LogitTransform(double a) : alpha(a) {
  if (!(alpha >= 0.0 && alpha < 0.5))
    fail<ValueError>("logit_transform", fmt::format("alpha must lie in [0, 1/2): got {}", alpha));
}

Transformed LogitTransform::forward(const Var& x) const {
  if (x.rank() < 1) fail<ShapeError>("logit_transform", "input must be (batch,...): got a scalar");
  const double width = 1.0 - 2.0 * alpha;
  const Var below = log(x * width + alpha), above = log((1.0 - x) * width + alpha);
  return {below - above, sum_of_samples(std::log(width) - below - above)};
}

Var LogitTransform::inverse(const Var& y) const { return (sigmoid(y) - alpha) * (1.0 / (1.0 - 2.0 * alpha)); }

}  // namespace banach::nn
