#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/implicit/trajectory.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <vector>

namespace banach {
namespace {

const Op iterate_op{
    implicit_op("fixed_point_iterate", "The iterate of one step on the way to z = f(z, theta).")};

// A solve that keeps the arguments of chosen evaluations of f.
struct Recording {
  FixedPointSolution end;
  std::vector<Tensor> iterates;
};

Recording solve_recording(const FixedPointOptions& options, const FixedPointProblem& problem,
                          const Tensor& start, std::span<const int> steps) {
  Recording result{{}, std::vector<Tensor>(steps.size())};
  int evaluation = 0;
  const auto watched = [&](const Tensor& z) {
    ++evaluation;
    for (std::size_t i = 0; i < steps.size(); ++i)
      if (steps[i] == evaluation) result.iterates[i] = z.clone();
    return problem.f(z);
  };
  FixedPointProblem recorded = problem;
  recorded.f = std::ref(watched);
  result.end = solve_fixed_point(options.solver, recorded, start, stop_options(options));
  return result;
}

// What was known at a step: its iterate, or the answer for samples that had stopped by then.
FixedPointSolution state_at(int step, const Tensor& iterate, const FixedPointSolution& end) {
  FixedPointSolution state{end.z.clone(), end.fz, end.report, end.inverse};
  const std::int64_t n = end.z.shape()[1];
  for (std::size_t s = 0; s < end.report.samples.size(); ++s) {
    SampleReport& sample = state.report.samples[s];
    const bool stopped = step > sample.nstep || (step == sample.nstep && sample.best_step == step);
    if (stopped) continue;
    sample = {.status = Status::max_steps, .nstep = step};
    dispatch_floating(end.z.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const std::int64_t row = static_cast<std::int64_t>(s) * n;
      std::copy_n(iterate.data<T>() + row, n, state.z.mutable_data<T>() + row);
    });
  }
  return state;
}

}  // namespace

FixedPointTrajectory fixed_point_trajectory(FunctionRef<Var(const Var&)> f, const Var& z0,
                                            std::span<const int> steps, const FixedPointOptions& options) {
  constexpr std::string_view name = "fixed_point_trajectory";
  check_start(name, z0);
  for (const int step : steps)
    if (step < 1) fail<ValueError>(name, fmt::format("steps count evaluations of f from 1: got {}", step));
  check_rule(name, options.backward);

  ImplicitNode node = fixed_point_node(options);
  node.body = Body::eager;  // the solve keeps iterates of the whole batch
  Recording recording;
  node.solve = [&](const FixedPointProblem& problem, const Tensor& start) {
    recording = solve_recording(options, problem, start, steps);
    return recording.end;
  };
  solve_body(f, z0.value(), node);

  FixedPointTrajectory result;
  result.report = recording.end.report;
  result.z =
      held_to_policy(node.op->name(),
                     record_solution(f, z0.shape(), recording.end, fixed_point_node(options), result.adjoint),
                     result.report, options.batch, options.policy);
  node.op = &iterate_op;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    // A replay has to go the whole way again.
    node.solve_again = [options, step = steps[i], z0 = z0.value()](const FixedPointProblem& problem,
                                                                   const Tensor& known) {
      const Recording again = solve_recording(options, problem, z0.reshape(known.shape()), {&step, 1});
      return state_at(step, again.iterates.front(), again.end);
    };
    const FixedPointSolution state = state_at(steps[i], recording.iterates[i], recording.end);
    result.states.push_back(record_solution(f, z0.shape(), state, node, result.adjoint));
  }
  return result;
}

Var trajectory_loss(const FixedPointTrajectory& trajectory, FunctionRef<Var(const Var&)> loss, double decay) {
  if (trajectory.states.empty())
    fail<ValueError>("trajectory_loss", "expects a trajectory of at least one state");
  Var total;
  for (const Var& state : trajectory.states)
    total = total.defined() ? decay * total + loss(state) : loss(state);
  return total;
}

}  // namespace banach
