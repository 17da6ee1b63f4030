#pragma once
// Internal: a solve that can wait for an evaluation of f that its caller makes in another way.

#include <banach/solvers/fixed_point.hpp>

namespace banach {

/// One solve of z = f(z), which may be run in parts. Solver, problem and options must outlive it.
class PausedSolve {
 public:
  /// z0 (batch, n) has samples, and options.max_steps is positive. The problem is for solvers that need
  /// derivatives; f is given to `run`.
  PausedSolve(const Solver& solver, const FixedPointProblem& problem, const Tensor& z0,
              const StopOptions& options);

  /// Evaluates until every sample has stopped; with `pause`, or until those that have not are all expected to
  /// converge at the next evaluation.
  void run(const StateMap& f, bool pause);
  bool over() const;
  /// Of samples that have stopped the answer, of others the point whose f is asked for next.
  const Tensor& z() const;
  /// Goes on with f there. False unless that ended the solve, with every sample that was left converged.
  bool take(const Tensor& fz);
  /// Once it is over.
  FixedPointSolution solution();

  class Loop;  // in either dtype
 private:
  struct Release {
    void operator()(Loop* loop) const;
  };
  const Solver* solver_;
  const StopOptions* options_;
  std::unique_ptr<Stepper> stepper_;
  std::unique_ptr<Loop, Release> loop_;
};

}  // namespace banach
