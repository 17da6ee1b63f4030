#pragma once
// A penalty on the Jacobian of an equilibrium model's body.

#include <banach/engine/grad.hpp>
#include <banach/ops/implicit/probe.hpp>

namespace banach {

struct JacobianRegularizationOptions {
  Probe probe = Probe::gaussian;
  int probes = 1;          ///< independent draws that are averaged
  std::uint64_t seed = 0;  ///< of the probes: take another one each step
};

/// ||v^T J||_2^2 / d for J = df/dz at z and random v, d being the number of entries of z: a scalar whose
/// expectation is ||J||_F^2 / d, for a batch the mean over its samples. Hutchinson's estimator as Bai, Koltun
/// and Kolter train with (2021, "Stabilizing equilibrium models by Jacobian regularization", section 4). f is
/// called once. While a tape records, the result is differentiable with respect to what f captures, and to z;
/// pass z.detach() to leave out the latter. Throws ShapeError if f changes the shape of z, ValueError unless
/// probes >= 1.
Var jacobian_regularization(FunctionRef<Var(const Var&)> f, const Var& z,
                            const JacobianRegularizationOptions& options = {});

}  // namespace banach
