#include <apps/lm/cost.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

#include <fmt/format.h>

#include <apps/lm/depth.hpp>
#include <apps/lm/evaluate.hpp>
#include <banach/engine/memory_meter.hpp>
#include <banach/nn/init.hpp>

namespace banach::lm {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Cost measure_once(LanguageModel& model, const Var& x, const nn::SegmentMemory& memory, const nn::Depth& depth,
                  const Tensor& cotangent) {
  const nn::ParameterList parameters = model.cell_parameters();
  Cost cost;
  const memory::Meter meter;
  const Tape tape;
  auto start = Clock::now();
  const nn::SequenceBody body = model.cell().bind(x, memory);
  const ImplicitSolution solution = nn::run(body, model.cell().start(x), depth);
  const Var out = model.cell().output(solution.z);
  cost.forward_seconds = seconds_since(start);
  cost.tape_bytes = static_cast<double>(meter.live_bytes());

  start = Clock::now();
  const Vars gradients = nn::grad(out, parameters, {.cotangent = Var(cotangent)});
  cost.backward_seconds = seconds_since(start);
  cost.peak_bytes = static_cast<double>(meter.peak_bytes());
  cost.forward = mean_evaluations(solution.report);
  cost.history_bytes = static_cast<double>(solution.report.history_bytes);
  cost.backward = solution.adjoint.run() ? solution.adjoint.last().evaluations : cost.forward;
  return cost;
}

}  // namespace

Cost measure(LanguageModel& model, const Tensor& tokens, const nn::SegmentMemory& memory,
             const nn::Depth& depth, int repeats) {
  nn::eval(model);
  Var x;
  {
    const NoGrad off;
    x = model.embed(tokens);
  }
  Random random(1);
  const Tensor cotangent =
      nn::init::normal(x.shape(), 0.0, 1 / std::sqrt(static_cast<double>(x.size())), random);
  Cost cost = measure_once(model, x, memory, depth, cotangent);  // what is made once, is there now
  std::vector<double> forward, backward;
  for (int i = 0; i < repeats; ++i) {
    cost = measure_once(model, x, memory, depth, cotangent);
    forward.push_back(cost.forward_seconds);
    backward.push_back(cost.backward_seconds);
  }
  cost.forward_seconds = median(std::move(forward));
  cost.backward_seconds = median(std::move(backward));
  nn::train(model);
  return cost;
}

std::vector<CostCurve> measure_curves(LanguageModel& model, const Tensor& tokens,
                                      const nn::SegmentMemory& memory, const SolveSettings& solve,
                                      const std::vector<std::string>& depths) {
  constexpr int repeats = 3;
  const std::vector<int> counts{3, 6, 12, 24, 48};
  std::vector<CostCurve> curves;
  const auto add = [&](const std::string& name, auto depth_of) {
    CostCurve curve{.name = name};
    for (const int count : counts) {
      const Cost cost = measure(model, tokens, memory, depth_of(count), repeats);
      curve.steps.push_back(cost.forward);  // fewer than asked for where a solve has reached rounding level
      curve.costs.push_back(cost);
    }
    curves.push_back(std::move(curve));
  };
  add("explicit", [](int n) -> nn::Depth { return nn::WeightTied{.layers = n}; });
  add("explicit, every 7th kept",
      [](int n) -> nn::Depth { return nn::WeightTied{.layers = n, .checkpoint_every = 7}; });
  for (const std::string& spec : depths) {
    if (is_explicit(spec)) continue;
    add(spec, [&](int n) {
      SolveSettings exactly = solve;
      exactly.max_steps = n;
      nn::Depth depth = parse_depth(spec, exactly);
      auto& options = std::get<FixedPointOptions>(depth);
      options.tolerance = 1e-12;  // so that it takes all its steps
      options.max_steps = n;
      return depth;
    });
  }
  return curves;
}

}  // namespace banach::lm
