#include <banach/engine/error.hpp>
#include <banach/engine/tape.hpp>
#include <banach/nn/soft_sort.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/index.hpp>
#include <banach/ops/linalg.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/order.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/scan.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach::nn {
namespace {

void check_rows(std::string_view name, const Var& x) {
  if (x.rank() < 1 || x.rank() > 2)
    fail<ShapeError>(name, fmt::format("input must be (batch,n) or (n): got {}", x.shape().to_string()));
}

// Row i times z is z[i] - z[i+1]: at most 0 where z rises. For n >= 1.
Var falls(std::int64_t n, DType dtype) {
  const Var identity(Tensor::eye(n, dtype));
  return slice(identity, 0, 0, n - 1) - slice(identity, 0, 1, n);
}

// The projection of a / eps onto the permutahedron of b, for rows a and b that rise: b + v with v = y - the
// isotonic regression of y = a / eps - b (the paper, proposition 3). v = G'lambda is taken from the
// multipliers, as those are exactly 0 where nothing is merged, and y is scaled to the size of its larger
// part.
Var project(const Var& a, const Var& b, double eps, const QpSolveOptions& options) {
  const std::int64_t n = a.size(-1);
  const Var G = falls(n, a.dtype()), y = (a - eps * b) / (1.0 + eps);
  const QpSolved s = qp_solve(
      {.Q = Var(Tensor::eye(n, a.dtype())), .p = -y, .G = G, .h = Var(Tensor::zeros({n - 1}, a.dtype()))},
      options);
  const Var v = reshape(matmul(reshape(s.lambda, {-1, n - 1}), G), y.shape());
  return b + v * ((1.0 + eps) / eps);
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
  const std::int64_t n = y.size(-1);
  const Var w = weights.defined() ? weights : Var(Tensor::ones({n}, y.dtype()));
  {
    const NoGrad off;
    if (sum(1.0 - greater(w, 0.0)).item() > 0.0) fail<ValueError>("isotonic", "weights must be positive");
  }
  if (n < 2) return y;
  return qp_solve({.Q = diagonal_matrix(w),
                   .p = -(w * y),
                   .G = falls(n, y.dtype()),
                   .h = Var(Tensor::zeros({n - 1}, y.dtype()))},
                  options)
      .z;
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
