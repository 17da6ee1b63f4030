#pragma once
// What the tests of layers share.

#include <banach/engine/gradcheck.hpp>
#include <banach/nn/init.hpp>
#include <banach/nn/module.hpp>
#include <banach/ops/ops.hpp>

#include <algorithm>
#include <cmath>

namespace layers {

using namespace banach;

inline Tensor normal(const Shape& shape, std::uint64_t seed, DType dtype = DType::f64) {
  Random random(seed);
  return nn::init::normal(shape, 0.0, 1.0, random, dtype);
}

/// Checks the derivatives of `layer(x)` with respect to x and all parameters of the f64 `module`.
template <class M, class Call>
GradcheckReport check_gradients(M& module, const Tensor& x, Call call, const GradcheckOptions& options = {}) {
  const nn::ParameterList parameters = nn::parameters(module);
  Vars inputs{Var(x)};
  for (const auto& entry : parameters) inputs.push_back(Var(entry.parameter->value()));
  return gradcheck(
      [&](const Vars& at) {
        const nn::Substitution values(parameters, Vars(at.begin() + 1, at.end()));
        return Vars{call(at.front())};
      },
      inputs, options);
}

inline double largest_difference(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape())) return INFINITY;
  double largest = 0.0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a.at(i) - b.at(i));
    if (std::isnan(difference)) return NAN;
    largest = std::max(largest, difference);
  }
  return largest;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && largest_difference(a, b) == 0.0;
}

}  // namespace layers
