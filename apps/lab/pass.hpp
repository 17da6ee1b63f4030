#pragma once
// One forward and backward pass, measured; and the exact gradient that estimates are measured against.

#include <optional>
#include <vector>

#include <apps/lab/models.hpp>
#include <apps/lab/results.hpp>
#include <banach/nn/dataset.hpp>

namespace banach::lab {

struct Pass {
  double loss = unknown;
  Vars gradients;  ///< of the parameters, in their order
  Tensor z;
  SolveReport report;
  std::optional<AdjointReport> adjoint;  ///< none for a rule without an adjoint equation
  Cost cost;
  Figures figures;  ///< of the rule's own
};

/// Loss and parameter gradients of one batch.
Pass run_pass(Classifier& model, const nn::Minibatch& batch, FixedPointOptions options);

/// The gradient at the true solution: everything in f64, the forward and the adjoint equation solved tightly.
struct ExactGradient {
  std::vector<double> values;
  double forward_residual = unknown, adjoint_residual = unknown;  ///< relative, the largest over the samples
  Tensor z;                                                       ///< the solution, f64
};
ExactGradient exact_gradient(const Classifier& model, const nn::Minibatch& batch);

/// Spectral radius of df/dz at the exact solution, of each sample.
std::vector<double> spectral_radii(const Classifier& model, const nn::Minibatch& batch,
                                   const ExactGradient& exact);

/// All gradients as one long vector.
std::vector<double> flat(const Vars& parts);

Quality compare(const Vars& estimate, const ExactGradient& exact);

}  // namespace banach::lab
