#include <apps/lab/noise.hpp>

#include <algorithm>
#include <cmath>

namespace banach::lab {
namespace {

Gradient mean(const std::vector<Gradient>& gradients) {
  Gradient sum(gradients.front().size());
  for (const Gradient& gradient : gradients)
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += gradient[i];
  for (double& value : sum) value /= static_cast<double>(gradients.size());
  return sum;
}

double squared_distance(const Gradient& a, const Gradient& b) {
  double squares = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) squares += (a[i] - b[i]) * (a[i] - b[i]);
  return squares;
}

/// E||g - E g||^2 from a sample, without bias; unknown for one gradient.
double variance(const std::vector<Gradient>& gradients) {
  if (gradients.size() < 2) return unknown;
  const Gradient middle = mean(gradients);
  double squares = 0.0;
  for (const Gradient& gradient : gradients) squares += squared_distance(gradient, middle);
  return squares / static_cast<double>(gradients.size() - 1);
}

}  // namespace

Noise noise_of(const std::vector<std::vector<Gradient>>& estimates, const std::vector<Gradient>& exact) {
  const auto batches = static_cast<double>(exact.size());
  const auto draws = static_cast<double>(estimates.front().size());
  const Gradient reference = mean(exact);
  const double scale = squared_distance(reference, Gradient(reference.size()));

  std::vector<Gradient> means;  // over the draws, of each minibatch
  double own = 0.0;
  for (const std::vector<Gradient>& of_batch : estimates) {
    means.push_back(mean(of_batch));
    own += variance(of_batch) / batches;
  }
  Noise noise;
  noise.bias = std::sqrt(squared_distance(mean(means), reference) / scale);
  noise.own_variance = own / scale;
  noise.chance = std::sqrt(noise.own_variance / (batches * draws));
  // The means still carry a part of the rule's own variance.
  const double spread = variance(means) / scale;
  noise.batch_variance = std::isnan(own) ? spread : std::max(0.0, spread - noise.own_variance / draws);
  noise.exact_batch_variance = variance(exact) / scale;
  return noise;
}

}  // namespace banach::lab
