#pragma once
// Whole matrices of derivatives, and products with second ones. All work with and without a tape and under
// NoGrad; while a tape records they are recorded, and can be differentiated again. Inputs are f32 or f64.

#include <banach/engine/grad.hpp>

namespace banach {

enum class JacobianMode : std::uint8_t {
  automatic,  ///< reverse, unless the outputs have more entries than the inputs
  reverse,    ///< one sweep for each entry of the outputs
  forward,    ///< one for each entry of the inputs, after a sweep that is recorded
};

struct JacobianOptions {
  JacobianMode mode = JacobianMode::automatic;
};

/// Dense derivative of f at x, of f(x)'s shape followed by x's. f is called once.
Var jacobian(FunctionRef<Var(const Var&)> f, const Var& x, const JacobianOptions& options = {});

/// The same for several inputs and outputs: result[k][i] is the derivative of output k by input i.
std::vector<Vars> jacobian(Function f, const Vars& inputs, const JacobianOptions& options = {});

/// Second derivatives of f at x, of x's shape twice. Throws ShapeError unless f(x) has one element.
Var hessian(FunctionRef<Var(const Var&)> f, const Var& x);

/// The same for several inputs: result[i][k] holds the derivatives by inputs i and k, of the one's shape
/// followed by the other's. Throws ShapeError unless f has one output of one element.
std::vector<Vars> hessian(Function f, const Vars& inputs);

/// Hessian of f at x times v, of x's shape, by reverse over reverse mode: two sweeps, no matrix. Where f
/// holds an implicit node with an approximate rule, whose gradients belong to no function, it is the
/// transpose of the derivative of the gradient that is applied. Throws ShapeError unless f(x) has one element
/// and v is like x.
Var hvp(FunctionRef<Var(const Var&)> f, const Var& x, const Var& v);

/// The same for several inputs.
Vars hvp(Function f, const Vars& inputs, const Vars& v);

}  // namespace banach
