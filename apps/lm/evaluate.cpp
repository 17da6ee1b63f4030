#include <apps/lm/evaluate.hpp>

#include <algorithm>
#include <chrono>

namespace banach::lm {

double mean_evaluations(const SolveReport& report) {
  if (report.samples.empty()) return report.nstep;
  double total = 0;
  for (const SampleReport& sample : report.samples) total += sample.nstep;
  return total / static_cast<double>(report.samples.size());
}

Score evaluate(LanguageModel& model, const nn::TextPart& part, std::int64_t batch, std::int64_t length,
               const nn::Depth& depth, std::int64_t windows) {
  const auto start = std::chrono::steady_clock::now();
  const NoGrad off;
  nn::eval(model);
  // A short part is read in fewer rows.
  const std::int64_t rows = std::clamp<std::int64_t>(part.size() / (length + 1), 1, batch);
  nn::TextStream stream(part, {.batch = rows, .length = length, .drop_last = false});
  const std::int64_t count = windows == 0 ? stream.windows() : std::min(windows, stream.windows());
  double nats = 0, tokens = 0, evaluations = 0, converged = 0;
  nn::SegmentMemory memory;
  for (std::int64_t i = 0; i < count; ++i) {
    const nn::TextWindow window = stream.next();
    LanguageModel::Reading reading = model.read(model.embed(window.inputs), memory, depth);
    const auto here = static_cast<double>(window.targets.size());
    nats += here * model.loss(reading.features, window.targets).item();
    tokens += here;
    const SolveReport& report = reading.solution.report;
    evaluations += mean_evaluations(report);
    converged +=
        report.count(Status::converged) / std::max<double>(1, static_cast<double>(report.samples.size()));
    memory = std::move(reading.memory);
  }
  nn::train(model);
  return {nats / tokens, evaluations / static_cast<double>(count),
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
          converged / static_cast<double>(count)};
}

}  // namespace banach::lm
