#include <banach/engine/error.hpp>
#include <banach/engine/tape.hpp>
#include <banach/nn/projections.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/order.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/scan.hpp>

#include <fmt/format.h>

#include <cfloat>
#include <cmath>

namespace banach::nn {
namespace {

void check(std::string_view name, const Var& x, const char* what, double size) {
  if (x.rank() == 0 || x.size(-1) == 0)
    fail<ShapeError>(name, fmt::format("expects rows with entries, (...,n): got {}", x.shape().to_string()));
  if (!(size > 0.0 && std::isfinite(size)))
    fail<ValueError>(name, fmt::format("{} must be positive: got {}", what, size));
  if (x.dtype() == DType::f32 && !(static_cast<float>(size) > 0.0f && size <= FLT_MAX))
    fail<ValueError>(name, fmt::format("{} must be positive and finite in f32: got {}", what, size));
}

}  // namespace

Var project_simplex(const Var& x, double total) {
  check("project_simplex", x, "total", total);
  const Var shifted = x - max(x, {-1}, true);  // so that a large common part costs no digits; z is the same
  // z = max(x - tau, 0), and tau is the largest of the values that it would have if the 1, 2, ... largest
  // entries were those above 0. Which these are has no derivative; tau itself has.
  const Var ranks = cumsum(Var(Tensor::ones({x.size(-1)}, x.dtype())), 0);
  const Var candidates = (cumsum(sort(shifted, -1, true).values, -1) - total) / ranks;
  const Var support = greater(shifted, max(candidates, {-1}, true));
  const Var tau = (sum(where(support, shifted, 0.0), {-1}, true) - total) / sum(support, {-1}, true);
  return relu(shifted - tau);
}

Var project_l1_ball(const Var& x, double radius) {
  check("project_l1_ball", x, "radius", radius);
  const Var size = abs(x), inside = less_equal(sum(size, {-1}, true), radius);
  return where(inside, x, sign(x) * project_simplex(size, radius));
}

Var project_ball(const Var& x, double radius) {
  check("project_ball", x, "radius", radius);
  // Multiples of the largest entry, so that no square overflows; or of the radius, where all is smaller.
  const Var largest = max(abs(x), {-1}, true);
  const Var unit = where(less(largest, radius), radius, largest);
  const Var scaled = x / unit, length = norm(scaled, {-1}, 2.0, true);
  const Var inside = less_equal(length, radius / unit);
  return where(inside, x, scaled * (radius / where(inside, 1.0, length)));
}

Var project_box(const Var& x, const Var& lower, const Var& upper) {
  {
    const NoGrad off;
    if (const Var apart = 1.0 - less_equal(lower, upper); sum(apart).item() > 0.0)
      fail<ValueError>("project_box", "lower must be at most upper everywhere: it is not, or one is NaN");
  }
  return where(less(x, lower), lower, where(greater(x, upper), upper, x));
}

Var project_box(const Var& x, double lower, double upper) {
  if (!(lower <= upper))
    fail<ValueError>("project_box", fmt::format("lower must be at most upper: got {} and {}", lower, upper));
  return clamp(x, lower, upper);
}

}  // namespace banach::nn
