#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/minimize.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/solvers/check.hpp>
#include <banach/solvers/fallback.hpp>

#include <fmt/format.h>

#include <limits>

namespace banach {
namespace {

const Op minimize_op{
    implicit_op("minimize", "A minimum z of phi(z, theta): inputs theta, the captures of phi.")};

// phi with its gradient. The samples do not mix, so one sweep gives each one's gradient.
struct Differentiated {
  Var value;     // (problems)
  Var gradient;  // like z
};

Differentiated differentiate(FunctionRef<Var(const Var&)> phi, const Var& z, Batch batch) {
  const Shape values{state_rows(z.shape(), batch)[0]};
  const auto function = [&](const Vars& at) {
    const Var value = phi(at.front());
    if (!value.defined()) fail<ValueError>("minimize", "phi must return a value: got an empty Var");
    if (batch == Batch::axis0 && z.rank() > 0 ? !(value.shape() == values) : value.size() != 1)
      fail<ShapeError>("minimize",
                       fmt::format("phi must have one value for each problem, shape {}: got {} for z of {}",
                                   values.to_string(), value.shape().to_string(), z.shape().to_string()));
    if (value.dtype() != z.dtype())
      fail<DTypeError>("minimize", fmt::format("phi must have the dtype of z, {}: got {}", name(z.dtype()),
                                               name(value.dtype())));
    return Vars{reshape(value, values)};
  };
  VjpResult result = vjp(function, {z}, {Var(Tensor::ones(values, z.dtype()))});
  return {result.outputs.front(), result.cotangents.front()};
}

}  // namespace

// A stationary point of phi is a root of its gradient.
ImplicitSolution minimize(FunctionRef<Var(const Var&)> phi, const Var& z0, const MinimizeOptions& options) {
  check_start("minimize", z0);
  check_inverse("minimize", options.backward, false, TrustRegion::name);
  check_budget("minimize", options.max_steps, options.tolerance.value_or(0.0));
  const double tolerance = options.tolerance.value_or(z0.dtype() == DType::f32 ? 1e-4 : 1e-8);
  const StopOptions stop{.max_steps = options.max_steps,
                         .tolerance = 0.0,
                         .absolute_tolerance = tolerance,
                         .divergence_factor = std::numeric_limits<double>::infinity(),
                         .whole_trace = options.whole_trace,
                         .accept_rounding = false};
  const auto gradient = [&](const Var& z) { return differentiate(phi, z, options.batch).gradient; };
  const auto evaluate = [&](const Tensor& z) {
    const Differentiated at = differentiate(phi, Var(z.reshape(z0.shape())), options.batch);
    return MinimizationProblem::Point{at.value.value(), at.gradient.value().reshape(z.shape())};
  };
  const ImplicitNode node{
      .op = &minimize_op,
      .solve =
          [&](const FixedPointProblem& problem, const Tensor& start) {
            const auto hessian = [&](const Tensor& z) -> StateMap {
              return [jvp = problem.linearize(z).jvp](const Tensor& v) {
                return (Var(v) - Var(jvp(v))).value();
              };
            };
            FixedPointSolution found = solve_minimum(options.solver, {evaluate, hessian}, start, stop);
            found.report.measure = "||gradient||";
            if (!options.tolerance) accept_rounding(gradient, z0.shape(), options.batch, found);
            return found;
          },
      .backward = options.backward,
      .batch = options.batch,
      .policy = options.policy,
      .tolerance = 0.0,
      .absolute_tolerance = tolerance};
  return root_node(gradient, z0, node, [&](double s) {
    StopOptions scaled = stop;
    scaled.absolute_tolerance = s * tolerance;
    return ForwardSolve([scaled](const FixedPointProblem& problem, const Tensor& known) {
      return solve_fixed_point(Fallback{}, problem, known, scaled);
    });
  });
}

}  // namespace banach
