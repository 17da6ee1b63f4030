#include <banach/nn/init.hpp>
#include <banach/nn/mondeq.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach::nn {

MonDeq::MonDeq(std::int64_t in, std::int64_t out, Random& random, const MonDeqOptions& options)
    : inject(in, out, random, {.dtype = options.dtype}),
      monotonicity(options.monotonicity),
      solve(options.solve) {
  if (!(monotonicity > 0.0 && std::isfinite(monotonicity)))
    fail<ValueError>("mondeq", fmt::format("monotonicity must be positive: got {}", monotonicity));
  const double limit = 1.0 / std::sqrt(static_cast<double>(out));
  A = Parameter(init::uniform({out, out}, -limit, limit, random, options.dtype));
  B = Parameter(init::uniform({out, out}, -limit, limit, random, options.dtype));
}

Var MonDeq::weight() const {
  const Var a = A, b = B;
  const Var identity(Tensor::eye(a.size(0), a.dtype()));
  return (1.0 - monotonicity) * identity - matmul(a, a, {.transpose_a = true}) + b - transpose(b);
}

}  // namespace banach::nn
