#include <banach/nn/flow.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::nn {

Transformed FlowSequence::forward(const Var& x) const {
  Transformed result{x, constant_log_det("flow_sequence", x, 0.0)};
  for (const AnyFlow& flow : flows) {
    Transformed next = flow.forward(result.y);
    result = {std::move(next.y), result.log_det + next.log_det};
  }
  return result;
}

Var FlowSequence::inverse(const Var& y) const {
  Var x = y;
  for (auto flow = flows.rbegin(); flow != flows.rend(); ++flow) x = flow->inverse(x);
  return x;
}

Var constant_log_det(std::string_view name, const Var& x, double value) {
  if (x.rank() < 1) fail<ShapeError>(name, "input must be (batch,...): got a scalar");
  return Var(Tensor::full({x.size(0)}, value, x.dtype()));
}

Var sum_of_samples(const Var& x) {
  Axes others;
  for (int axis = 1; axis < x.rank(); ++axis) others.push_back(axis);
  return others.empty() ? x : sum(x, others);
}

}  // namespace banach::nn
