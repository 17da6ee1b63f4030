#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/backward.hpp>

#include <fmt/format.h>

namespace banach {
namespace {

void check_count(std::string_view rule, std::string_view what, int count) {
  if (count < 1) fail<ValueError>(rule, fmt::format("{} must be at least 1: got {}", what, count));
}

}  // namespace

void Implicit::validate() const {
  std::visit([](const auto& s) { check(s); }, solver);
}

Adjoint Implicit::solve(const Linearized& f, const Var& g) const {
  AdjointSolve solved = f.solve(solver, g);
  return {.lambda = solved.solution, .status = std::move(solved.status)};
}

Adjoint JacobianFree::solve(const Linearized& f, const Var& g) const {
  return {.lambda = preconditioner ? preconditioner(f, g) : g, .last_term = g};
}

void Neumann::validate() const { check_count(name, "terms", terms); }

Adjoint Neumann::solve(const Linearized& f, const Var& g) const {
  const Linearized::Series series = f.series(g, terms);
  return {.lambda = series.sum, .last_term = series.last};
}

void Phantom::validate() const {
  check_count(name, "steps", steps);
  if (!(damping > 0.0 && damping <= 1.0))
    fail<ValueError>(name, fmt::format("damping must lie in (0, 1]: got {}", damping));
  if (guarded && form != Form::neumann)
    fail<ValueError>(name, "only the Neumann form can be guarded: set form = Phantom::Form::neumann");
}

Adjoint Phantom::solve(const Linearized& f, const Var& g) const {
  const double tau = damping;
  if (form == Form::neumann) {
    Linearized::Series series = f.series(g, steps, tau, guarded);
    return {.lambda = tau * series.sum, .last_term = series.last, .fell_back = std::move(series.cut)};
  }

  PoolVector<Linearized> path{f};
  for (int i = 1; i < steps; ++i) {
    const Var z = path.back().state(), next = (1.0 - tau) * z + tau * path.back().value();
    // Forgets the evaluation: all but the first are made again, each in its turn, in memory for one of them.
    if (i > 1 && !recording()) path.back() = f.at(z);
    path.push_back(f.at(next));
  }
  // Backwards along the path: `cotangent` is that of z_i, and tau times it that of f(z_i).
  Adjoint result{.lambda = {}};
  Var cotangent = g;
  for (int i = steps - 1; i >= 0; --i) {
    const Var part = tau * cotangent;
    Linearized::Pulled pulled = path.back().pull(part);
    path.pop_back();
    result.lambda = result.lambda.defined() ? result.lambda + part : part;
    result.last_term = cotangent;
    cotangent = (1.0 - tau) * cotangent + pulled.state;
    if (result.theta.empty()) {
      result.theta = std::move(pulled.theta);
      continue;
    }
    for (std::size_t k = 0; k < result.theta.size(); ++k)
      if (pulled.theta[k].defined())
        result.theta[k] = result.theta[k].defined() ? result.theta[k] + pulled.theta[k] : pulled.theta[k];
  }
  return result;
}

}  // namespace banach
