#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/iteration.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach {

void Shine::check(const FixedPointOptions& options) const {
  if (!options.solver.keeps_inverse())
    fail<ValueError>("fixed_point",
                     fmt::format("Shine uses the solver's estimate of the inverse, so the solver must be "
                                 "Broyden{{}} or AdjointBroyden{{}}: got {}",
                                 options.solver.name()));
}

void Shine::validate() const {
  if (!(fallback > 0.0)) fail<ValueError>(name, fmt::format("fallback must be positive: got {}", fallback));
  if (refinements < 0)
    fail<ValueError>(name, fmt::format("refinements must not be negative: got {}", refinements));
}

Adjoint Shine::solve(const Linearized& f, const Var& g) const {
  Var lambda = f.estimate_inverse(g);
  Adjoint result{.lambda = {}, .last_term = g};
  const PoolVector<double> length = f.norms(lambda), shortest = f.norms(g);
  for (std::size_t i = 0; i < length.size(); ++i) {
    const double limit = shortest[i] > 0.0 ? fallback * shortest[i] : 0.0;
    result.fell_back.push_back(!(std::isfinite(length[i]) && length[i] <= limit));
  }

  const Shape rows = f.rows();
  const auto trusted = [&](std::size_t i) { return result.fell_back[i] == 0; };
  lambda = choose_rows(rows, trusted, lambda, g);
  for (int k = 0; k < refinements; ++k) {
    const Var left = g + f.vjp_state(lambda) - lambda;
    lambda = lambda + choose_rows(rows, trusted, f.estimate_inverse(left), left);
  }
  result.lambda = lambda;
  return result;
}

}  // namespace banach
