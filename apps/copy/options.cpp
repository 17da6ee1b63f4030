#include <apps/copy/options.hpp>

#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/cli/check.hpp>
#include <apps/cli/run.hpp>
#include <apps/copy/models.hpp>
#include <apps/copy/task.hpp>

namespace banach::copy_task {

void add_options(CLI::App& app, Options& o) {
  const auto what = cli::in_group("What is trained"), training = cli::in_group("Training"),
             solve = cli::in_group("Equilibrium");
  what(app.add_option_function<std::string>(
           "--models",
           [&o](const std::string& list) {
             o.models = cli::split_choices("--models", "model", list, model_names());
           },
           "Out of, separated by commas (default: all three)\n"
           "  trellis      the equilibrium of a trellis network\n"
           "  transformer  the equilibrium of a transformer\n"
           "  lstm         an LSTM with as many parameters as the trellis"),
       "LIST");
  what(
      app.add_option("--delay", o.delay, "Positions between a symbol and its recall, less 10 (default: 100)"),
      "T")
      ->check(cli::whole_number(1, 100'000));
  what(app.add_option("--hidden", o.hidden, "Units of the trellis (default: 40)"), "N")
      ->check(cli::whole_number(1, 4096));
  what(cli::add_numbers(app, "--dilations", o.dilations,
                        "How far its convolutions reach, separated by commas; their number divides\n"
                        "that of the units (default: 10 and the delay)",
                        1, 1'000'000),
       "LIST");
  training(app.add_option("--steps", o.steps, "Steps of Adam for each model (default: 2500)"), "N")
      ->check(cli::whole_number(1, 10'000'000));
  training(app.add_option("--batch-size", o.batch_size, "Sequences a step, all of them new (default: 16)"),
           "N")
      ->check(cli::whole_number(1, 1'000'000));
  training(app.add_option("--test", o.test, "Sequences held out (default: 128)"), "N")
      ->check(cli::whole_number(1, 1'000'000));
  training(app.add_option("--trellis-rate", o.trellis_rate,
                          "Of Adam for the trellis; to zero over the last fifth (default: 0.01)"),
           "X")
      ->check(cli::number(true));
  training(app.add_option("--transformer-rate", o.transformer_rate,
                          "The same for the transformer (default: 0.003)"),
           "X")
      ->check(cli::number(true));
  training(app.add_option("--lstm-rate", o.lstm_rate, "The same for the LSTM (default: 0.005)"), "X")
      ->check(cli::number(true));
  training(app.add_option("--jacobian", o.jacobian,
                          "Weight of the trellis' Jacobian regularisation ||v^T J||^2 / d, times\n"
                          "(1 - step / steps)^4 (default: 0.1; 0: none)"),
           "X")
      ->check(cli::number(false));
  solve(app.add_option("--tolerance", o.tolerance, "Of forward and backward solves (default: 0.001)"), "X")
      ->check(cli::number(true));
  solve(app.add_option("--max-steps", o.max_steps, "Evaluations a solve, at most (default: 30)"), "N")
      ->check(cli::whole_number(1, 10'000));
  cli::add_common_options(app, o.common, "out/copy");
}

Settings resolve(const Options& o) {
  std::vector<std::int64_t> dilations = o.dilations;
  if (dilations.empty())
    dilations = o.delay == remembered ? std::vector<std::int64_t>{o.delay}
                                      : std::vector<std::int64_t>{remembered, o.delay};
  if (o.hidden % static_cast<std::int64_t>(dilations.size()) != 0)
    throw cli::UsageError(fmt::format("--hidden {}: must be a multiple of the number of dilations, {}",
                                      o.hidden, dilations.size()));
  constexpr std::int64_t probes = 40;
  return {.models = o.models,
          .delay = o.delay,
          .steps = o.steps,
          .batch_size = o.batch_size,
          .test = o.test,
          .probe_every = std::max<std::int64_t>(1, (o.steps + probes - 1) / probes),
          .hidden = o.hidden,
          .dilations = std::move(dilations),
          .trellis_rate = o.trellis_rate,
          .transformer_rate = o.transformer_rate,
          .lstm_rate = o.lstm_rate,
          .jacobian = o.jacobian,
          .tolerance = o.tolerance,
          .max_steps = o.max_steps,
          .seed = o.common.seed};
}

cli::Entries describe(const Settings& s) {
  return {{"--models", fmt::format("{}", fmt::join(s.models, ","))},
          {"--delay", std::to_string(s.delay)},
          {"--hidden", std::to_string(s.hidden)},
          {"--dilations", fmt::format("{}", fmt::join(s.dilations, ","))},
          {"--steps", std::to_string(s.steps)},
          {"--batch-size", std::to_string(s.batch_size)},
          {"--test", std::to_string(s.test)},
          {"--trellis-rate", fmt::format("{:g}", s.trellis_rate)},
          {"--transformer-rate", fmt::format("{:g}", s.transformer_rate)},
          {"--lstm-rate", fmt::format("{:g}", s.lstm_rate)},
          {"--jacobian", fmt::format("{:g}", s.jacobian)},
          {"--tolerance", fmt::format("{:g}", s.tolerance)},
          {"--max-steps", std::to_string(s.max_steps)},
          {"--seed", std::to_string(s.seed)}};
}

}  // namespace banach::copy_task
