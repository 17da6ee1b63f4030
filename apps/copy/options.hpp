#pragma once
// What `banach copy` can be asked, and what that means with the defaults filled in.

#include <cstdint>
#include <string>
#include <vector>

#include <apps/cli/common.hpp>
#include <apps/cli/run_notes.hpp>

namespace CLI {
class App;
}

namespace banach::copy_task {

/// The command line; what was left out has its default.
struct Options {
  cli::CommonOptions common;
  std::vector<std::string> models = {"trellis", "transformer", "lstm"};
  std::int64_t delay = 100;
  std::int64_t steps = 2500, batch_size = 16, test = 128;
  std::int64_t hidden = 40;
  std::vector<std::int64_t> dilations = {};
  double trellis_rate = 0.01, transformer_rate = 0.003, lstm_rate = 0.005;
  double jacobian = 0.1;
  double tolerance = 1e-3;
  int max_steps = 30;
};

/// Declares all options of `banach copy`.
void add_options(CLI::App& app, Options& options);

/// A run, every setting decided.
struct Settings {
  std::vector<std::string> models;
  std::int64_t delay = 0;
  std::int64_t steps = 0, batch_size = 0, test = 0;
  std::int64_t probe_every = 0;  ///< steps between two looks at held-out sequences
  std::int64_t hidden = 0;
  std::vector<std::int64_t> dilations;
  double trellis_rate = 0, transformer_rate = 0, lstm_rate = 0;  ///< peaks
  double jacobian = 0;   ///< weight of the trellis' Jacobian regularisation at the start
  double tolerance = 0;  ///< of forward and backward solves
  int max_steps = 0;
  std::uint64_t seed = 0;
};

/// Throws cli::UsageError for settings that contradict one another.
Settings resolve(const Options& options);

/// All settings that decide what is computed, by the name of their option.
cli::Entries describe(const Settings& settings);

}  // namespace banach::copy_task
