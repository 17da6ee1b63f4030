#pragma once
// What `banach denoise` can be asked, and what that means with the defaults filled in.

#include <cstdint>
#include <string>
#include <vector>

#include <apps/cli/common.hpp>
#include <apps/cli/run_notes.hpp>

namespace CLI {
class App;
}

namespace banach::denoise {

/// The command line; what was left out has its default.
struct Options {
  cli::CommonOptions common;
  std::vector<std::string> methods = {"fc", "optnet", "tv", "tuned"};
  std::int64_t signals = 10'000, epochs = 20, batch_size = 100;
};

/// Declares all options of `banach denoise`.
void add_options(CLI::App& app, Options& options);

/// A run, every setting decided.
struct Settings {
  std::vector<std::string> methods;
  std::int64_t signals = 0;  ///< to train on
  std::int64_t epochs = 0, batch_size = 0;
  std::uint64_t seed = 0;

  /// Signals to choose total variation's lambda by; as many others to test on.
  std::int64_t held_out() const { return signals / 10; }
  std::int64_t steps_an_epoch() const { return signals / batch_size; }
  std::int64_t steps() const { return epochs * steps_an_epoch(); }
};

/// Throws cli::UsageError for settings that contradict one another.
Settings resolve(const Options& options);

/// All settings that decide what is computed, by the name of their option.
cli::Entries describe(const Settings& settings);

}  // namespace banach::denoise
