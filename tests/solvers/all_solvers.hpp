#pragma once
// Every solver of fixed points, with its options at work too: what holds for all is tested on all.

#include <banach/solvers/fallback.hpp>
#include <banach/solvers/fixed_point.hpp>
#include <banach/solvers/newton.hpp>

#include <vector>

namespace banach::test {

/// Those that ask for derivatives.
inline const std::vector<Solver>& newton_solvers() {
  static const std::vector<Solver> solvers{Newton{},
                                           Newton{.line_search = false},
                                           NewtonKrylov{},
                                           LevenbergMarquardt{},
                                           LevenbergMarquardt{.scaled = false},
                                           Fallback{}};
  return solvers;
}

inline const std::vector<Solver>& all_solvers() {
  static const std::vector<Solver> solvers = [] {
    std::vector<Solver> all{Picard{},
                            Picard{.damping = 0.5},
                            Anderson{},
                            Anderson{.memory = 2, .damping = 0.7},
                            Anderson{.memory = 10},
                            Broyden{},
                            Broyden{.memory = 3, .damping = 0.8}};
    all.insert(all.end(), newton_solvers().begin(), newton_solvers().end());
    return all;
  }();
  return solvers;
}

}  // namespace banach::test
