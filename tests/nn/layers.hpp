#pragma once
// What the tests of layers share.

#include <banach/engine/gradcheck.hpp>
#include <banach/nn/module.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

namespace banach::test {

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

}  // namespace banach::test
