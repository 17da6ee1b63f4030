#include <banach/nn/lipschitz_activation.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/order.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

namespace banach::nn {
namespace {

// x as (outer, group, inner), groups along the middle axis.
Var grouped(const Var& x, std::int64_t group, int axis) {
  if (group < 1) fail<ValueError>("group_sort", fmt::format("group must be at least 1: got {}", group));
  const int at = normalize_axis(axis, x.rank(), "group_sort");
  const std::int64_t extent = x.size(at);
  if (extent % group != 0)
    fail<ShapeError>("group_sort", fmt::format("group must divide the axis: {} for axis {} of {}", group, at,
                                               x.shape().to_string()));
  return reshape(x, {x.shape().size(0, at) * (extent / group), group, x.shape().size(at + 1, x.rank())});
}

}  // namespace

LipSwish::LipSwish(DType dtype) : raw_beta(scalar(0.5, dtype)) {}

Var LipSwish::operator()(const Var& x) const { return x * sigmoid(x * softplus(raw_beta)) * (1.0 / 1.1); }

Var group_sort(const Var& x, std::int64_t group, int axis) {
  return reshape(sort(grouped(x, group, axis), 1).values, x.shape());
}

Var max_min(const Var& x, int axis) {
  const Var pairs = grouped(x, 2, axis), first = slice(pairs, 1, 0, 1), second = slice(pairs, 1, 1, 2);
  return reshape(concat({minimum(first, second), maximum(first, second)}, 1), x.shape());
}

}  // namespace banach::nn
