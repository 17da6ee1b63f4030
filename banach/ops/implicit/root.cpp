#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/implicit/root.hpp>

namespace banach {
namespace {

const Op root_op{implicit_op("root", "z with F(z, theta) = 0: inputs theta, the captures of F; output z.")};

}  // namespace

// A root of F is a fixed point of f(z) = z - F(z), with the residual ||F||. Its adjoint equation
// lambda = J^T lambda + g, J = I - dF/dz, is (dF/dz)^T lambda = g.
ImplicitSolution root(FunctionRef<Var(const Var&)> F, const Var& z0, const RootOptions& options) {
  check_start("root", z0);
  const double tolerance = options.tolerance.value_or(z0.dtype() == DType::f32 ? 1e-4 : 1e-8);
  const StopOptions stop{.max_steps = options.max_steps,
                         .tolerance = 0.0,
                         .absolute_tolerance = tolerance,
                         .divergence_factor = 1e12,  // Newton's way may lead over large residuals
                         .whole_trace = options.whole_trace,
                         .accept_rounding = false};
  const auto body = [&](const Var& z) {
    const Var value = F(z);
    check_body("root", z, value);
    return z - value;
  };
  return implicit_node(
      body, z0,
      {.op = &root_op,
       .solve = [solver = options.solver, stop](
                    const FixedPointProblem& problem,
                    const Tensor& start) { return solve_fixed_point(solver, problem, start, stop); },
       .backward = options.backward,
       .batch = options.batch,
       .policy = options.policy,
       .tolerance = 0.0,
       .absolute_tolerance = tolerance});
}

}  // namespace banach
