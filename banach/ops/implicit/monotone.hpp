#pragma once
// The monotone equilibrium z = relu(z W^T + c) as one node of the tape.

#include <banach/ops/implicit/backward.hpp>
#include <banach/solvers/splitting.hpp>

namespace banach {

struct MonotoneOptions {
  Splitting splitting = PeacemanRachford{};
  BackwardRule backward = Implicit{};
  double tolerance = 1e-4;  ///< on ||relu(z W^T + c) - z|| / ||z||, each sample
  int max_steps = 200;
  Policy policy = Policy::report;
};

/// The solution z (batch, n) of z = relu(z W^T + c) for W (n, n) and c (batch, n), from zero, found by
/// operator splitting; unique where I - W is strongly monotone. W and c get gradients by the backward rule.
/// Winston and Kolter 2020, "Monotone operator equilibrium networks". Throws as solve_splitting does.
ImplicitSolution monotone_fixed_point(const Var& W, const Var& c, const MonotoneOptions& options = {});

}  // namespace banach
