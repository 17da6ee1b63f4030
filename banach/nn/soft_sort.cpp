#include <banach/engine/error.hpp>
#include <banach/engine/tape.hpp>
#include <banach/nn/soft_sort.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/index.hpp>
#include <banach/ops/isotonic.hpp>
#include <banach/ops/order.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/scan.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

namespace banach::nn {
namespace {

void check_rows(std::string_view name, const Var& x) {
  if (x.rank() < 1 || x.rank() > 2)
    fail<ShapeError>(name, fmt::format("input must be (batch,n) or (n): got {}", x.shape().to_string()));
  if (!is_floating(x.dtype())) fail<DTypeError>(name, "input must be f32 or f64: got i64 (cast it)");
}

Isotonic regression(std::string_view name, const Var& y, const Var& weights, Policy policy) {
  const Isotonic found = isotonic_regression(y, weights);
  if (policy == Policy::raise) {
    const auto blocks = found.blocks.value().values<std::int64_t>();
    if (std::any_of(blocks.begin(), blocks.end(), [](std::int64_t block) { return block < 0; }))
      fail<SolveError>(name, "rows must be finite: one has a NaN or an infinity");
  }
  return found;
}

// The projection of a / eps onto the permutahedron of b, for rows a and b that rise: a / eps less the
// isotonic regression of a / eps - b (the paper, proposition 3). In each block that is mean(b) + (a -
// mean(a)) / eps, which loses no digits of b where eps is small, and depends on a alone where entries share a
// block.
Var project(std::string_view name, const Var& a, const Var& b, const SoftSortOptions& options) {
  const double eps = options.eps;
  const Var y = eps <= 1.0 ? a - eps * b : a / eps - b;  // the scale is free: so that nothing overflows
  const Var blocks = regression(name, y, {}, options.policy).blocks, one = ones_like(a);
  // Halves where a block may be wider than the largest number; a smaller eps leaves none so wide.
  const double scale = eps <= 1.0 ? 1.0 : 0.5;
  const Var c = scale * a;
  return block_ratio(b, one, blocks) + (c - block_ratio(c, one, blocks)) / (scale * eps);
}

void check_soft(std::string_view name, const Var& x, double eps) {
  check_rows(name, x);
  if (!(eps > 0.0 && std::isfinite(eps)))
    fail<ValueError>(name, fmt::format("eps must be positive: got {}", eps));
  if (x.dtype() == DType::f32 && !(static_cast<float>(eps) > 0.0f && eps <= FLT_MAX))
    fail<ValueError>(name, fmt::format("eps must be positive and finite in f32: got {}", eps));
}

// 1, 2, ... in each row.
Var places(const Var& x) { return cumsum(ones_like(x), -1); }

}  // namespace

Var isotonic(const Var& y, const Var& weights, Policy policy) {
  check_rows("isotonic", y);
  if (weights.defined()) {
    if (weights.shape() != Shape{y.size(-1)} && weights.shape() != y.shape())
      fail<ShapeError>("isotonic", fmt::format("weights must be {}({}): got {}",
                                               y.rank() == 1 ? "" : y.shape().to_string() + " or ",
                                               y.size(-1), weights.shape().to_string()));
    if (weights.dtype() != y.dtype())
      fail<DTypeError>("isotonic", fmt::format("weights must be {} as the input: got {} (cast one)",
                                               banach::name(y.dtype()), banach::name(weights.dtype())));
    const NoGrad off;
    const Var good = greater(weights, 0.0) * less(weights, std::numeric_limits<double>::infinity());
    if (sum(1.0 - good).item() > 0.0)
      fail<ValueError>("isotonic", "weights must be positive and finite: one is not");
  }
  return regression("isotonic", y, weights, policy).values;
}

Var soft_sort(const Var& x, const SoftSortOptions& options) {
  check_soft("soft_sort", x, options.eps);
  const Var rising = project("soft_sort", places(x), sort(x).values, options);
  return options.descending ? flip(rising, {-1}) : rising;
}

Var soft_rank(const Var& x, const SoftSortOptions& options) {
  check_soft("soft_rank", x, options.eps);
  const Ordered sorted = sort(options.descending ? -x : x);
  const Var ranks = project("soft_rank", sorted.values, places(x), options);
  return scatter_add(x.shape(), -1, sorted.indices, ranks);
}

}  // namespace banach::nn
