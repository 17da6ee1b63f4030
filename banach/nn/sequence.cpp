#include <banach/nn/sequence.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

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

void check_sequence(std::string_view cell, const Var& x, std::int64_t width) {
  const std::string given = x.shape().to_string();
  if (x.rank() != 3 || x.size(2) != width)
    fail<ShapeError>(cell, fmt::format("x must be (batch,length,{}): got {}", width, given));
  if (x.size(1) == 0)
    fail<ShapeError>(cell,
                     fmt::format("x must have at least one position: got the empty sequence {}", given));
}

void check_dtype(std::string_view cell, const Var& parameter, const Var& x, const SegmentMemory& memory) {
  const auto check = [&](DType dtype, std::string_view of) {
    if (dtype != parameter.dtype())
      fail<DTypeError>(cell, fmt::format("{} must be {}, as the parameters: got {}", of,
                                         name(parameter.dtype()), name(dtype)));
  };
  check(x.dtype(), "x");
  if (memory.z.defined()) check(memory.z.dtype(), "z of the memory");
  if (memory.x.defined()) check(memory.x.dtype(), "x of the memory");
}

SegmentMemory remember(const SegmentMemory& old, const Tensor& z, const Tensor& x, std::int64_t count) {
  const auto check = [&](const SegmentMemory& at, std::string_view what) {
    const Shape &of_z = at.z.shape(), &of_x = at.x.shape();
    if (of_z.rank() != 3 || of_x.rank() != 3 || of_z[0] != x.shape()[0] || of_x[0] != x.shape()[0] ||
        of_z[1] != of_x[1])
      fail<ShapeError>("remember", fmt::format("{} must be (batch,length,width), of one batch and length: "
                                               "got {} and {}",
                                               what, of_z.to_string(), of_x.to_string()));
  };
  check({z, x}, "z and x");
  if (old.z.defined() != old.x.defined()) fail<ValueError>("remember", "a memory must have both z and x");
  if (old.z.defined()) check(old, "z and x of the memory");
  return {last_positions(old.z, z, count), last_positions(old.x, x, count)};
}

ImplicitSolution run(const SequenceBody& f, const Var& z0, const Depth& depth) {
  if (const auto* tied = std::get_if<WeightTied>(&depth)) return weight_tied(f, z0, *tied);
  return fixed_point(f, z0, std::get<FixedPointOptions>(depth));
}

}  // namespace banach::nn
