#pragma once
// Internal to ops/implicit: what the rules that differentiate an iteration of their own have in common.

#include <banach/ops/implicit/fixed_point.hpp>

#include <memory>
#include <span>

namespace banach {

/// 1 in the rows of the chosen problems, 0 elsewhere: of z's shape and dtype, of which `rows` is
/// (problems, elements each).
Tensor row_mask(const Tensor& z, const Shape& rows, FunctionRef<bool(std::size_t)> chosen);

/// `taken` in the rows of the chosen problems, `otherwise` in the others; `taken` itself if all are chosen.
Var choose_rows(const Shape& rows, FunctionRef<bool(std::size_t)> chosen, const Var& taken,
                const Var& otherwise);

/// z + damping (f(z) - z); with damping 1, f(z) itself.
Var picard_step(const Var& z, const Var& fz, double damping);

/// Unrolled with checkpoints.
ImplicitSolution checkpointed(FunctionRef<Var(const Var&)> f, const Var& z0, int every,
                              const FixedPointOptions& options);

/// The damping of options.solver, which must be Picard{}. Throws ValueError.
double picard_damping(const FixedPointOptions& options, std::string_view rule);

/// What a node keeps that differentiates an iteration of its own. Its inputs are z0, then theta, what the
/// body captured; its first output is the answer, and the others are what its vjp needs to find the way back.
struct IterationAttrs {
  std::shared_ptr<const ImplicitBody> body;
  double damping = 1.0;
  Shape rows = {};
  PoolVector<int> answer = {};  ///< see answers()

  int last() const;
  PoolVector<Status> forward() const;
  /// f(z, theta), operation by operation.
  Var evaluate(const Var& z, std::span<const Var> theta) const;
};

/// The body, recorded at z or anywhere else, with how the forward solve ended.
IterationAttrs iteration_of(Trace body, const Shape& rows, const ImplicitSolution& result, double damping,
                            const FixedPointOptions& options);
/// The body recorded at z.
IterationAttrs iteration_at(FunctionRef<Var(const Var&)> f, const Tensor& z, const ImplicitSolution& result,
                            double damping, const FixedPointOptions& options);

/// The node of an iteration that keeps some of its iterates, those of evaluations 1 + every, 1 + 2 every,
/// ..., and records the steps between two of them in its sweep. `iterates` holds the answer, then these (some
/// more at the end do no harm).
Var record_checkpointed(std::string_view rule, IterationAttrs iteration, int every, const Var& z0,
                        Tensors iterates);

/// Each problem's best_step: the iterate of that evaluation is its answer. At least 1.
PoolVector<int> answers(const SolveReport& report);
/// Every answer is its problem's newest iterate: none went astray or broke on the way.
bool straight(const SolveReport& report);
/// The largest of them; 0 if there are none.
int largest(const PoolVector<int>& counts);

/// The best status that a gradient of the iterate itself can have: that of the iterate. There is no equation
/// to leave a residual.
AdjointReport iterate_report(std::string_view rule, const PoolVector<Status>& forward, int evaluations);

/// result.z, held to the policy; a sweep that passes leaves an iterate_report.
Var reported(const Var& z, std::string_view rule, const ImplicitSolution& result, int evaluations,
             const FixedPointOptions& options);

}  // namespace banach
