#pragma once

#include <banach/engine/random.hpp>
#include <banach/nn/module.hpp>

#include <cstdint>
#include <optional>

namespace banach::nn {

/// x W^T + b for x (..., in), W (out,in) and b (out), which may be left out: (..., out). Throws ShapeError
/// naming the features expected and the shape given.
Var linear(const Var& x, const Var& weight, const Var& bias = {});

struct LinearOptions {
  bool bias = true;
  DType dtype = DType::f32;
};

/// x (..., in) -> x W^T + b (..., out). Weight and bias start uniform on (-1, 1) / sqrt(in).
struct Linear {
  Parameter weight;               ///< (out,in)
  std::optional<Parameter> bias;  ///< (out)

  /// Throws ValueError unless both are at least 1.
  Linear(std::int64_t in, std::int64_t out, Random& random, const LinearOptions& options = {});
  Var operator()(const Var& x) const;
  void visit(Visitor& visitor) { visitor("weight", weight)("bias", bias); }
};

namespace detail {
/// A Parameter as a Var, undefined if there is none.
inline Var optional_var(const std::optional<Parameter>& parameter) {
  return parameter ? parameter->var() : Var();
}
}  // namespace detail

}  // namespace banach::nn
