#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/monotone.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/solvers/fallback.hpp>

namespace banach {
namespace {

const Op monotone_op{implicit_op("monotone_fixed_point", "z = relu(z W^T + c): inputs W and c; output z.")};

}  // namespace

ImplicitSolution monotone_fixed_point(const Var& W, const Var& c, const MonotoneOptions& options) {
  check_start("monotone_fixed_point", c);
  const StopOptions stop{.max_steps = options.max_steps, .tolerance = options.tolerance};
  const auto f = [&](const Var& z) { return relu(matmul(z, W, {.transpose_b = true}) + c); };
  ImplicitNode node{.op = &monotone_op,
                    .solve =
                        [&](const FixedPointProblem&, const Tensor& z0) {
                          return solve_splitting(options.splitting, W.value(), c.value(), z0, stop);
                        },
                    .backward = options.backward,
                    .batch = Batch::axis0,
                    .policy = options.policy,
                    .tolerance = options.tolerance};
  ImplicitSolution result;
  const FixedPointSolution solution = solve_body(f, Tensor::zeros(c.shape(), c.dtype()), node);
  // A replay, in the body of another node, knows f alone, whose W and c may have moved.
  node.solve = [stop](const FixedPointProblem& problem, const Tensor& known) {
    return solve_fixed_point(Fallback{}, problem, known, stop);
  };
  result.z = record_solution(f, c.shape(), solution, node, result.adjoint);
  result.report = solution.report;
  result.z = held_to_policy(monotone_op.name(), result.z, result.report, node.batch, node.policy);
  return result;
}

}  // namespace banach
