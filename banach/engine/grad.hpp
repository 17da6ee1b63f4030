#pragma once
// Derivatives: the reverse sweep, and what is built on it.

#include <banach/engine/parallel.hpp>
#include <banach/engine/tape.hpp>

#include <optional>
#include <span>
#include <string_view>

namespace banach {

struct GradOptions {
  /// Record the sweep itself, so that the result can be differentiated again. Without effect under NoGrad.
  bool create_graph = false;
  /// Cotangent of the output, of its shape. Undefined: 1, for an output of one element.
  Var cotangent = {};
};

/// d output / d wrt[i], one Var each, of wrt[i]'s shape; zeros where the output does not depend on it.
/// Throws TapeError if the output or a wrt is not on a live tape of this thread, ShapeError if the output has
/// more than one element and no cotangent was given.
Vars grad(const Var& output, std::span<const Var> wrt, const GradOptions& options = {});
inline Vars grad(const Var& output, std::initializer_list<Var> wrt, const GradOptions& options = {}) {
  return grad(output, std::span(wrt.begin(), wrt.size()), options);
}
inline Vars grad(const Var& output, const Vars& wrt, const GradOptions& options = {}) {
  return grad(output, std::span<const Var>(wrt), options);
}

using Function = FunctionRef<Vars(const Vars&)>;

struct VjpResult {
  Vars outputs;
  Vars cotangents;  ///< one for each input, of its shape
};
/// f(inputs) and u^T J for the given cotangents of the outputs. Works with and without a tape, and under
/// NoGrad; recorded if a tape records, and then differentiable again.
VjpResult vjp(Function f, const Vars& inputs, const Vars& cotangents);

struct JvpResult {
  Vars outputs;
  Vars tangents;  ///< one for each output, of its shape
};
/// f(inputs) and J v for the given tangents of the inputs, by differentiating the vjp in its cotangent, in
/// which it is linear (Townsend 2017, "A new trick for calculating Jacobian vector products"). Works wherever
/// vjp does.
JvpResult jvp(Function f, const Vars& inputs, const Vars& tangents);

/// f at a point with its derivative there, to be applied any number of times while the object lives. Recorded
/// if a tape recorded at its making; else f is recorded on a tape of this object's own, which must then be
/// the innermost one until the object goes, and all results are constants.
class Differential {
 public:
  /// `name` stands in the messages of errors.
  Differential(std::string_view name, Function f, const Vars& inputs);
  Differential(const Differential&) = delete;
  Differential& operator=(const Differential&) = delete;

  Vars outputs() const;
  /// u^T J, one cotangent for each input.
  Vars pull(const Vars& cotangents) const;
  /// J v, one tangent for each output.
  Vars push(const Vars& tangents);

 private:
  std::string_view name_;
  bool keep_;
  std::optional<EnableGrad> enabled_;
  std::optional<Tape> own_;
  Tape* tape_ = nullptr;
  Vars at_, values_;
  Vars dummies_, pulled_;  // cotangents u that nobody has chosen, and u^T J
};

// The engine's own sweep over a graph: cotangents of the nodes `wrt` given those of the nodes `outputs`.
// Nodes below the smallest of `wrt` are never visited. Undefined results stand for zero.
Vars sweep(const Graph& graph, std::span<const std::int32_t> outputs, std::span<const Var> cotangents,
           std::span<const std::int32_t> wrt, bool create_graph);

/// The identity, as a node of its own: `grad` with respect to it gives the partial derivative of what was
/// computed from it, and a derivative of that still reaches x.
Var alias(const Var& x);
/// a + b for equal shapes: how the sweep adds cotangents.
Var add_cotangents(const Var& a, const Var& b);

}  // namespace banach
