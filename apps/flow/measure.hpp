#pragma once
// What is measured of a trained flow, by means that its training does not use.

#include <cstdint>
#include <string>
#include <vector>

#include <apps/flow/data.hpp>
#include <apps/flow/model.hpp>
#include <apps/training/results.hpp>

namespace banach::flow {

/// What a model says of samples, in evaluation, some at a time.
struct Weighed {
  Tensor log_p{};  ///< (n), f64
  double infinite_variance =
      0;  ///< share of samples and blocks where that of log det is, or may be, infinite
};
Weighed weigh(FlowModel& model, const Tensor& x);
/// Its log p alone.
Tensor log_densities(FlowModel& model, const Tensor& x);
/// Share of the labels that the model's classifier says.
double accuracy(FlowModel& model, const Labelled& batch);
/// The labels that it says, (n), i64.
Tensor labels_by(FlowModel& model, const Tensor& x);

/// Mean and its standard error.
struct Mean {
  double value = 0, error = 0;
};
Mean mean_of(const Tensor& values);

/// A square grid of side x side cells over [-reach, reach]^2: their middles (side^2, 2), row by row from the
/// top.
Tensor grid_points(std::int64_t side, double reach);

/// How an estimator does on a trained model, beside the exact determinant; above 64 entries a sample there is
/// none, and bias and deviation are NaN.
struct EstimatorCheck {
  Mean bias;                     ///< of the estimate of log p, over points and draws
  double deviation = 0;          ///< of one draw, root of the mean square
  double bound = 0;              ///< of the bias; NaN if there is none, 0 for unbiased estimators
  double infinite_variance = 0;  ///< share of the samples where the variance is, or may be, infinite
};
EstimatorCheck check_estimator(FlowModel& model, LogDetEstimator estimator, const Tensor& x);

/// The way there and back.
struct Reconstruction {
  std::vector<double> blocks{};  ///< max |x - inverse(forward(x))| of each
  double network = 0;            ///< the same of all of it
  /// Product over the parts of what was measured at these samples; of channels that left, over those before.
  double inverse_lipschitz = 0;
  double scale = 0;            ///< the largest number on the way
  double bound = 0;            ///< ten times rounding, scale and inverse_lipschitz
  double evaluations = 0;      ///< of g, a block and sample, in the mean
  training::Tally statuses{};  ///< of all samples and blocks

  double worst_block() const;
};
Reconstruction reconstruct(FlowModel& model, const Tensor& x);

/// Lipschitz constants of the g's.
struct Constants {
  double bound = 0;      ///< c, that they are kept to
  double layers = 0;     ///< the largest norm of a layer over its bound, by 1,000 steps of power iteration
  double certified = 0;  ///< the largest product of upper bounds of a block's layers
};
Constants constants_of(const FlowModel& model);

}  // namespace banach::flow
