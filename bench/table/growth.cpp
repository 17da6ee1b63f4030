// How cost grows: time for one sample's evaluation, and memory.
#include <bench/table/deq.hpp>

#include <banach/banach.hpp>

#include <fmt/format.h>

namespace bench {

using namespace banach;

namespace {

/// A whole step, its time divided by samples and evaluations.
Line step_line(const std::string& name, std::int64_t batch, std::int64_t d) {
  const auto samples = static_cast<double>(batch);
  return {.name = name,
          .unit = Unit::microseconds,
          .ours =
              [=] {
                Work work = deq_step(equilibrium(batch, d), exact(Picard{}, {1e-4}));
                work.per = samples;
                work.per_evaluation = true;
                return work;
              },
          .floor = product_floor(batch, d),
          .floors = [=](const Counts&) { return 1.0 / samples; }};
}

Line steps_line(const std::string& solver_name, const Solver& solver, int steps) {
  return {.name = steps_name(solver_name, steps),
          .unit = Unit::microseconds,
          .ours =
              [=] {
                Work work = deq_step(slow_contraction(0.99), {.solver = solver,
                                                              .backward = JacobianFree{},
                                                              .tolerance = 0.0,
                                                              .max_steps = steps,
                                                              .body = Body::replayed});
                work.per = 128.0;
                work.per_evaluation = true;
                return work;
              },
          .floor = product_floor(128, 256),
          .floors = [](const Counts&) { return 1.0 / 128.0; }};
}

}  // namespace

std::vector<Section> growth_sections() {
  Section batches{"Growth with the batch: Picard, exact, d 256; time for one evaluation of one sample", {}};
  for (const std::int64_t batch : {1, 4, 16, 64, 256, 1024, 4096})
    batches.lines.push_back(step_line(fmt::format("batch {}", batch), batch, 256));
  Section widths{"Growth with d: Picard, exact, batch 128; time for one evaluation of one sample", {}};
  for (const std::int64_t d : {16, 64, 256, 1024, 2048})
    widths.lines.push_back(step_line(fmt::format("d {}", d), 128, d));
  Section steps{
      "Growth with steps: forward to so many and JacobianFree, d 256, batch 128; time for one evaluation of "
      "one "
      "sample",
      {}};
  for (const int count : {1, 10, 100, 1000}) steps.lines.push_back(steps_line("Picard", Picard{}, count));
  for (const int count : {10, 100, 1000})
    steps.lines.push_back(steps_line("Anderson(6)", Anderson{.memory = 6}, count));
  for (const int count : {10, 100, 1000}) steps.lines.push_back(steps_line("Broyden", Broyden{}, count));
  return {batches, widths, steps};
}

}  // namespace bench
