#include <banach/nn/sequence.hpp>
#include <banach/ops/shape_ops.hpp>

#include <algorithm>

namespace banach::nn {

Tensor last_positions(const Tensor& before, const Tensor& now, std::int64_t count) {
  const NoGrad off;
  const std::int64_t length = now.shape()[1], taken = std::min(count, length);
  const Var newest = slice(Var(now), 1, length - taken, length);
  const std::int64_t older = before.defined() ? std::min(count - taken, before.shape()[1]) : 0;
  if (older > 0)
    return concat({slice(Var(before), 1, before.shape()[1] - older, before.shape()[1]), newest}, 1).value();
  return taken > 0 ? newest.value() : Tensor();
}

ImplicitSolution run(const SequenceBody& f, const Var& z0, const Depth& depth) {
  if (const auto* tied = std::get_if<WeightTied>(&depth)) return weight_tied(f, z0, *tied);
  return fixed_point(f, z0, std::get<FixedPointOptions>(depth));
}

}  // namespace banach::nn
