#include <banach/ops/implicit/iteration.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/implicit/weight_tied.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach {
namespace {

constexpr std::string_view op_name = "weight_tied";

Var layer(FunctionRef<Var(const Var&)> f, const Var& z) {
  Var next = f(z);
  check_body(op_name, z, next);
  return next;
}

// Of z = f(before), the last layer.
SolveReport report_of(const Tensor& before, const Tensor& z, int layers) {
  const Shape rows = state_rows(z.shape(), Batch::axis0);
  const PoolVector<double> residual = vec::row_norms(z.reshape(rows), before.reshape(rows)),
                           size = vec::row_norms(z.reshape(rows));
  SolveReport report{.samples = {}, .trace = {}, .nstep = layers, .solver = op_name};
  for (std::size_t i = 0; i < residual.size(); ++i)
    report.samples.push_back({.status = std::isfinite(size[i]) ? Status::max_steps : Status::non_finite,
                              .nstep = layers,
                              .best_step = layers,
                              .abs_lowest = residual[i],
                              .rel_lowest = size[i] > 0.0 ? residual[i] / size[i] : residual[i],
                              .rate = 1.0,
                              .error_estimate = std::numeric_limits<double>::infinity()});
  return report;
}

// One layer after the other on the tape, if one records.
ImplicitSolution recorded(FunctionRef<Var(const Var&)> f, const Var& z0, int layers) {
  Var z = z0, before;
  for (int k = 0; k < layers; ++k) before = std::exchange(z, layer(f, z));
  ImplicitSolution result;
  result.report = report_of(before.value(), z.value(), layers);
  result.z = reported(z, op_name, result, layers, {});
  return result;
}

ImplicitSolution checkpointed(FunctionRef<Var(const Var&)> f, const Var& z0, const WeightTied& options) {
  const auto [layers, every] = options;
  Tensors iterates(1);
  Tensor before = z0.value();
  {
    const NoGrad off;
    for (int k = 1; k < layers; ++k) {
      before = layer(f, Var(before)).value();
      if (k % every == 0) iterates.push_back(before);
    }
  }
  // The last layer is the recording that a sweep replays.
  Trace last = trace([&](const Vars& z) { return Vars{layer(f, z.front())}; }, {&before, 1});
  iterates.front() = last.results.front().value();
  ImplicitSolution result;
  result.report = report_of(before, iterates.front(), layers);
  IterationAttrs iteration =
      iteration_of(std::move(last), state_rows(z0.shape(), Batch::axis0), result, 1.0, {});
  for (int& answer : iteration.answer) answer = layers + 1;  // the iterate that one more evaluation would see
  result.z = record_checkpointed(op_name, std::move(iteration), every, z0, std::move(iterates));
  return result;
}

}  // namespace

ImplicitSolution weight_tied(FunctionRef<Var(const Var&)> f, const Var& z0, const WeightTied& options) {
  check_start(op_name, z0);
  if (options.layers < 1)
    fail<ValueError>(op_name, fmt::format("layers must be at least 1: got {}", options.layers));
  if (options.checkpoint_every < 0)
    fail<ValueError>(op_name,
                     fmt::format("checkpoint_every must not be negative: got {}", options.checkpoint_every));
  return recording() && options.checkpoint_every > 0 ? checkpointed(f, z0, options)
                                                     : recorded(f, z0, options.layers);
}

}  // namespace banach
