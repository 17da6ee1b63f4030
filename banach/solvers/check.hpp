#pragma once
// Internal: errors that every solver words alike.

#include <banach/engine/tensor.hpp>

#include <string_view>

namespace banach {

/// A state, right-hand side or start must be (batch, n) of f32 or f64. Throws ShapeError or DTypeError.
void check_state(std::string_view op, std::string_view what, const Tensor& state);

/// A map must keep shape and dtype of its argument. Throws ShapeError or DTypeError, naming both.
void check_map(std::string_view op, const Tensor& argument, const Tensor& value);

/// An option must be finite and positive. Throws ValueError.
void check_positive(std::string_view op, std::string_view option, double value);

/// max_steps must not be negative; a tolerance must be finite and not negative. Throws ValueError.
void check_budget(std::string_view op, int max_steps, double tolerance);

}  // namespace banach
