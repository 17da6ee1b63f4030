#pragma once
// A function recorded once, to be swept and replayed: the body of an implicit node.

#include <banach/engine/grad.hpp>

namespace banach {

/// A recorded function. `captured` are the outer Vars that it used without being given them.
struct Trace {
  Graph graph;
  PoolVector<std::int32_t> inputs, captures, outputs;  ///< nodes; an output that is constant has node -1
  Vars captured;
  Vars results;  ///< values of the outputs

  /// Cotangents of the inputs and captured Vars at the recorded point. Not recorded, repeatable.
  Vars pull_back(std::span<const Var> cotangents, std::span<const std::int32_t> wrt) const;
  /// The function at other inputs and captured values, operation by operation; recorded if a tape records.
  Vars replay(std::span<const Var> at, std::span<const Var> captured_values) const;
};

/// Records `f` at these values on a child tape, under NoGrad too. Vars of the tapes around may be used inside
/// and are captured. Nothing is recorded on those tapes but the leaves of Parameters that f is the first to
/// touch.
Trace trace(Function f, std::span<const Tensor> at);

}  // namespace banach
