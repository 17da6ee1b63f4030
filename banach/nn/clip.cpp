#include <banach/nn/clip.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach::nn {

double global_norm(const Vars& values) {
  PoolVector<double> norms;
  for (const Var& value : values)
    norms.push_back(dispatch_floating(value.dtype(), [&](auto zero) {
      return vec::norm(value.value().data<decltype(zero)>(), value.size());
    }));
  return vec::norm(norms.data(), static_cast<std::int64_t>(norms.size()));
}

double clip_by_global_norm(Vars& gradients, double max_norm) {
  if (!(max_norm > 0.0))
    fail<ValueError>("clip_by_global_norm", fmt::format("max_norm must be above 0: got {}", max_norm));
  const double norm = global_norm(gradients);
  if (std::isfinite(norm) && norm > max_norm)
    for (Var& gradient : gradients) gradient = gradient * (max_norm / norm);
  return norm;
}

void clip_by_value(Vars& gradients, double limit) {
  if (!(limit > 0.0)) fail<ValueError>("clip_by_value", fmt::format("limit must be above 0: got {}", limit));
  for (Var& gradient : gradients) gradient = clamp(gradient, -limit, limit);
}

}  // namespace banach::nn
