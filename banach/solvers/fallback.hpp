#pragma once
// Solvers one after another, for problems that no single one solves.

#include <banach/solvers/newton.hpp>

#include <vector>

namespace banach {

/// One solver of a chain, and how long a sample stays with it.
struct FallbackMember {
  Solver solver;
  int steps = 100;         ///< evaluations at its points; the last member's share is what is left
  bool from_best = false;  ///< it starts from the sample's best iterate, not from the first one
};

/// Each sample goes on to the next member when the one before has spent its share, has no next point,
/// diverges, stagnates or meets a value that is not finite. It goes back to its first or its best iterate,
/// whose f is known. Samples change members independently; a member that nobody needs costs nothing.
struct Fallback {
  std::vector<FallbackMember> members = standard();
  static constexpr std::string_view name = "fallback";
  std::unique_ptr<Stepper> start(const FixedPointProblem& problem, std::int64_t batch, std::int64_t n,
                                 DType dtype) const;
  /// What solves all of the 23 problems of tests/solvers/nonlin_problems.hpp.
  static std::vector<FallbackMember> standard();
};

}  // namespace banach
