#pragma once
// Internal: the derivative of a problem at the iterates of a batch, exact or by differences.

#include <banach/solvers/fixed_point.hpp>

namespace banach {

class Derivatives {
 public:
  /// `name` is the solver's, for errors.
  Derivatives(std::string_view name, const FixedPointProblem& problem) : name_(name), problem_(&problem) {}

  /// True if a product costs an evaluation of f.
  bool differences() const { return !problem_->linearize; }

  /// Products with J at z, where f is fz. Only one of the two may be given. A difference quotient moves z by
  /// sqrt(eps) max(||z||, min(1, ||f(z) - z||)).
  Linearization at(const Tensor& z, const Tensor& fz) const;

  /// Products v -> J v, from the transposed ones (n of them) if need be.
  StateMap jvp_at(const Tensor& z, const Tensor& fz) const;

  /// A = I - J of every sample, row-major (batch, n, n), by n products.
  PoolVector<double> identity_minus_jacobian(const Tensor& z, const Tensor& fz) const;

 private:
  std::string_view name_;
  const FixedPointProblem* problem_;
};

}  // namespace banach
