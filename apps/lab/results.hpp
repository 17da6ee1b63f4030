#pragma once
// What a run of the lab found, as plain numbers: what the tables, files and the page are made of.

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <apps/cli/text_table.hpp>
#include <apps/lab/options.hpp>
#include <apps/training/results.hpp>

namespace banach::lab {

inline constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

/// A parameter gradient beside the exact one, both as one long vector.
struct Quality {
  double cosine = unknown;
  double norm_ratio = unknown;  ///< ||estimate|| / ||exact||
  bool descent = false;         ///< inner product with the exact gradient above zero
  double error = unknown;       ///< ||estimate - exact|| / ||exact||
};

/// A rule's gradients over several minibatches and draws. Relative to G, the mean of the minibatches' exact
/// gradients: lengths to ||G||, variances to ||G||^2.
struct Noise {
  double bias = unknown;    ///< ||mean of the estimates - G||: the same minibatches, so their noise is out
  double chance = unknown;  ///< what the draws alone would leave of a bias of zero; unknown without draws
  double own_variance = unknown;    ///< of a single estimate over draws, the minibatch held; unknown without
  double batch_variance = unknown;  ///< of an estimate over minibatches, the draws averaged out
  double exact_batch_variance = unknown;  ///< the same of the exact gradient
};

/// What one forward and backward pass took.
struct Cost {
  double forward_seconds = unknown, backward_seconds = unknown;
  double forward_evaluations = unknown;   ///< evaluations of f
  double backward_evaluations = unknown;  ///< vector-Jacobian products of f
  double peak_bytes = unknown;            ///< of tape and solver history together, above what lived before
};

/// What only some rules can tell of a pass, by name: "reconstruction error", ...
using Figures = std::map<std::string, double>;

/// One such figure over all training steps.
struct FigureSummary {
  double mean = 0.0, largest = -std::numeric_limits<double>::infinity();
  std::int64_t steps = 0;

  void add(double value);
};

/// One training step.
struct Step {
  double loss = unknown;
  Cost cost;
  double seconds = unknown;  ///< the whole step, the optimiser's part included
};

/// A look at a rule along its own training.
struct Probe {
  std::int64_t step = 0;
  double seconds = 0;  ///< of training up to here, probes not counted
  double test_accuracy = unknown;
  double test_loss = unknown;
  Quality quality{};
  double radius_median = unknown,
         radius_largest = unknown;  ///< spectral radius of df/dz at z*, over the samples
  double forward_residual = unknown,
         adjoint_residual = unknown;  ///< of the exact gradient, relative, the largest
  Figures figures{};
};

/// A rule at a point that is the same for all rules: the first rule's parameters.
struct SamePoint {
  std::int64_t step = 0;
  Quality quality{};
  Cost cost;
  Noise noise{};
};

/// Relative residual at each evaluation of f, over the samples of the probe's batch.
struct Convergence {
  std::vector<double> median{}, smallest{}, largest{};
};

using training::Tally;

struct RuleResult {
  std::string spec{}, formula{}, paper{};
  std::string solver{};  ///< of the forward equation
  bool random = false;   ///< draws numbers
  std::vector<Step> steps{};
  std::vector<Probe> probes{};
  std::vector<SamePoint> same_point{};
  Convergence convergence{};  ///< at the end of training
  Tally forward_statuses{};   ///< samples of all training steps
  Tally gradient_kinds{}, adjoint_statuses{};
  std::map<std::string, FigureSummary> figures{};
  double accuracy = unknown;                ///< on the test set, at the end
  std::string failure{};                    ///< why training stopped before its end, if it did
  std::vector<std::int64_t> predictions{};  ///< for the sample images

  /// Seconds of all training steps.
  double seconds() const { return training::total_seconds(steps); }
  /// Median over all training steps.
  Cost median_cost() const;
  /// Mean loss of the last `count` steps.
  double final_loss(std::size_t count) const;
  /// The steps, from 1, whose loss was a NaN or infinite.
  std::vector<std::size_t> steps_without_loss() const;
  /// Mean and smallest cosine, mean norm ratio, share of descent directions along its own training.
  struct Summary {
    double cosine_mean = unknown, cosine_smallest = unknown, norm_ratio_mean = unknown,
           descent_share = unknown;
  };
  /// Means over the points of all rules; of the bias and of chance the root of the mean square.
  Noise mean_noise() const;
  Summary own_summary() const;
  Summary same_point_summary() const;
};

/// A test image with its label, for the page.
struct SampleImage {
  int width = 0, height = 0;
  std::vector<std::uint8_t> pixels;
  std::int64_t label = 0;
};

struct Results {
  Entries settings;
  Entries environment;               ///< of the run that wrote the results last
  std::vector<std::string> notices;  ///< what the reader must know, such as a fallback to other data
  std::vector<std::string> remarks;  ///< what is good to know, such as which rules have another solver
  std::int64_t parameters = 0, training_images = 0, test_images = 0, probe_images = 0;
  std::int64_t noise_batches = 0, noise_images = 0, noise_draws = 0;  ///< see Noise
  std::vector<std::string> class_names;
  std::vector<RuleResult> rules;
  std::vector<SampleImage> samples;
};

double median(std::vector<double> values);

/// All of one rule but its steps and images, to keep in a checkpoint; finite numbers survive exactly.
std::string to_text(const RuleResult& result);
/// Throws FileError if the text is not what to_text wrote.
RuleResult from_text(const std::string& text);

/// One row a training step or probe.
std::string metrics_csv(const Results& results);
std::string summary_json(const Results& results);

/// One row a rule, as printed at the end and shown on the page.
cli::SummaryTable summary_table(const Results& results);

}  // namespace banach::lab
