#include <banach/engine/error.hpp>
#include <banach/nn/init.hpp>
#include <banach/nn/optnet.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/linalg.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach::nn {
namespace {

// M z for one z.
Var times(const Var& m, const Var& z) { return reshape(matmul(m, reshape(z, {-1, 1})), {-1}); }

}  // namespace

OptNet::OptNet(std::int64_t n, Random& random, const OptNetOptions& options)
    : features(n), nonnegative(options.nonnegative), eps(options.eps), solve(options.solve) {
  const std::int64_t m = options.inequalities, e = options.equalities;
  const DType dtype = options.dtype;
  if (n < 1) fail<ValueError>("optnet", fmt::format("features must be at least 1: got {}", n));
  if (m < 0 || e < 0)
    fail<ValueError>("optnet",
                     fmt::format("inequalities and equalities must be at least 0: got {} and {}", m, e));
  if (!(eps > 0.0 && std::isfinite(eps)))
    fail<ValueError>("optnet", fmt::format("eps must be positive: got {}", eps));

  if (options.learn_Q) L = Parameter(Tensor::eye(n, dtype));
  if (m > 0) {
    const double limit = std::sqrt(3.0 / static_cast<double>(n));
    G = Parameter(init::uniform({m, n}, -limit, limit, random, dtype));
    log_s0 = Parameter(init::zeros({m}, dtype));
  }
  if (e > 0) A = Parameter(init::uniform({e, n}, 0.0, 1.0, random, dtype));
  if (m > 0 || e > 0) (nonnegative ? log_z0 : z0) = Parameter(init::zeros({n}, dtype));
}

QpParameters OptNet::problem(const Var& p) const {
  if (p.rank() < 1 || p.rank() > 2 || p.size(-1) != features)
    fail<ShapeError>("optnet", fmt::format("input must be (batch,{}) or ({}): got {}", features, features,
                                           p.shape().to_string()));
  for (const auto* part : {&L, &G, &A, &z0, &log_z0})
    if (*part && (*part)->dtype() != p.dtype())
      fail<DTypeError>("optnet", fmt::format("input must be {}, as the parameters are: got {}",
                                             name((*part)->dtype()), name(p.dtype())));
  const Var identity(Tensor::eye(features, p.dtype()));
  QpParameters all{.Q = eps * identity, .p = p};
  if (L) {
    const Var l = tril(*L);
    all.Q = matmul(l, l, {.transpose_b = true}) + all.Q;
  }
  const Var start = log_z0 ? exp(*log_z0) : z0 ? z0->var() : Var();
  if (A) all.A = *A, all.b = times(all.A, start);
  if (G) all.G = *G, all.h = times(all.G, start) + exp(*log_s0);
  if (nonnegative) {
    const Var zero(Tensor::zeros({features}, p.dtype()));
    all.G = G ? concat({-identity, all.G}, 0) : -identity;
    all.h = G ? concat({zero, all.h}, 0) : zero;
  }
  return all;
}

QpSolved OptNet::operator()(const Var& x) const { return qp_solve(problem(-x), solve); }

}  // namespace banach::nn
