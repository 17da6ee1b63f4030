#pragma once
// Truncated gradients of a quadratic program: what the steps of ADMM, differentiated only in part, give
// beside the exact derivative.

#include <apps/lab/qp/study.hpp>

namespace banach::lab::qp {

/// One rule with so many steps: its whole dz/d(p, h, b) beside qp_solve's.
struct Estimate {
  std::string rule{};
  int steps = 0;
  double error = 0;   ///< ||estimate - exact|| / ||exact||
  double cosine = 0;  ///< NaN if the estimate is 0
};

struct Estimates {
  std::string problem{};  ///< its name
  int forward_steps = 0;  ///< that ADMM took to its fixed point
  double rate = 0;        ///< at which its residual fell in the end
  bool converged = false;
  std::vector<Estimate> all{};
};

/// Of a problem whose gradient is exact.
Estimates estimates(const Problem& problem);

/// The fewest steps of the rule, of those tried, whose error is below the limit; 0 if none is.
int steps_to(const Estimates& estimates, const std::string& rule, double limit);

/// The rules in the order of the charts.
const std::vector<std::string>& estimate_rules();

}  // namespace banach::lab::qp
