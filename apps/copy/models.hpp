#pragma once
// The models that are to remember: symbols one-hot in, logits of the classes out.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <apps/copy/options.hpp>
#include <banach/nn/module.hpp>
#include <banach/ops/implicit/fixed_point.hpp>

namespace banach::copy_task {

/// What a model says of sequences.
struct Answer {
  Var logits;                              ///< (batch, length, classes)
  std::optional<ImplicitSolution> solved;  ///< of an equilibrium
  Var regularization;  ///< ||v^T J||^2 / d at the equilibrium, if it was asked for and a tape records
};

class Model {
 public:
  virtual ~Model() = default;
  /// Inputs i64 (batch, length); `probe` seeds the regularisation.
  virtual Answer operator()(const Tensor& inputs, std::uint64_t probe) const = 0;
  virtual void visit(nn::Visitor& visitor) = 0;
  virtual std::string description() const = 0;
};

std::vector<std::string> model_names();
/// The LSTM gets as many units as make it at least as large as the trellis of these settings.
std::unique_ptr<Model> make_model(const std::string& name, const Settings& settings);

}  // namespace banach::copy_task
