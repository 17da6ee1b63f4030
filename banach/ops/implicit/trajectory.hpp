#pragma once
// Iterates on the way to a fixed point, each with a gradient: what losses along the solve are made of.

#include <banach/ops/implicit/fixed_point.hpp>

#include <span>

namespace banach {

struct FixedPointTrajectory {
  Var z;               ///< the solution
  Vars states;         ///< one for each step asked for, of z's shape
  SolveReport report;  ///< of the solve
  AdjointLog adjoint;  ///< sweeps through z and through every state
};

/// fixed_point, and with it the iterates z_k for k in `steps`: z_k is what the k-th evaluation of f is taken
/// at (z_1 = z0), or the answer, for samples that have stopped before. As gradient each state has that of the
/// backward rule with f linearised at the state, as if it were a solution: the fixed-point correction of Bai,
/// Geng, Savani and Kolter 2022, "Deep equilibrium optical flow estimation", section 3.3, with JacobianFree
/// or Phantom as rule. Its status reports forward max_steps, unless the sample had converged. Rules with an
/// iteration of their own are refused. Throws ValueError if a step is below 1.
FixedPointTrajectory fixed_point_trajectory(FunctionRef<Var(const Var&)> f, const Var& z0,
                                            std::span<const int> steps,
                                            const FixedPointOptions& options = {});

/// sum_i decay^(n - 1 - i) loss(states[i]) for n states: the loss of the fixed-point correction. The solution
/// itself is not among them.
Var trajectory_loss(const FixedPointTrajectory& trajectory, FunctionRef<Var(const Var&)> loss,
                    double decay = 0.8);

}  // namespace banach
