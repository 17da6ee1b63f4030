#pragma once

#include <banach/engine/grad.hpp>

#include <string>

namespace banach {

struct GradcheckOptions {
  int order = 2;            ///< 1: first derivatives; 2: also those of the vjp; and so on
  int directions = 3;       ///< random pairs of tangent and cotangent an order
  double step = 1e-3;       ///< of the five-point central difference, relative to max(1, ||x||_inf)
  double tolerance = 1e-6;  ///< on the largest relative error
  std::uint64_t seed = 0;
};

struct GradcheckReport {
  bool passed = true;
  double error = 0.0;  ///< largest |analytic - numeric| / max(|analytic|, |numeric|, scale)
  int order = 0;       ///< where that was
  double analytic = 0.0, numeric = 0.0;
  std::string to_string() const;
};

/// Compares <u, J v> by vjp with its five-point difference along v, for random u and v (unit normal, the
/// scale being
/// ||u|| ||J v||); at order 2 the function checked is x -> u^T J(x), and so on. f64 inputs; f must be smooth
/// around them. Reports instead of asserting. Throws ValueError for other dtypes.
GradcheckReport gradcheck(Function f, const Vars& inputs, const GradcheckOptions& options = {});

}  // namespace banach
