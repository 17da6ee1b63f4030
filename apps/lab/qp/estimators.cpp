#include <apps/lab/qp/estimators.hpp>

#include <cmath>
#include <limits>

#include <banach/engine/grad.hpp>
#include <banach/engine/tape.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/qp_admm.hpp>
#include <banach/ops/reduce.hpp>

namespace banach::lab::qp {
namespace {

/// dz/d(p, h, b), one row after the other; `solve` makes z of QpParameters.
template <class Solve>
std::vector<double> jacobian(const QpData& data, const Solve& solve) {
  const Tape tape;
  const auto input = [](const Tensor& t) { return t.defined() ? leaf(t) : Var(); };
  const auto constant = [](const Tensor& t) { return t.defined() ? Var(t) : Var(); };
  const Var p = input(data.p), h = input(data.h), b = input(data.b);
  const Var z = solve(QpParameters{constant(data.Q), p, constant(data.G), h, constant(data.A), b});
  Vars wrt;
  for (const Var& x : {p, h, b})
    if (x.defined()) wrt.push_back(x);
  std::vector<double> entries;
  for (int k = 0; k < 2; ++k) {
    const Var row(Tensor::from<double>(Vector{k == 0 ? 1.0 : 0.0, k == 1 ? 1.0 : 0.0}, {2}));
    // An answer that is still the start depends on nothing.
    const Vars parts = z.recorded() ? grad(sum(z * row), wrt) : Vars{};
    for (const Var& part : parts)
      for (std::int64_t i = 0; i < part.size(); ++i) entries.push_back(part.value().at(i));
    if (parts.empty())
      for (const Var& x : wrt) entries.resize(entries.size() + static_cast<std::size_t>(x.size()));
  }
  return entries;
}

Estimate compare(const std::string& rule, int steps, const std::vector<double>& found,
                 const std::vector<double>& exact) {
  double product = 0, own = 0, true_square = 0, off = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    product += found[i] * exact[i];
    own += found[i] * found[i];
    true_square += exact[i] * exact[i];
    off += (found[i] - exact[i]) * (found[i] - exact[i]);
  }
  return {
      .rule = rule,
      .steps = steps,
      .error = std::sqrt(off / true_square),
      .cosine = own > 0 ? product / std::sqrt(own * true_square) : std::numeric_limits<double>::quiet_NaN()};
}

}  // namespace

const std::vector<std::string>& estimate_rules() {
  static const std::vector<std::string> rules{"jfb", "neumann", "phantom", "truncated", "unrolled"};
  return rules;
}

Estimates estimates(const Problem& problem) {
  const std::vector<double> exact =
      jacobian(problem.data, [](const QpParameters& q) { return qp_solve(q).z; });
  Estimates result{.problem = problem.name};
  const auto add = [&](const std::string& name, int steps, const BackwardRule& rule, bool from_start) {
    QpAdmmOptions options;
    options.fixed_point.tolerance = 1e-10;
    options.fixed_point.backward = rule;
    if (from_start) options.fixed_point.tolerance = 1e-15, options.fixed_point.max_steps = steps + 1;
    SolveReport report;
    const std::vector<double> found = jacobian(problem.data, [&](const QpParameters& q) {
      const QpAdmm s = qp_admm(q, options);
      report = s.report;
      return s.z;
    });
    const SampleReport& sample = report.samples[0];
    if (!from_start) {
      result.forward_steps = sample.nstep, result.rate = sample.rate;
      result.converged = sample.status == Status::converged;
    } else if (sample.best_step - 1 != steps) {
      return;  // the answer is an earlier iterate, of fewer steps
    }
    result.all.push_back(compare(name, steps, found, exact));
  };
  add("jfb", 1, JacobianFree{}, false);
  for (int steps = 1; steps <= 2048; steps *= 2) {
    add("neumann", steps, Neumann{steps}, false);
    add("phantom", steps, Phantom{.steps = steps, .damping = 0.5}, false);
    add("truncated", steps, TruncatedUnroll{steps}, false);
    add("unrolled", steps, Unrolled{}, true);
  }
  return result;
}

int steps_to(const Estimates& estimates, const std::string& rule, double limit) {
  int fewest = 0;
  for (const Estimate& e : estimates.all)
    if (e.rule == rule && e.error <= limit && (fewest == 0 || e.steps < fewest)) fewest = e.steps;
  return fewest;
}

}  // namespace banach::lab::qp
