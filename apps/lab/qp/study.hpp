#pragma once
// What the library says about a problem in two variables: solution, status, derivatives beside differences of
// solutions, and all of that along a line.

#include <apps/lab/qp/scales.hpp>
#include <banach/engine/status.hpp>

namespace banach::lab::qp {

/// How z moves with one entry of p, h or b.
struct Derivative {
  std::string by{};        ///< "p1": entries counted from 1
  Vector reported{};       ///< by the adjoint of qp_solve
  Vector right{}, left{};  ///< differences of solutions, a step up and a step down; NaN without a solution
  double step = 0;         ///< theirs
  Vector unit{};           ///< what is much: a reach of the view for a change of the entry by its scale
  /// Solutions with the entry moved by -reach ... reach, for drawing; those that exist.
  std::vector<Vector> moved{};
  double reach = 0;

  double apart(const Vector& a, const Vector& b) const { return relative_distance(a, b, unit); }
  /// How far `reported` is from the differences, in `unit`, or relative if it is longer; NaN if one does not
  /// exist.
  double largest_difference() const;
};

/// The step of the differences, in parts of an entry's scale. Where there is a derivative, down to a
/// thousandth of it, such that the active set stays: beyond, the derivative is another one.
inline constexpr double difference_step = 1e-4;
/// Differences of solutions are good to this; a derivative farther off disagrees.
inline constexpr double agreement = 1e-6;

/// One place of the path.
struct PathPoint {
  double t = 0;
  QpStatus status{};
  GradientKind gradient{};               ///< of z1 and z2, the worse
  Vector z{}, reported{}, difference{};  ///< z, and dz/dt by the adjoint and by a central difference
  std::vector<double> lambda{};
  std::vector<bool> active{};
};

struct Study {
  Problem problem{};  ///< with the path in the problem's own scale
  QpSampleReport report{};
  Vector z{};  ///< with nu and lambda: a certificate, where the status says so (see QpSolution)
  std::vector<double> nu{}, lambda{}, slack{};
  std::vector<bool> active{}, weak{};  ///< of Gz <= h: with a multiplier; with neither multiplier nor slack
  std::array<GradientStatus, 2> gradient{};  ///< of the backward sweeps for z1 and z2
  std::vector<Derivative> derivatives{};     ///< of a problem that is solved
  std::vector<PathPoint> path{};
  std::optional<Vector> free_optimum{};  ///< without constraints, if there is just one
  std::optional<Vector> feasible{};      ///< the feasible point nearest to the middle of the view
  View view{};
  Scales scales{};

  bool solved() const { return report.status == QpStatus::solved; }
};

Study study(const Problem& problem);

/// "exact", or of z1 and z2 where they differ: "least_squares (z1), non_differentiable (z2)"; "none" of a
/// problem that is not solved.
std::string gradient_words(const Study& study);
bool exact(const Study& study);

}  // namespace banach::lab::qp
