#include <apps/flow/flow.hpp>

#include <limits>
#include <memory>

#include <CLI/CLI.hpp>

#include <apps/cli/check.hpp>
#include <apps/cli/output.hpp>
#include <apps/flow/page.hpp>
#include <apps/flow/train.hpp>
#include <apps/flow/use.hpp>
#include <apps/training/command.hpp>
#include <banach/engine/error.hpp>

namespace banach::flow {
namespace {

void learn(const Options& given) {
  const Options options = resolve(given);
  training::carry_out(options.common, "out/flow", &Results::models,
                      [&](const training::Place& place, Results& results) {
                        train(options, place, results);
                        for (const ModelResult& model : results.models)
                          results.examined.push_back(examine(model));
                      });
}

/// sample, density, reconstruct or classify.
cli::Subcommand add_use(CLI::App& parent, const std::string& name, const std::string& what,
                        Used (*job)(const UseOptions&)) {
  CLI::App& app = cli::new_command(parent, name, what);
  const auto options = std::make_shared<UseOptions>();
  UseOptions& o = *options;
  o.out = "out/flow-" + name;
  const auto group = cli::in_group("Model"), running = cli::in_group("Running");
  group(app.add_option("--checkpoint", o.checkpoint, "Of banach flow train (default: " + o.checkpoint + ")"),
        "FILE")
      ->check(cli::path());
  group(app.add_option("--model", o.model, "Its name, such as 'moons, exact' (default: the first)"), "NAME");
  if (name == "density") {
    group(app.add_option("--grid", o.grid, "Of points: cells along each side (default: 200)"), "N")
        ->check(cli::whole_number(2, 4000));
    group(app.add_option("--reach", o.reach, "The grid is [-X, X]^2 (default: 4.8)"), "X")
        ->check(cli::number(true));
  } else {
    group(app.add_option("--count", o.count, "Samples (default: 1000)"), "N")
        ->check(cli::whole_number(2, 1'000'000));
    if (name == "sample")
      running(app.add_option("--seed", o.seed, "Of what is drawn (default: 0)"), "N")
          ->check(cli::whole_number(0, std::numeric_limits<std::uint64_t>::max()));
  }
  running(app.add_option("--out", o.out, "Folder for the results (default: " + o.out + ")"), "DIR")
      ->check(cli::path());
  running(app.add_option("--threads", o.threads, "Threads, 0 for all cores (default)"), "N")
      ->check(cli::whole_number(0, 1024));
  return {&app, [options, job] {
            cli::use_threads(options->threads);
            const cli::OutputFolder folder(options->out, {"report.html", "summary.json", "metrics.csv"});
            const Used used = job(*options);
            cli::conclude(folder, used.outcome);
            if (!used.failure.empty()) throw Error(used.failure);
          }};
}

}  // namespace

cli::Subcommand add_flow(CLI::App& app) {
  CLI::App& command = cli::new_command(app, "flow",
                                       "Invertible residual networks: learn a density, draw from it, weigh,\n"
                                       "classify, invert");
  command.require_subcommand(1);
  cli::Subcommand learning = cli::command<Options>(
      command, "train",
      "Learn the density of points or images, by exact or estimated\nlog-determinants, their labels, or both",
      add_train_options, learn);
  return {&command,
          [] {},
          {std::move(learning), add_use(command, "sample", "Samples of a trained model", sample),
           add_use(command, "density", "How likely a trained model holds points or images", density),
           add_use(command, "classify", "Labels that a model trained with --classify gives", classify),
           add_use(command, "reconstruct", "How exactly a trained model is inverted, block by block",
                   reconstruct_samples)}};
}

}  // namespace banach::flow
