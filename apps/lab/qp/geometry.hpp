#pragma once
// What of a problem lies in the drawn part of the plane.

#include <apps/lab/qp/scales.hpp>
#include <apps/report/page.hpp>

namespace banach::lab::qp {

using report::Diagram;
using Points = std::vector<Diagram::Point>;

/// a'z <= h, or a'z = h.
struct HalfPlane {
  Vector a{};
  double h = 0;
  double at(const Diagram::Point& z) const { return a[0] * z.x + a[1] * z.y - h; }
};

/// The rows of Gz <= h, or of Az = b; in the order of the data.
std::vector<HalfPlane> rows(const Tensor& matrix, const Tensor& right);

/// Corners of the feasible set in a box somewhat larger than the view; none if nothing of it is there. A set
/// without area still has corners.
Points feasible_set(const QpData& data, const View& view);

/// Both ends of the border in that box, or nothing.
Points border(const HalfPlane& plane, const View& view);

/// Pieces of the curves 1/2 z'Qz + p'z = level, two points each.
Points level_curve(const QpData& data, double level, const View& view);

double objective(const QpData& data, const Diagram::Point& z);

}  // namespace banach::lab::qp
