#pragma once
// Quadratic programs in two variables, small enough to be drawn: those that `banach lab qp` shows, or a
// file's.

#include <array>
#include <optional>
#include <string>
#include <vector>

#include <banach/solvers/qp.hpp>

namespace banach::lab::qp {

using Vector = std::array<double, 2>;

/// What moves along a line: p + t dp and h + t dh, for t from -1 to 1.
struct Line {
  std::string words{};  ///< what is moved, for people
  Tensor p{}, h{};      ///< dp, dh; undefined: stays
};

struct Problem {
  std::string name{}, title{}, story{};
  QpData data{};               ///< f64, one problem: Q and p defined, the others perhaps
  std::optional<Line> line{};  ///< of which the path is drawn
  /// The drawing shows -reach .. reach around `center`; else what fits, and p1 moves along the path.
  std::optional<double> reach{};
  Vector center{};
};

/// The problems of the lab, from regular ones to such without a solution.
const std::vector<Problem>& known_problems();
/// A problem each of the file (at most 12). Throws FileError naming what does not fit.
std::vector<Problem> problems_of_file(const std::string& path);

}  // namespace banach::lab::qp
