#pragma once
// What a run of `banach denoise` found, as plain numbers: what the table, the files and the page are made of.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <apps/cli/run_notes.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/training/results.hpp>
#include <banach/engine/tensor.hpp>

namespace banach::denoise {

struct Epoch {
  double epoch = 0;                        ///< 0: before training; a part where one was broken off
  double train_error = 0, test_error = 0;  ///< mean squared; of training, the mean over its batches
  double seconds = 0;                      ///< of training up to here, tests not counted
};

/// An error on the signals held out to choose lambda.
struct Candidate {
  double lambda = 0, error = 0;
};

using training::Tally;

struct MethodResult {
  std::string name{};
  std::int64_t parameters = 0;  ///< trained ones
  std::vector<Epoch> epochs{};
  std::vector<training::Step> steps{};
  double test_seconds = 0;                   ///< a signal, at the end
  Tally solve_statuses{}, gradient_kinds{};  ///< of all problems in training
  Tally test_statuses{};                     ///< of the problems of the last test
  std::string failure{};                     ///< why training stopped before its end, if it did
  std::vector<std::vector<double>> shown{};  ///< estimates of the first test signals
  std::map<std::string, Tensor> learned{};   ///< see Denoiser::shown

  double error() const { return epochs.empty() ? 0.0 : epochs.back().test_error; }
  double seconds() const { return epochs.empty() ? 0.0 : epochs.back().seconds; }
};

struct Results {
  cli::Entries settings, environment;
  std::int64_t test_signals = 0;
  double known_breakpoints_error = 0, noisy_error = 0;  ///< on the test signals
  std::vector<std::vector<double>> noisy{}, clean{};    ///< the first test signals
  std::vector<Candidate> candidates{};                  ///< by lambda
  double lambda = 0;                                    ///< the best of them
  std::vector<MethodResult> methods{};

  /// Null if it was not asked for, or has not been tested.
  const MethodResult* find(const std::string& name) const;
};

/// All of one method but its steps and matrices, to keep in a checkpoint; finite numbers survive exactly.
std::string to_text(const MethodResult& result);
/// Throws FileError if the text is not what to_text wrote.
MethodResult from_text(const std::string& text);

/// One row an epoch.
std::string metrics_csv(const Results& results);
std::string summary_json(const Results& results);

/// One row a method, as printed at the end and shown on the page.
cli::SummaryTable summary_table(const Results& results);

/// How much smaller its error is than total variation's: 0.1 is 10 %. NaN if either is not there.
double gain(const Results& results, const std::string& method);

/// What the run shows, in sentences.
std::vector<std::string> findings(const Results& results);
/// What its reader must know: solves that failed, trainings that stopped.
std::vector<std::string> warnings(const Results& results);

}  // namespace banach::denoise
