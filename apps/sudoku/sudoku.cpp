#include <apps/sudoku/sudoku.hpp>

#include <apps/sudoku/options.hpp>
#include <apps/sudoku/page.hpp>
#include <apps/sudoku/train.hpp>
#include <apps/training/command.hpp>

namespace banach::sudoku {
namespace {

void learn(const Options& options) {
  const Settings settings = resolve(options);
  training::carry_out(
      options.common, "out/sudoku", &Results::models,
      [&](const training::Place& place, Results& results) { train(settings, place, results); });
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
