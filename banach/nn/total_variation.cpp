#include <banach/engine/error.hpp>
#include <banach/nn/total_variation.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach::nn {
namespace {

// (n-1,n): row i times z is z[i+1] - z[i].
Tensor first_differences(std::int64_t n, DType dtype) {
  Tensor d = Tensor::zeros({n - 1, n}, DType::f64);
  for (std::int64_t i = 0; i < n - 1; ++i) {
    d.mutable_data<double>()[i * n + i] = -1.0;
    d.mutable_data<double>()[i * n + i + 1] = 1.0;
  }
  return d.to(dtype);
}

}  // namespace

TotalVariation::TotalVariation(std::int64_t n, const TotalVariationOptions& options) : solve(options.solve) {
  if (n < 2)
    fail<ValueError>("total_variation", fmt::format("a signal must have 2 values or more: got {}", n));
  if (!(options.lambda > 0.0 && std::isfinite(options.lambda)))
    fail<ValueError>("total_variation", fmt::format("lambda must be positive: got {}", options.lambda));
  D = Parameter(first_differences(n, options.dtype));
  D.set_trainable(options.learn_D);
  log_lambda = Parameter(Tensor::full({1}, std::log(options.lambda), options.dtype));
}

TotalVariation::Output TotalVariation::operator()(const Var& y) const {
  const std::int64_t rows = D.shape()[0], n = D.shape()[1];
  if (y.rank() < 1 || y.rank() > 2 || y.size(-1) != n)
    fail<ShapeError>("total_variation",
                     fmt::format("input must be (batch,{}) or ({}): got {}", n, n, y.shape().to_string()));
  if (y.dtype() != D.dtype())
    fail<DTypeError>("total_variation", fmt::format("input must be {}, as the parameters are: got {}",
                                                    name(D.dtype()), name(y.dtype())));
  if (y.rank() == 1) {
    Output one = (*this)(reshape(y, {1, n}));
    return {reshape(one.z, {n}), reshape(one.w, {rows}), one.report, one.adjoint};
  }
  const Var d = D, identity(Tensor::eye(rows, y.dtype()));
  const QpSolved dual = qp_solve({.Q = matmul(d, d, {.transpose_b = true}),
                                  .p = -matmul(y, d, {.transpose_b = true}),
                                  .G = concat({identity, -identity}, 0),
                                  .h = broadcast_to(exp(log_lambda), {2 * rows})},
                                 solve);
  return {y - matmul(dual.z, d), dual.z, dual.report, dual.adjoint};
}

}  // namespace banach::nn
