#include <banach/nn/squeeze.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

namespace banach::nn {

Squeeze::Squeeze(std::int64_t f) : factor(f) {
  if (factor < 1) fail<ValueError>("squeeze", fmt::format("factor must be at least 1: got {}", factor));
}

Transformed Squeeze::forward(const Var& x) const {
  if (x.rank() != 4 || x.size(2) % factor != 0 || x.size(3) % factor != 0)
    fail<ShapeError>("squeeze", fmt::format("input must be (n,c,h,w) with h and w divisible by {}: got {}",
                                            factor, x.shape().to_string()));
  const std::int64_t n = x.size(0), c = x.size(1), h = x.size(2) / factor, w = x.size(3) / factor;
  const Var squares = permute(reshape(x, {n, c, h, factor, w, factor}), {0, 1, 3, 5, 2, 4});
  return {reshape(squares, {n, c * factor * factor, h, w}), constant_log_det("squeeze", x, 0.0)};
}

Var Squeeze::inverse(const Var& y) const {
  if (y.rank() != 4 || y.size(1) % (factor * factor) != 0)
    fail<ShapeError>("squeeze",
                     fmt::format("the inverse's input must be (n,c,h,w) with c divisible by {}: got {}",
                                 factor * factor, y.shape().to_string()));
  const std::int64_t n = y.size(0), c = y.size(1) / (factor * factor), h = y.size(2), w = y.size(3);
  const Var squares = permute(reshape(y, {n, c, factor, factor, h, w}), {0, 1, 4, 2, 5, 3});
  return reshape(squares, {n, c, h * factor, w * factor});
}

}  // namespace banach::nn
