#pragma once
// Internal: the interior point on one double or on eight, built once per instruction set.

#include <cstdint>

namespace banach::qp {

/// One group of problems, numbers of a group side by side: entry i of problem l of a group of `width` stands
/// at [i * width + l]. Sizes and bounds as in interior_point.hpp. The data are spoilt.
struct Group {
  std::int64_t n, e, m, bounds;
  const std::int64_t* column;
  double *Q, *p, *A, *b, *bound, *G, *h;
  double target;
  int max_steps;
  double rounding;  ///< see Limits
  double* start;    ///< an active set to begin with: m entries 1 or 0, or NaN; null if none has one
  // The answer, of the same layout; `residuals`: primal, dual, gap, objective, scaled, steps, convex (or 0).
  double *x, *y, *z, *s, *residuals;
};

struct Solver {
  std::int64_t width;
  /// Doubles that `solve` needs to work, aligned to 64 bytes; scratch is not needed afterwards.
  std::int64_t (*workspace)(std::int64_t n, std::int64_t e, std::int64_t m);
  std::int64_t (*scratch)(std::int64_t n, std::int64_t e, std::int64_t m);
  void (*solve)(const Group& group, double* workspace, double* scratch);
  /// After `solve`, with its workspace and data as it left them. Which constraints are active (1 or 0), how
  /// many are weakly so, and whether (1 or 0) the system of derivatives could be factored, and is regular.
  void (*linearise)(double* workspace, double* active, double* weak, double* good, double* regular);
  /// After `linearise`: solves [Q A' G'; A 0 0; G 0 0] in place, G being its active rows; the residual is
  /// relative to the largest entry.
  void (*tangent)(double* workspace, double* x, double* y, double* z, double* residual);
};

/// Of the active instruction set.
const Solver& lanes();
/// One problem at a time, by LAPACK.
const Solver& single();

namespace detail {
extern const Solver sse2_lanes, avx2_lanes, avx512_lanes;
}

}  // namespace banach::qp
