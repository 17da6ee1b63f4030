#pragma once
// What a run found, as plain numbers: what the files, the table and the pages are made of.

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <apps/cli/run_notes.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/training/results.hpp>
#include <banach/nn/text.hpp>

namespace banach::lm {

inline constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

/// One step of training; nothing but doubles, as a checkpoint keeps it.
struct Step {
  double loss = unknown, seconds = unknown;
  double forward = unknown, backward = unknown;  ///< evaluations and products with J
  double converged = unknown;                    ///< share of the samples; 0 for layers, which solve nothing
  double gradient_norm = unknown;                ///< before clipping
};

/// Of a model on a part of the text.
struct Score {
  double nats = unknown;         ///< a token
  double evaluations = unknown;  ///< of the cell, mean over samples
  double seconds = unknown;
  double converged = unknown;  ///< share of the samples that met the tolerance
  double perplexity() const;
};

struct Probe {
  std::int64_t step = 0;
  double seconds = 0;  ///< of training up to here, probes not counted
  Score valid{};       ///< of the first windows
};

/// Of one step of the cell alone, without embedding, output layer and optimiser.
struct Cost {
  double forward_seconds = unknown, backward_seconds = unknown;
  double forward = unknown, backward = unknown;  ///< evaluations and products with J
  double tape_bytes = unknown;                   ///< kept between forward and backward pass
  double history_bytes = unknown;                ///< of the forward solver
  double peak_bytes = unknown;                   ///< of all this, solvers and gradients of the cell included
};

struct ModelResult {
  std::string name{}, depth{};
  std::uint64_t seed = 0;
  std::int64_t parameters = 0;
  std::vector<Step> steps{};
  std::vector<Probe> probes{};
  Score valid{}, test{};
  Cost cost{};
  std::string failure{};  ///< why training stopped before its end, or is of no use; else empty

  double seconds() const { return training::total_seconds(steps); }
};
/// All but the steps, for a checkpoint.
std::string to_text(const ModelResult& model);
/// Throws FileError.
ModelResult from_text_result(const std::string& text);

/// How a cost depends on the steps that a solver takes, or on the layers.
struct CostCurve {
  std::string name{};
  std::vector<double> steps{};
  std::vector<Cost> costs{};
};

struct Results {
  std::string command;  ///< "lm train" or "lm compare"
  cli::Entries settings, environment, text;
  nn::TextPart valid, test;
  std::vector<ModelResult> models;
  std::vector<CostCurve> curves;
  std::string prompt, sample;       ///< of a single model: some words of the test text, and what it adds
  double resident_bytes = unknown;  ///< the most that the process had in RAM

  double valid_bits(const Score& score) const { return valid.bits_per_character(score.nats); }
  double test_bits(const Score& score) const { return test.bits_per_character(score.nats); }
};
/// "3.1 % of the tokens of moby-dick (test) are unknown...", where it is more than 1 %; else empty.
std::string unknown_in_words(const nn::TextPart& part);
/// Takes down what the text is.
void note_text(Results& results, const nn::Corpus& corpus);

std::string metrics_csv(const Results& results);
std::string summary_json(const Results& results);
cli::SummaryTable summary_table(const Results& results);

/// Means over those seeds of one depth that did not diverge; of what was not measured, NaN.
struct DepthMean {
  std::string depth;
  std::vector<const ModelResult*> models;  ///< of all seeds
  std::vector<const ModelResult*> finished() const;
  double mean(double (*figure)(const ModelResult&)) const;
  double deviation(double (*figure)(const ModelResult&)) const;
};
std::vector<DepthMean> by_depth(const Results& results);

/// Which depths a page compares; null where there is none.
struct Standing {
  std::vector<DepthMean> depths;
  const DepthMean *equilibrium = nullptr, *layers = nullptr;  ///< of least perplexity
  const DepthMean* exact = nullptr;                           ///< the exact rule
};
Standing standing(const Results& results);

/// What the numbers say, in sentences.
std::vector<std::string> findings(const Results& results);

}  // namespace banach::lm
