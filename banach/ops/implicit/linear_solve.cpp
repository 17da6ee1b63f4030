#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/linear_solve.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <limits>

namespace banach {
namespace {

const Op linear_solve_op{
    implicit_op("linear_solve", "x with A(x, theta) = b: inputs theta and b; output x.")};

// v -> M v of the body f(x) = x - A(x) + b = M x + b, as a difference of f at v made as long as b: the
// rounding is that of f and no more.
Tensor product(const StateMap& f, const Tensor& b, const PoolVector<double>& b_norms, const Tensor& v) {
  return dispatch_floating(v.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t n = v.shape()[1];
    const PoolVector<double> v_norms = vec::row_norms(v);
    const auto scale = [&](std::int64_t i) {
      const double ratio =
          b_norms[static_cast<std::size_t>(i / n)] / v_norms[static_cast<std::size_t>(i / n)];
      return static_cast<T>(ratio > 0.0 && std::isfinite(ratio) ? ratio : 1.0);
    };
    Tensor scaled = v.clone();
    T* x = scaled.mutable_data<T>();
    for (std::int64_t i = 0; i < v.size(); ++i) x[i] *= scale(i);
    Tensor result = f(scaled).clone();
    T* y = result.mutable_data<T>();
    for (std::int64_t i = 0; i < v.size(); ++i) y[i] = (y[i] - b.data<T>()[i]) / scale(i);
    return result;
  });
}

// The residual of the report is taken by an evaluation of its own: for a map that is not linear the solver's
// means nothing.
FixedPointSolution solve(const LinearSolver& solver, const StateMap& f, const Tensor& start) {
  const Tensor b = f(Tensor::zeros(start.shape(), start.dtype()));
  const PoolVector<double> b_norms = vec::row_norms(b);
  const auto apply = [&](const Tensor& v) { return product(f, b, b_norms, v); };
  LinearSolution solved =
      std::visit([&](const auto& s) { return solve_linear(s, std::cref(apply), b); }, solver);
  const Tensor image = f(solved.x);
  const PoolVector<double> residual = vec::row_norms(image, solved.x), x_norms = vec::row_norms(solved.x);

  FixedPointSolution solution{solved.x, image, {}};
  const double epsilon = start.dtype() == DType::f32 ? std::numeric_limits<float>::epsilon()
                                                     : std::numeric_limits<double>::epsilon();
  for (std::size_t s = 0; s < residual.size(); ++s) {
    const double expected = solved.residual[s] * b_norms[s];
    if (std::abs(residual[s] - expected) > 0.01 * b_norms[s] + 1e4 * epsilon * x_norms[s])
      fail<ValueError>(
          "linear_solve",
          fmt::format("A must be linear: ||A(x) - b|| of system {} is {:.3g}, but {:.3g} by A's products", s,
                      residual[s], expected));
    SampleReport report;
    report.status = solved.status[s];
    report.nstep = report.best_step = solved.evaluations;
    report.abs_lowest = residual[s];
    report.rel_lowest = b_norms[s] > 0.0 ? residual[s] / b_norms[s] : residual[s];
    solution.report.samples.push_back(report);
  }
  solution.report.nstep = solved.evaluations;
  solution.report.solver = std::visit([](const auto& s) { return std::string_view(s.name); }, solver);
  return solution;
}

}  // namespace

ImplicitSolution linear_solve(FunctionRef<Var(const Var&)> A, const Var& b,
                              const LinearSolveOptions& options) {
  check_start("linear_solve", b);
  const auto body = [&](const Var& x) {
    const Var image = A(x);
    check_body("linear_solve", x, image);
    return x - image + b;
  };
  return implicit_node(
      body, b.detach(),
      {.op = &linear_solve_op,
       .solve = [solver = options.solver](const FixedPointProblem& problem,
                                          const Tensor& start) { return solve(solver, problem.f, start); },
       .backward = Implicit{options.adjoint},
       .batch = options.batch,
       .policy = options.policy,
       .tolerance = 1e-6});
}

}  // namespace banach
