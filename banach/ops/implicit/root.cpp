#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/implicit/root.hpp>
#include <banach/solvers/check.hpp>
#include <banach/solvers/vector.hpp>

#include <limits>

namespace banach {
namespace {

const Op root_op{implicit_op("root", "z with F(z, theta) = 0: inputs theta, the captures of F; output z.")};

// What the solver saw of F is z - (z - F), where a small F beside a large z is lost. Where that could be, F
// is measured: no sample counts as converged but by F itself.
void check_residuals(FunctionRef<Var(const Var&)> F, const Shape& shape, FixedPointSolution& found,
                     double tolerance) {
  const double epsilon = found.z.dtype() == DType::f32 ? std::numeric_limits<float>::epsilon()
                                                       : std::numeric_limits<double>::epsilon();
  const PoolVector<double> size = vec::row_norms(found.z), image = vec::row_norms(found.fz);
  PoolVector<double> residual;
  for (std::size_t i = 0; i < size.size(); ++i) {
    SampleReport& sample = found.report.samples[i];
    if (sample.status != Status::converged || sample.abs_lowest + epsilon * size[i] <= tolerance) continue;
    if (residual.empty()) residual = vec::row_norms(at_rows("root", F, shape, found.z));
    sample.abs_lowest = residual[i];
    sample.rel_lowest = residual[i] > 0.0 ? residual[i] / image[i] : 0.0;
    if (!(residual[i] <= tolerance)) sample.status = Status::stagnated;
  }
}

}  // namespace

ImplicitSolution root(FunctionRef<Var(const Var&)> F, const Var& z0, const RootOptions& options) {
  check_start("root", z0);
  check_inverse("root", options.backward, options.solver.keeps_inverse(), options.solver.name());
  check_budget("root", options.max_steps, options.tolerance.value_or(0.0));
  const double tolerance = options.tolerance.value_or(z0.dtype() == DType::f32 ? 1e-4 : 1e-8);
  const StopOptions stop{.max_steps = options.max_steps,
                         .tolerance = 0.0,
                         .absolute_tolerance = tolerance,
                         .divergence_factor = 1e12,  // Newton's way may lead over large residuals
                         .whole_trace = options.whole_trace,
                         .keep_inverse = options.backward.needs_inverse(),
                         .accept_rounding = false};
  return root_node(F, z0,
                   {.op = &root_op,
                    .solve =
                        [&](const FixedPointProblem& problem, const Tensor& start) {
                          FixedPointSolution found = solve_fixed_point(options.solver, problem, start, stop);
                          found.report.measure = "||F||";
                          check_residuals(F, z0.shape(), found, tolerance);
                          if (!options.tolerance) accept_rounding(F, z0.shape(), options.batch, found);
                          return found;
                        },
                    .backward = options.backward,
                    .batch = options.batch,
                    .policy = options.policy,
                    .tolerance = 0.0,
                    .absolute_tolerance = tolerance},
                   [&](double s) {
                     StopOptions scaled = stop;
                     scaled.absolute_tolerance = s * tolerance;
                     return ForwardSolve([solver = options.solver, scaled](const FixedPointProblem& problem,
                                                                           const Tensor& known) {
                       return solve_fixed_point(solver, problem, known, scaled);
                     });
                   });
}

}  // namespace banach
