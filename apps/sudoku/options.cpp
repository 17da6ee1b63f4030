#include <apps/sudoku/options.hpp>

#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/cli/check.hpp>
#include <apps/cli/run.hpp>
#include <apps/sudoku/models.hpp>

namespace banach::sudoku {

void add_options(CLI::App& app, Options& o) {
  const auto what = cli::in_group("What is trained"), training = cli::in_group("Training");
  what(app.add_option_function<std::string>(
           "--models",
           [&o](const std::string& list) {
             o.models = cli::split_choices("--models", "model", list, model_names());
           },
           "Out of, separated by commas (default: all three)\n"
           "  optnet  a quadratic program with learned equalities\n"
           "  conv    a convolutional network\n"
           "  mlp     a fully connected network"),
       "LIST");
  what(app.add_option("--split", o.split,
                      "puzzle: no puzzle is both trained on and held out (default)\n"
                      "grid: no solution is"),
       "NAME")
      ->check(cli::one_of({"puzzle", "grid"}));
  what(app.add_option("--train", o.train, "Boards to train on, up to 50000 (default: 9000)"), "N")
      ->check(cli::whole_number(1, 50'000));
  what(app.add_option("--test", o.test, "Boards held out (default: 1000)"), "N")
      ->check(cli::whole_number(1, 50'000));
  training(app.add_option("--epochs", o.epochs, "Passes over the boards for each model (default: 20)"), "N")
      ->check(cli::whole_number(1, 1'000'000));
  training(app.add_option("--batch-size", o.batch_size, "Boards a step (default: 150)"), "N")
      ->check(cli::whole_number(1, 1'000'000));
  training(app.add_option("--learning-rate", o.learning_rate,
                          "Of Adam for optnet, to zero along a cosine (default: 0.1)"),
           "X")
      ->check(cli::number(true));
  training(app.add_option("--baseline-rate", o.baseline_rate, "The same for conv and mlp (default: 0.002)"),
           "X")
      ->check(cli::number(true));
  cli::add_common_options(app, o.common, "out/sudoku");
}

Settings resolve(const Options& o) {
  if (o.batch_size > o.train)
    throw cli::UsageError(
        fmt::format("--batch-size {}: there are only {} boards to train on", o.batch_size, o.train));
  constexpr std::int64_t probes = 30;
  const std::int64_t steps = o.epochs * (o.train / o.batch_size);
  return {.models = o.models,
          .split = o.split == "grid" ? Split::grid : Split::puzzle,
          .train = o.train,
          .test = o.test,
          .steps = steps,
          .batch_size = o.batch_size,
          .probe_every = std::max<std::int64_t>(1, (steps + probes - 1) / probes),
          .learning_rate = o.learning_rate,
          .baseline_rate = o.baseline_rate,
          .seed = o.common.seed};
}

cli::Entries describe(const Settings& s) {
  return {{"--models", fmt::format("{}", fmt::join(s.models, ","))},
          {"--split", s.split == Split::grid ? "grid" : "puzzle"},
          {"--train", std::to_string(s.train)},
          {"--test", std::to_string(s.test)},
          {"--epochs", std::to_string(s.steps / (s.train / s.batch_size))},
          {"--batch-size", std::to_string(s.batch_size)},
          {"--learning-rate", fmt::format("{:g}", s.learning_rate)},
          {"--baseline-rate", fmt::format("{:g}", s.baseline_rate)},
          {"--seed", std::to_string(s.seed)}};
}

}  // namespace banach::sudoku
