#pragma once
// What the `banach lm` commands can be asked, with its defaults.

#include <cstdint>
#include <string>
#include <vector>

#include <apps/cli/common.hpp>
#include <apps/cli/run_notes.hpp>

namespace CLI {
class App;
}

namespace banach::lm {

/// Which text, in which units.
struct TextSettings {
  std::string data = "default", file = {};
  std::string unit = "char";
  std::int64_t vocabulary = 0;  ///< most entries; 0: all characters, or 10,000 words

  /// Most entries, the default of words filled in; 0: all there are.
  std::int64_t most_entries() const { return vocabulary == 0 && unit == "word" ? 10'000 : vocabulary; }
};

/// Sizes of a model, apart from how deep its cell is run.
struct Architecture {
  std::string cell = "transformer";
  std::int64_t d = 128, heads = 4, hidden = 256;
  std::int64_t memory = 64;  ///< positions of earlier windows that a transformer sees
  std::vector<std::int64_t> dilations = {1, 2, 4, 8};  ///< of a trellis
  bool pre_norm = false, weight_norm = false, tied = true;
  double dropout = 0.0;
  std::vector<std::int64_t> cutoffs = {};  ///< of the adaptive softmax; none: a plain one
};

/// How an equilibrium is found.
struct SolveSettings {
  std::string solver = "anderson:5";
  double tolerance = 1e-2;
  int max_steps = 24;
  double adjoint_tolerance = 1e-3;  ///< of rules that solve the adjoint equation
};

struct TrainSettings {
  std::int64_t steps = 4000, batch = 16, length = 64;
  double learning_rate = 2e-3, clip = 0.25;
  std::int64_t warmup = 100;
  std::int64_t pretrain = 0;  ///< steps at the start with so many layers:
  int pretrain_layers = 4;
  double jacobian = 0.0;    ///< weight of the Jacobian's penalty
  double correction = 0.0;  ///< weight of the losses of iterates on the way
  std::int64_t probes = 20;
};

struct Settings {
  cli::CommonOptions common;
  TextSettings text;
  Architecture architecture;
  SolveSettings solve;
  TrainSettings train;
  std::vector<std::string> depths = {"phantom-neumann:5:0.5"};  ///< how deep the cell is run: see depth.hpp
  std::vector<std::uint64_t> seeds = {};                        ///< none: that of `common`
  bool several = false;                                         ///< as compare takes them
};

/// Declares what trains; `several`: lists of depths and seeds, as compare takes them. Options that contradict
/// one another, or would be ignored, throw cli::UsageError when they are parsed.
void add_train_options(CLI::App& app, Settings& settings, bool several);

/// Throws cli::UsageError for settings that contradict one another.
void check(const Settings& settings);
/// The same for clusters that do not fit a vocabulary of so many entries; 0: how many is not known yet.
void check_cutoffs(const Architecture& architecture, std::int64_t entries);

/// All settings that decide what is computed, by the name of their option.
cli::Entries describe(const Settings& settings);

/// Of a checkpoint, so that a model can be made again: text, architecture and how it is solved.
std::string to_text(const Settings& settings);
/// Throws FileError.
Settings from_text(const std::string& text);

}  // namespace banach::lm
