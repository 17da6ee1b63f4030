#include <apps/denoise/options.hpp>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/cli/check.hpp>
#include <apps/cli/run.hpp>
#include <apps/denoise/models.hpp>

namespace banach::denoise {

void add_options(CLI::App& app, Options& o) {
  const auto what = cli::in_group("What is compared"), training = cli::in_group("Training");
  what(app.add_option_function<std::string>(
           "--methods",
           [&o](const std::string& list) {
             o.methods = cli::split_choices("--methods", "method", list, method_names());
           },
           "Out of, separated by commas (default: fc,optnet,tv,tuned)\n"
           "  fc      a fully connected network\n"
           "  optnet  a quadratic program with learned Q, G and h, from a random start\n"
           "  tv      total variation with the lambda that is best on signals of its own\n"
           "  tuned   a quadratic program that starts as total variation and is trained\n"
           "  tuned-d the same, of which only the differences and lambdas are trained"),
       "LIST");
  what(app.add_option("--signals", o.signals,
                      "Signals to train on; a tenth as many to choose lambda by, and\n"
                      "another tenth to test on (default: 10000)"),
       "N")
      ->check(cli::whole_number(20, 10'000'000));
  training(app.add_option("--epochs", o.epochs, "Passes over the signals for each method (default: 20)"), "N")
      ->check(cli::whole_number(1, 1'000'000));
  training(app.add_option("--batch-size", o.batch_size, "Signals a step (default: 100)"), "N")
      ->check(cli::whole_number(1, 1'000'000));
  cli::add_common_options(app, o.common, "out/denoise");
}

Settings resolve(const Options& o) {
  if (o.batch_size > o.signals)
    throw cli::UsageError(
        fmt::format("--batch-size {}: there are only {} signals to train on", o.batch_size, o.signals));
  return {.methods = o.methods,
          .signals = o.signals,
          .epochs = o.epochs,
          .batch_size = o.batch_size,
          .seed = o.common.seed};
}

cli::Entries describe(const Settings& s) {
  return {{"--methods", fmt::format("{}", fmt::join(s.methods, ","))},
          {"--signals", std::to_string(s.signals)},
          {"--epochs", std::to_string(s.epochs)},
          {"--batch-size", std::to_string(s.batch_size)},
          {"--seed", std::to_string(s.seed)}};
}

}  // namespace banach::denoise
