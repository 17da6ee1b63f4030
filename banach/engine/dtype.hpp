#pragma once

#include <banach/engine/error.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace banach {

/// Element types. Differentiable operations take f32 and f64; i64 holds labels and indices.
enum class DType : std::uint8_t { f32, f64, i64 };

constexpr std::size_t size_of(DType dtype) { return dtype == DType::f32 ? 4 : 8; }

constexpr std::string_view name(DType dtype) {
  return dtype == DType::f32 ? "f32" : dtype == DType::f64 ? "f64" : "i64";
}

constexpr bool is_floating(DType dtype) { return dtype != DType::i64; }

template <class T>
constexpr DType dtype_of() {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, std::int64_t>,
                "element types are float, double and std::int64_t");
  return std::is_same_v<T, float> ? DType::f32 : std::is_same_v<T, double> ? DType::f64 : DType::i64;
}

/// Calls `f(float{})` or `f(double{})`. Throws DTypeError for i64.
template <class F>
decltype(auto) dispatch_floating(DType dtype, F&& f) {
  if (dtype == DType::f32) return f(float{});
  if (dtype == DType::f64) return f(double{});
  fail<DTypeError>("dispatch", "expects f32 or f64: got i64");
}

/// Calls `f` with a zero of the element type, whichever it is.
template <class F>
decltype(auto) dispatch_any(DType dtype, F&& f) {
  if (dtype == DType::f32) return f(float{});
  if (dtype == DType::f64) return f(double{});
  return f(std::int64_t{});
}

}  // namespace banach
