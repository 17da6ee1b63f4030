#pragma once
// What `banach lab` can be asked, and what that means once the defaults of the model and the data are filled
// in.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <apps/cli/common.hpp>
#include <apps/cli/run_notes.hpp>
#include <apps/rules/rules.hpp>

namespace CLI {
class App;
}

namespace banach::lab {

using namespace rules;  // the lab is about them

/// The command line as given; what was left out is empty.
struct Options {
  cli::CommonOptions common;
  std::optional<std::string> data;
  std::string data_dir;
  std::string model = "mlp";
  std::vector<std::string> rules;
  std::string solver = "anderson:5";
  std::optional<std::int64_t> epochs, steps, batch_size, probe_every;
  std::optional<double> learning_rate, tolerance;
  std::optional<std::int64_t> probe_batches, probe_seeds;
  std::optional<int> max_steps;
  std::int64_t hidden = 128;
  double bound = 0.9;

  std::optional<std::string> problem;
  double rho = 0.9;
  bool nonnormal = false;
  std::optional<std::int64_t> dimension;
};

/// Declares some options that `banach lab` and `banach lab spectrum` share: of data and model, of the forward
/// equation, of the schedule.
void add_model_options(CLI::App& app, Options& options);
void add_solving_options(CLI::App& app, Options& options);
void add_schedule_options(CLI::App& app, Options& options);
/// Declares all options of `banach lab`.
void add_options(CLI::App& app, Options& options);
/// Throws cli::UsageError for an option that was given and that the problem, or the model, has no use for.
void check_combinations(const CLI::App& app, const Options& options);

/// A training, every setting decided.
struct TrainSettings {
  std::string data, data_dir, model;
  std::vector<Rule> rules;
  std::string solver;
  std::int64_t steps = 0;  ///< for each rule
  std::int64_t batch_size = 0;
  double learning_rate = 0, weight_decay = 0;
  bool cosine_schedule = true;
  std::int64_t hidden = 0;
  double bound = 0;  ///< of the mlp's ||W||
  double tolerance = 0;
  int max_steps = 0;
  std::int64_t probe_every = 0;
  std::int64_t probe_batches = 0, probe_seeds = 0;  ///< over which bias and variance are measured
  std::uint64_t seed = 0;
};

using cli::Entries;

/// Fills in what depends on model and data. Throws cli::UsageError for settings that contradict one another.
TrainSettings resolve(const Options& options, const std::string& data, std::int64_t training_images);

/// All settings that decide what is computed, by the name of their option.
Entries describe(const TrainSettings& settings);

}  // namespace banach::lab
