#include <apps/sudoku/sudoku.hpp>

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
  const cli::OutputFolder folder = training::folder_of(options.common, "out/sudoku");
  const cli::Interrupt interrupt;
  Results results;
  results.environment = cli::environment();
  train(settings, training::place_of(folder, options.common, interrupt), results);
  cli::conclude(folder, {.summary_json = summary_json(results),
                         .metrics_csv = metrics_csv(results),
                         .page = make_page(results),
                         .table = cli::text_table(summary_table(results)),
                         .sentences = findings(results)});
}

}  // namespace

cli::Subcommand add_sudoku(CLI::App& app) {
  return cli::command<Options>(
      app, "sudoku",
      "Learn 4x4 Sudoku from solved boards: a quadratic program that learns the rules\n"
      "as its constraints, beside two networks",
      add_options, learn);
}

}  // namespace banach::sudoku
