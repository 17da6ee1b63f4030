#include <apps/lm/sample.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <variant>

#include <apps/lm/evaluate.hpp>
#include <banach/engine/error.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::lm {

std::int64_t draw(std::span<const float> log_p, double temperature, Random& random) {
  constexpr std::ptrdiff_t first = nn::Vocabulary::unknown + 1;
  const auto best = std::max_element(log_p.begin() + first, log_p.end());
  if (temperature == 0) return best - log_p.begin();
  std::vector<double> sums;
  double total = 0;
  for (std::size_t i = first; i < log_p.size(); ++i)
    sums.push_back(total +=
                   std::exp((static_cast<double>(log_p[i]) - static_cast<double>(*best)) / temperature));
  const auto chosen = std::upper_bound(sums.begin(), sums.end(), total * random.uniform());
  return first + std::min<std::int64_t>(chosen - sums.begin(), std::ssize(sums) - 1);
}

Tokens sample(LanguageModel& model, const nn::Depth& depth, const Tokens& prompt,
              const SampleSettings& settings, SampleCost& cost) {
  if (prompt.empty()) fail<ValueError>("sample", "the prompt must have at least one token: got none");
  const NoGrad off;
  nn::eval(model);
  Random random(settings.seed);
  const bool equilibrium = std::holds_alternative<FixedPointOptions>(depth);
  const auto start = std::chrono::steady_clock::now();
  double spent_on_other = 0;

  Tokens next = prompt, added;
  nn::SegmentMemory memory;
  Var last;  // the equilibrium of the last position
  cost = {};
  while (cost.tokens < settings.tokens) {
    const Var x = model.embed(tensor(next, {1, std::ssize(next)}));
    const bool can_be_warm = equilibrium && last.defined();
    LanguageModel::Reading reading =
        model.read(x, memory, depth, can_be_warm && settings.warm ? last : Var());
    if (!added.empty()) cost.evaluations += mean_evaluations(reading.solution.report);
    if (equilibrium && !reading.solution.report.converged()) ++cost.unconverged;
    if (settings.compare && can_be_warm) {
      const auto before = std::chrono::steady_clock::now();
      const auto other = model.read(x, memory, depth, settings.warm ? Var() : last);
      cost.other_evaluations += mean_evaluations(other.solution.report);
      spent_on_other += std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
    }
    const Var& z = reading.solution.z;
    last = slice(z, 1, z.size(1) - 1, z.size(1));
    memory = std::move(reading.memory);

    const Tensor log_p = model.log_probabilities(reading.features).value();
    const std::int64_t token =
        draw(log_p.rows(log_p.size(0) - 1, log_p.size(0)).values<float>(), settings.temperature, random);
    added.push_back(token);
    next = {token};
    ++cost.tokens;
  }
  const double solved_alone =
      std::max<double>(1, static_cast<double>(cost.tokens) - 1);  // the first came with the prompt
  cost.evaluations /= solved_alone;
  cost.other_evaluations /= solved_alone;
  cost.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() - spent_on_other;
  nn::train(model);
  return added;
}

Tokens line_end(const nn::Vocabulary& vocabulary) {
  const std::int64_t end = vocabulary.index("\n");
  return {end == nn::Vocabulary::unknown ? nn::Vocabulary::unknown + 1 : end};
}

std::string text_behind(const nn::Vocabulary& vocabulary, const Tokens& prompt, const Tokens& added) {
  Tokens all = prompt;
  all.insert(all.end(), added.begin(), added.end());
  return vocabulary.decode(all).substr(vocabulary.decode(prompt).size());
}

}  // namespace banach::lm
