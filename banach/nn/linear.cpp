#include <banach/nn/init.hpp>
#include <banach/nn/linear.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach::nn {

Var linear(const Var& x, const Var& weight, const Var& bias) {
  const std::int64_t in = weight.size(1), out = weight.size(0);
  const Shape& shape = x.shape();
  if (shape.rank() == 0 || shape[shape.rank() - 1] != in)
    fail<ShapeError>(
        "linear", fmt::format("input must end in {} features, (...,{}): got {}{}", in, in, shape.to_string(),
                              shape.rank() > 2 && shape.size(1, shape.rank()) == in ? " (flatten it)" : ""));
  if (shape.rank() == 1) return reshape(linear(reshape(x, {1, in}), weight, bias), {out});
  if (bias.defined()) return matmul_add(x, weight, bias, {.transpose_b = true});
  return matmul(x, weight, {.transpose_b = true});
}

Linear::Linear(std::int64_t in, std::int64_t out, Random& random, const LinearOptions& options) {
  if (in < 1 || out < 1)
    fail<ValueError>("linear", fmt::format("features must be at least 1: got {} to {}", in, out));
  const double limit = 1.0 / std::sqrt(static_cast<double>(in));
  weight = Parameter(init::uniform({out, in}, -limit, limit, random, options.dtype));
  if (options.bias) bias = Parameter(init::uniform({out}, -limit, limit, random, options.dtype));
}

Var Linear::operator()(const Var& x) const { return linear(x, weight, detail::optional_var(bias)); }

}  // namespace banach::nn
