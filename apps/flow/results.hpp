#pragma once
// What a run found, as plain numbers: what the files, the table and the page are made of.

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <apps/cli/run_notes.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/flow/measure.hpp>
#include <apps/training/results.hpp>

namespace banach::flow {

/// A look at held-out samples: on the way at some, at the end at all.
struct Look {
  std::int64_t step = 0;
  double seconds = 0;  ///< of training up to here, probes not counted
  double nats = 0;     ///< mean of log p(x), if the model weighs
  double correct = 0;  ///< share of the labels, if it classifies
};

/// A model in training, and all that makes it again.
struct ModelResult {
  std::string name{}, data{}, estimator{};
  Architecture architecture{};
  EstimatorSettings settings{};
  std::string folder{};  ///< of images
  std::int64_t reduce = 1;
  std::uint64_t seed = 0;
  std::int64_t parameters = 0, test = 0;
  std::vector<training::Step> steps{};
  std::vector<Look> probes{};
  std::string failure{};                    ///< why training stopped before its end, if it did
  std::map<std::string, Tensor> learned{};  ///< the state of the model

  double seconds() const { return training::total_seconds(steps); }
  const Look& last() const { return probes.back(); }
  bool points() const { return architecture.levels == 0; }
  bool classifies() const { return architecture.classes > 0; }
  /// How many held-out samples a look takes before the last: of images it is the log-determinant that takes
  /// long.
  std::int64_t weighed_on_the_way() const;
  std::int64_t labelled_on_the_way() const;
  /// Entries of a sample.
  double entries() const;
  /// -log2 p(x) / entries: of images, whose pixels are whole numbers, bits that a code would take for each.
  double bits(double nats) const;
};

std::string to_text(const ModelResult& result);
/// Throws FileError if the text is not what to_text wrote.
ModelResult from_text(const std::string& text);

/// The model as its result has it. Throws FileError if the state does not fit.
FlowModel restore(const ModelResult& result);
/// What it was trained on.
std::unique_ptr<Source> source_of(const ModelResult& result);

/// What is measured and drawn once a model is trained.
struct Examined {
  Mean nats{};  ///< NaN if the model does not weigh
  double truth =
      std::numeric_limits<double>::quiet_NaN();  ///< mean of the true log p, if it has a closed form
  double mass = std::numeric_limits<double>::quiet_NaN();  ///< of points: of the density over [-10, 10]^2
  double infinite_variance = 0;                            ///< of log det in evaluation: see Weighed
  std::optional<EstimatorCheck> estimator{};               ///< that of training, if the model weighs
  Reconstruction reconstruction{};
  Constants constants{};
  Tensor density{};                ///< of points, over [-reach, reach]^2: (side^2)
  Tensor samples{};                ///< drawn from the model, if it weighs
  bool sampled = false;            ///< every block was inverted for every sample
  std::vector<Tensor> paths{};     ///< between held-out samples, straight in z
  Tensor originals{}, restored{};  ///< images, and what inverse(forward(x)) makes of them
};
inline constexpr std::int64_t density_side = 160;
inline constexpr double density_reach = 4.8;

Examined examine(const ModelResult& result);

struct Results {
  cli::Entries settings, environment;
  std::vector<ModelResult> models;
  std::vector<Examined> examined;  ///< one a model

  /// Of the model of the same set by the exact determinant; null if there is none.
  const Examined* exact_of(const std::string& data) const;
};

std::string metrics_csv(const Results& results);
std::string summary_json(const Results& results);
cli::SummaryTable summary_table(const Results& results);
/// What the numbers say, in sentences.
std::vector<std::string> findings(const Results& results);
/// A sentence, with a blank before it, where the variance of `what` may be infinite for a share of samples
/// and blocks; else empty.
std::string of_variance(const std::string& what, double share);

}  // namespace banach::flow
