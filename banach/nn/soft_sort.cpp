#include <banach/engine/error.hpp>
#include <banach/engine/tape.hpp>
#include <banach/nn/soft_sort.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/index.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/order.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/scan.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace banach::nn {
namespace {

void check_rows(std::string_view name, const Var& x) {
  if (x.rank() < 1 || x.rank() > 2)
    fail<ShapeError>(name, fmt::format("input must be (batch,n) or (n): got {}", x.shape().to_string()));
}

// Isotonic regression by its dual, lambda = argmin 1/2 |G'lambda|^2 - y'G'lambda over lambda >= 0, in the
// norm of 1 / w, which takes half of the time. Here v = y - z = G'lambda / w; w undefined: 1.
Var correction(const Var& y, const Var& w, const QpSolveOptions& options) {
  const std::int64_t n = y.size(-1);
  const Var identity(Tensor::eye(n, y.dtype())), signs = -Var(Tensor::eye(n - 1, y.dtype()));
  const Var G = slice(identity, 0, 0, n - 1) - slice(identity, 0, 1, n);  // G z <= 0 where z rises
  const Var scaled = w.defined() ? G / (w.rank() == 2 ? reshape(w, {-1, 1, n}) : w) : G;
  const Var row = reshape(y, {-1, n});
  const QpSolved dual = qp_solve({.Q = matmul(scaled, G, {.transpose_b = true}),
                                  .p = -matmul(row, G, {.transpose_b = true}),
                                  .G = signs,
                                  .h = Var(Tensor::zeros({n - 1}, y.dtype()))},
                                 options);
  // The slack is lambda too, and exactly 0 where nothing is merged.
  const Var pull = matmul(dual.slack, G);
  const Var all = w.defined() ? pull / w : pull;
  if (dual.report.solved()) return reshape(all, y.shape());
  Tensor unsolved = Tensor::zeros({row.size(0), 1}, DType::f64);
  for (std::int64_t i = 0; i < unsolved.size(); ++i)
    if (dual.report.samples[static_cast<std::size_t>(i)].status != QpStatus::solved)
      unsolved.mutable_data<double>()[i] = 1.0;
  // NaN times the row, so that its derivatives are NaN too.
  const double nan = std::numeric_limits<double>::quiet_NaN();
  return reshape(where(Var(unsolved.to(y.dtype())), nan * row, all), y.shape());
}

// The projection of a / eps onto the permutahedron of b, for rows a and b that rise: b + v with v = y - the
// isotonic regression of y = a / eps - b (the paper, proposition 3), here of the size of its larger part.
Var project(const Var& a, const Var& b, double eps, const QpSolveOptions& options) {
  return b + correction((a - eps * b) / (1.0 + eps), {}, options) * ((1.0 + eps) / eps);
}

void check_soft(std::string_view name, const Var& x, double eps) {
  check_rows(name, x);
  if (!(eps > 0.0 && std::isfinite(eps)))
    fail<ValueError>(name, fmt::format("eps must be positive: got {}", eps));
}

// 1, 2, ... in each row.
Var places(const Var& x) { return cumsum(ones_like(x), -1); }

}  // namespace

Var isotonic(const Var& y, const Var& weights, const QpSolveOptions& options) {
  check_rows("isotonic", y);
  if (weights.defined()) {
    if (weights.shape() != Shape{y.size(-1)} && weights.shape() != y.shape())
      fail<ShapeError>("isotonic", fmt::format("weights must be {} or ({}): got {}", y.shape().to_string(),
                                               y.size(-1), weights.shape().to_string()));
    const NoGrad off;
    const Var good = greater(weights, 0.0) * less(weights, std::numeric_limits<double>::infinity());
    if (sum(1.0 - good).item() > 0.0)
      fail<ValueError>("isotonic", "weights must be positive and finite: one is not");
  }
  return y.size(-1) < 2 ? y : y - correction(y, weights, options);
}

Var soft_sort(const Var& x, const SoftSortOptions& options) {
  check_soft("soft_sort", x, options.eps);
  if (x.size(-1) < 2) return x;
  const Var rising = project(places(x), sort(x).values, options.eps, options.solve);
  return options.descending ? flip(rising, {-1}) : rising;
}

Var soft_rank(const Var& x, const SoftSortOptions& options) {
  check_soft("soft_rank", x, options.eps);
  if (x.size(-1) < 2) return ones_like(x);
  const Ordered sorted = sort(options.descending ? -x : x);
  const Var ranks = project(sorted.values, places(x), options.eps, options.solve);
  return scatter_add(x.shape(), -1, sorted.indices, ranks);
}

}  // namespace banach::nn
