#pragma once
// What a run found, as plain numbers: what the files, the table and the page are made of.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <apps/cli/run_notes.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/flow/measure.hpp>
#include <apps/training/results.hpp>

namespace banach::flow {

/// A look at held-out points.
struct Probe {
  std::int64_t step = 0;
  double seconds = 0;  ///< of training up to here, probes not counted
  double nats = 0;     ///< mean of log p(x), by the exact determinant
  double correct = 0;  ///< share of the labels, if the model classifies
};

/// A model in training, and all that makes it again.
struct ModelResult {
  std::string name{}, data{}, estimator{};
  Architecture architecture{};
  EstimatorSettings settings{};
  std::uint64_t seed = 0;
  std::int64_t parameters = 0, test = 0;
  std::vector<training::Step> steps{};
  std::vector<Probe> probes{};
  std::string failure{};                    ///< why training stopped before its end, if it did
  std::map<std::string, Tensor> learned{};  ///< the state of the model

  double seconds() const { return training::total_seconds(steps); }
  const Probe& last() const { return probes.back(); }
};

std::string to_text(const ModelResult& result);
/// Throws FileError if the text is not what to_text wrote.
ModelResult from_text(const std::string& text);

/// The model as its result has it. Throws FileError if the state does not fit.
PointFlow restore(const ModelResult& result);

/// What is measured and drawn once a model is trained.
struct Findings {
  Mean nats;
  double truth = 0;  ///< mean of the true log p at the held-out points; NaN if there is no closed form
  double mass = 0;   ///< of the density over [-10, 10]^2
  EstimatorCheck estimator;
  Reconstruction reconstruction;
  Constants constants;
  Tensor density;               ///< over [-reach, reach]^2, (side^2)
  Tensor samples{};             ///< (n, 2)
  bool sampled = false;         ///< every block was inverted for every sample
  std::vector<Tensor> paths{};  ///< between held-out points, (m, 2) each
};
inline constexpr std::int64_t density_side = 160;
inline constexpr double density_reach = 4.8;

Findings examine(const ModelResult& result);

struct Results {
  cli::Entries settings, environment;
  std::vector<ModelResult> models;
  std::vector<Findings> findings;  ///< one a model

  /// Of the model of the same set by the exact determinant; null if there is none.
  const Findings* exact_of(const std::string& data) const;
};

std::string metrics_csv(const Results& results);
std::string summary_json(const Results& results);
cli::SummaryTable summary_table(const Results& results);
std::vector<std::string> sentences(const Results& results);

}  // namespace banach::flow
