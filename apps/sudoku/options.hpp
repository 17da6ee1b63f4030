#pragma once
// What `banach sudoku` can be asked, and what that means with the defaults filled in.

#include <cstdint>
#include <string>
#include <vector>

#include <apps/cli/common.hpp>
#include <apps/cli/run_notes.hpp>
#include <apps/sudoku/boards.hpp>

namespace CLI {
class App;
}

namespace banach::sudoku {

/// The command line; what was left out has its default.
struct Options {
  cli::CommonOptions common;
  std::vector<std::string> models = {"optnet", "conv", "mlp"};
  std::string split = "puzzle";
  std::int64_t train = 9000, test = 1000;
  std::int64_t epochs = 20, batch_size = 150;
  double learning_rate = 0.1, baseline_rate = 0.002;
};

/// Declares all options of `banach sudoku`.
void add_options(CLI::App& app, Options& options);

/// A run, every setting decided.
struct Settings {
  std::vector<std::string> models;
  Split split = Split::puzzle;
  std::int64_t train = 0, test = 0;             ///< boards
  std::int64_t steps = 0, batch_size = 0;       ///< for each model
  std::int64_t probe_every = 0;                 ///< steps between two looks at the errors
  double learning_rate = 0, baseline_rate = 0;  ///< peaks, of optnet and of the others
  std::uint64_t seed = 0;

  double epoch_of(std::int64_t step) const {
    return static_cast<double>(step) / static_cast<double>(train / batch_size);
  }
};

/// Throws cli::UsageError for settings that contradict one another.
Settings resolve(const Options& options);

/// All settings that decide what is computed, by the name of their option.
cli::Entries describe(const Settings& settings);

}  // namespace banach::sudoku
