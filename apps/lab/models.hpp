#pragma once
// The equilibrium classifiers of the lab: logits = head(z), z = f(z, x).

#include <functional>
#include <memory>

#include <banach/engine/random.hpp>
#include <banach/nn/module.hpp>
#include <banach/ops/implicit/fixed_point.hpp>

#include <apps/lab/options.hpp>

namespace banach::lab {

/// z = f(z) for one batch of images: what does not depend on z is computed already.
struct Equation {
  std::function<Var(const Var&)> f;
  Var z0;
  Batch batch;  ///< whether f mixes the samples
};

class Classifier {
 public:
  virtual ~Classifier() = default;
  virtual std::unique_ptr<Classifier> clone() const = 0;
  virtual void visit(nn::Visitor& visitor) = 0;

  /// x (B, C, H, W).
  virtual Equation equation(const Var& x) const = 0;
  /// Logits (B, classes).
  virtual Var head(const Var& z) const = 0;
  /// What the model asks for after each step of the optimiser, given the batch, its solution and random
  /// numbers of the step's own.
  virtual void after_step(const Tensor& x, const Tensor& z, Random random) = 0;
};

/// The model of the settings, its parameters drawn from the seed: the same ones at every call.
std::unique_ptr<Classifier> make_classifier(const TrainSettings& settings, const Shape& image,
                                            std::int64_t classes);

/// A copy in f64.
std::unique_ptr<Classifier> in_double(const Classifier& model);

}  // namespace banach::lab
