#pragma once
// What a run found, as plain numbers: what the files, the table and the page are made of.

#include <cstdint>
#include <string>
#include <vector>

#include <apps/cli/run_notes.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/training/results.hpp>

namespace banach::copy_task {

/// One step of training; of an LSTM, 0 evaluations.
struct Step {
  double loss = 0, seconds = 0;
  double forward = 0, backward = 0;  ///< evaluations of f, and products with its Jacobian
};

/// A look at held-out sequences.
struct Probe {
  std::int64_t step = 0;
  double seconds = 0;  ///< of training up to here, probes not counted
  double loss = 0;     ///< nats, mean over all positions
  double wrong = 0;    ///< share of the symbols to recall
};

/// What a model said at the positions of recall of one held-out sequence.
struct Recall {
  std::vector<std::int64_t> symbols;  ///< the likeliest class at each
  std::vector<double> probability;    ///< that of the right symbol at each
};

struct ModelResult {
  std::string name{}, description{};
  std::int64_t parameters = 0;
  std::vector<Step> steps{};
  std::vector<Probe> probes{};
  std::vector<Recall> recalls{};  ///< of the first held-out sequences, at the end
  training::Tally solves{};       ///< equilibria of all training steps, by status
  std::string failure{};          ///< why training stopped before its end, if it did

  double seconds() const { return training::total_seconds(steps); }
  const Probe& last() const { return probes.back(); }
  /// The first look from which on the loss stays below this, to the end.
  const Probe* below(double loss) const;
  /// Means over all steps.
  double forward() const;
  double backward() const;
};

inline constexpr double goal = 1e-4;  ///< for the loss of the equilibrium

struct Results {
  cli::Entries settings, environment;
  std::int64_t delay = 0, test = 0;
  double memoryless = 0;
  std::vector<std::vector<std::int64_t>> asked;  ///< the symbols of the first held-out sequences
  std::vector<ModelResult> models;
};

/// All of a model but its steps, to keep in a checkpoint; finite numbers survive exactly.
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

}  // namespace banach::copy_task
