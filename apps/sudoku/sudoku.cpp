#include <apps/sudoku/sudoku.hpp>

#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <apps/cli/environment.hpp>
#include <apps/cli/interrupt.hpp>
#include <apps/cli/output.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/sudoku/options.hpp>
#include <apps/sudoku/page.hpp>
#include <apps/sudoku/train.hpp>

namespace banach::sudoku {
namespace {

void learn(const Options& options) {
  const Settings settings = resolve(options);
  const std::string out = options.common.out.value_or("out/sudoku");
  const cli::OutputFolder folder(out,
                                 {"report.html", "summary.json", "metrics.csv", "checkpoint.safetensors"});
  const std::string checkpoint = folder.file("checkpoint.safetensors");
  if (!options.common.resume && !options.common.overwrite) check_replaceable(checkpoint, settings);

  Results results;
  results.environment = cli::environment();
  const cli::Interrupt interrupt;
  const auto stop = [&] { return interrupt.requested(); };
  train(settings, checkpoint, options.common.resume, stop, results);

  cli::conclude(folder, {.summary_json = summary_json(results),
                         .metrics_csv = metrics_csv(results),
                         .page = make_page(results),
                         .table = cli::text_table(summary_table(results)),
                         .sentences = findings(results)});
}

}  // namespace

cli::Subcommand add_sudoku(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("sudoku",
                         "Learn 4x4 Sudoku from solved boards: a quadratic program that learns the rules\n"
                         "as its constraints, beside two networks");
  command->get_formatter()->column_width(24);
  const auto options = std::make_shared<Options>();
  add_options(*command, *options);
  const auto job = [options] {
    cli::use_threads(options->common.threads);
    learn(*options);
  };
  return {command, job};
}

}  // namespace banach::sudoku
