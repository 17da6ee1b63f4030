#pragma once
// What is large and what is small in a problem, so that nothing depends on its units: the part of the plane
// that is drawn, and the sizes of its entries.

#include <vector>

#include <apps/lab/qp/problems.hpp>

namespace banach::lab::qp {

/// The part of the plane that is drawn: center -+ reach.
struct View {
  Vector center{}, reach{1, 1};

  bool one_scale() const { return reach[0] == reach[1]; }
  /// Of a vector of the plane, as drawn: 1 is the reach.
  double length(const Vector& v) const;
  /// A gradient, or a row of G or A, as an arrow at a right angle to its level lines as drawn; its length is
  /// that of `strength`, so that arrows that add up to 0 are drawn so.
  Vector arrow(const Vector& row) const {
    return {row[0] * reach[0] * reach[0], row[1] * reach[1] * reach[1]};
  }
  double strength(const Vector& row) const;
  View around(const Vector& z, double part) const { return {z, {part * reach[0], part * reach[1]}}; }
};

/// How much of an entry is much: as the other terms of its equation are, for z within the view.
struct Scales {
  double objective = 1;
  std::vector<double> p{}, h{}, b{};
};
Scales scales(const QpData& data, const View& view);

/// What fits all of `seen`, the origin, and the free optimum if it is not far away. Where the extents along
/// both axes differ by more than 10, each axis has a scale of its own; an axis without extent, and without a
/// border to cross, takes the other's.
View fitting(const QpData& data, std::vector<Vector> seen, const std::optional<Vector>& free_optimum);

/// The largest entry of a - b, each in its unit; relative to a where that is longer.
double relative_distance(const Vector& a, const Vector& b, const Vector& unit);

}  // namespace banach::lab::qp
