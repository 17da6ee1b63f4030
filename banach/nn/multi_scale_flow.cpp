#include <banach/nn/multi_scale_flow.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

namespace banach::nn {

FactorOut::Halves FactorOut::forward(const Var& x) const {
  if (x.rank() < 2 || x.size(1) % 2 != 0)
    fail<ShapeError>("factor_out", "input must have an even number of channels, to be halved: got " +
                                       x.shape().to_string());
  const std::int64_t channels = x.size(1);
  return {slice(x, 1, 0, channels / 2), slice(x, 1, channels / 2, channels)};
}

Var FactorOut::inverse(const Halves& y) const { return concat({y.gone, y.rest}, 1); }

MultiScaleFlow::MultiScaleFlow(std::vector<AnyFlow> parts) : levels(std::move(parts)) {
  if (levels.empty()) fail<ValueError>("multi_scale_flow", "expects at least one level: got none");
}

MultiScaleTransformed MultiScaleFlow::forward(const Var& x) const {
  MultiScaleTransformed result{{}, constant_log_det("multi_scale_flow", x, 0.0)};
  Var state = x;
  for (const AnyFlow& level : levels) {
    const Transformed next = level.forward(state);
    result.log_det = result.log_det + next.log_det;
    if (&level == &levels.back()) {
      result.z.push_back(next.y);
      break;
    }
    FactorOut::Halves halves = FactorOut().forward(next.y);
    result.z.push_back(std::move(halves.gone));
    state = std::move(halves.rest);
  }
  return result;
}

Var MultiScaleFlow::inverse(const Vars& z) const {
  if (z.size() != levels.size())
    fail<ShapeError>("multi_scale_flow",
                     fmt::format("expects one part a level: got {} for {}", z.size(), levels.size()));
  Var state = levels.back().inverse(z.back());
  for (std::size_t i = levels.size() - 1; i-- > 0;)
    state = levels[i].inverse(FactorOut().inverse({z[i], state}));
  return state;
}

}  // namespace banach::nn
