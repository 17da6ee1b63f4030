#pragma once
// What the `banach flow` commands can be asked, with their defaults.

#include <cstdint>
#include <string>
#include <vector>

#include <apps/cli/common.hpp>
#include <apps/cli/run_notes.hpp>
#include <apps/flow/data.hpp>
#include <banach/ops/implicit/log_det.hpp>

namespace CLI {
class App;
}

namespace banach::flow {

/// What a model is made of.
struct Architecture {
  std::int64_t blocks = 10;  ///< of images, for each resolution
  std::int64_t scales = 1;   ///< of images: after each but the last, half of the channels leave
  std::vector<std::int64_t> hidden = {64, 64};
  double lipschitz = 0.9;  ///< of each block's g
  std::string dtype = "f32";
  std::vector<std::int64_t> sample = {2};  ///< the shape of one
  std::int64_t levels = 0;                 ///< of a pixel; 0 for points
  std::int64_t classes = 0;                ///< of a head that classifies; 0: there is none
  bool weigh = true;                       ///< whether -log p is part of what is minimised
};

/// How log det is estimated in training.
struct EstimatorSettings {
  std::string probe = "rademacher";
  int probes = 1, sketch = 0;
  std::string gradient = "neumann";
};

struct Options {
  cli::CommonOptions common;
  std::vector<std::string> data = {"8-gaussians"};
  std::vector<std::string> estimators = {};  ///< none: exact for points, roulette:0.15:4 for images
  DataSettings source;
  Architecture architecture;
  EstimatorSettings estimator;
  std::int64_t steps = 2000, batch_size = 256;
  std::int64_t test = 0;  ///< 0: 10,000 points, 1,000 images
  double learning_rate = 0.01;
  double density = 1.0;   ///< weight of -log p (of images: in nats a pixel)
  double classify = 0.0;  ///< weight of the cross entropy beside it
};

void add_train_options(CLI::App& app, Options& options);

/// With the defaults filled in that depend on the data. Throws cli::UsageError for what cannot be.
Options resolve(Options options);

/// All settings that decide what is computed, by the name of their option.
cli::Entries describe(const Options& options);

/// Reads exact, series:N, roulette[:P[:TERMS]], poisson[:LAMBDA[:TERMS]] or lanczos:K. Throws
/// cli::UsageError.
LogDetEstimator parse_estimator(const std::string& spec, const EstimatorSettings& settings);

}  // namespace banach::flow
