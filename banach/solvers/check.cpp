#include <banach/solvers/check.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach {

void check_state(std::string_view op, std::string_view what, const Tensor& state) {
  if (state.rank() != 2)
    fail<ShapeError>(op, fmt::format("{} must be (batch, n): got {}", what, state.shape().to_string()));
  if (!is_floating(state.dtype()))
    fail<DTypeError>(op, fmt::format("{} must be f32 or f64: got {}", what, name(state.dtype())));
}

void check_map(std::string_view op, const Tensor& argument, const Tensor& value) {
  if (value.shape() != argument.shape())
    fail<ShapeError>(op, fmt::format("the map must keep the shape: {} -> {}", argument.shape().to_string(),
                                     value.shape().to_string()));
  if (value.dtype() != argument.dtype())
    fail<DTypeError>(op, fmt::format("the map must keep the dtype: {} -> {}; cast inside it",
                                     name(argument.dtype()), name(value.dtype())));
}

void check_positive(std::string_view op, std::string_view option, double value) {
  if (!(value > 0.0 && std::isfinite(value)))
    fail<ValueError>(op, fmt::format("{} must be positive and finite: got {}", option, value));
}

void check_budget(std::string_view op, int max_steps, double tolerance) {
  if (max_steps < 0) fail<ValueError>(op, fmt::format("max_steps must not be negative: got {}", max_steps));
  if (!(tolerance >= 0.0 && std::isfinite(tolerance)))
    fail<ValueError>(op, fmt::format("tolerance must be finite and not negative: got {}", tolerance));
}

}  // namespace banach
