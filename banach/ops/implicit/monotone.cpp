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
  check_rule("monotone_fixed_point", options.backward);
  check_inverse("monotone_fixed_point", options.backward, false, "operator splitting");
  const StopOptions stop{.max_steps = options.max_steps, .tolerance = options.tolerance};
  const auto f = [&](const Var& z) { return relu(matmul(z, W, {.transpose_b = true}) + c); };
  return implicit_node(f, Var(Tensor::zeros(c.shape(), c.dtype())),
                       {.op = &monotone_op,
                        .solve =
                            [&](const FixedPointProblem&, const Tensor& z0) {
                              return solve_splitting(options.splitting, W.value(), c.value(), z0, stop);
                            },
                        .solve_again =
                            [stop](const FixedPointProblem& problem, const Tensor& known) {
                              return solve_fixed_point(Fallback{}, problem, known, stop);
                            },
                        .backward = options.backward,
                        .batch = Batch::axis0,
                        .policy = options.policy,
                        .tolerance = options.tolerance});
}

}  // namespace banach
