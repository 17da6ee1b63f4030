#include <banach/nn/multi_scale_flow.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

namespace banach::nn {

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
    if (next.y.rank() < 2 || next.y.size(1) % 2 != 0)
      fail<ShapeError>("multi_scale_flow",
                       "an even number of channels must come from every level but the last, "
                       "to be halved: got " +
                           next.y.shape().to_string());
    const std::int64_t channels = next.y.size(1);
    result.z.push_back(slice(next.y, 1, 0, channels / 2));
    state = slice(next.y, 1, channels / 2, channels);
  }
  return result;
}

Var MultiScaleFlow::inverse(const Vars& z) const {
  if (z.size() != levels.size())
    fail<ShapeError>("multi_scale_flow",
                     fmt::format("expects one part a level: got {} for {}", z.size(), levels.size()));
  Var state = levels.back().inverse(z.back());
  for (std::size_t i = levels.size() - 1; i-- > 0;) state = levels[i].inverse(concat({z[i], state}, 1));
  return state;
}

}  // namespace banach::nn
