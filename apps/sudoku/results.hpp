#pragma once
// What a run found, as plain numbers: what the files, the table and the page are made of.

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <apps/cli/run_notes.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/sudoku/boards.hpp>
#include <apps/sudoku/models.hpp>
#include <apps/training/results.hpp>

namespace banach::sudoku {

inline constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

/// Of predictions for some boards.
struct Errors {
  double boards = unknown;  ///< share with a row, column or block that is wrong
  double cells = unknown;   ///< share of cells that differ from the solution
  double mse = unknown;     ///< mean squared error of the 64 entries
};

/// A look at a model along its training.
struct Probe {
  std::int64_t step = 0;
  double seconds = 0;  ///< of training up to here, probes not counted
  Errors train{}, test{};
};

using training::Step, training::Tally;

struct ModelResult {
  std::string name{}, description{};
  std::int64_t parameters = 0;
  std::vector<Step> steps{};
  std::vector<Probe> probes{};
  Tally solves{}, gradients{};              ///< problems of all training steps, by status
  std::vector<Board> predictions{};         ///< for the held-out puzzles, at the end
  std::map<std::string, Tensor> learned{};  ///< of optnet: see Equalities
  std::string failure{};                    ///< why training stopped before its end, if it did

  double seconds() const;
  /// At the end.
  const Errors& train() const { return probes.back().train; }
  const Errors& test() const { return probes.back().test; }
  /// The first look from which on less than `share` of the held-out boards are wrong, to the end.
  const Probe* below(double share) const;
};

struct Results {
  cli::Entries settings, environment;
  std::int64_t steps_per_epoch = 1;
  std::int64_t train_probed = 0;  ///< boards of the training set in Probe::train
  Dataset data;
  std::vector<ModelResult> models;
  std::optional<Equalities> initial, learned;  ///< of optnet
  Errors by_rules;  ///< of its program with the rules themselves as equalities, on the held-out boards

  double epoch_of(const Probe& probe) const {
    return static_cast<double>(probe.step) / static_cast<double>(steps_per_epoch);
  }
};

/// All of a model but its steps and tensors, to keep in a checkpoint; finite numbers survive exactly.
std::string to_text(const ModelResult& result);
/// Throws FileError if the text is not what to_text wrote.
ModelResult from_text(const std::string& text);

/// One row a training step or probe.
std::string metrics_csv(const Results& results);
std::string summary_json(const Results& results);

/// One row a model, as printed at the end and shown on the page.
cli::SummaryTable summary_table(const Results& results);

/// What the numbers say, in sentences.
std::vector<std::string> findings(const Results& results);

}  // namespace banach::sudoku
