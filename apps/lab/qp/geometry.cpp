#include <apps/lab/qp/geometry.hpp>

#include <cmath>

namespace banach::lab::qp {
namespace {

using Point = Diagram::Point;

constexpr double margin = 1.1;  // of the box, beyond the view

Points box(const View& view) {
  const double w = margin * view.reach[0], h = margin * view.reach[1], x = view.center[0], y = view.center[1];
  return {{x - w, y - h}, {x + w, y - h}, {x + w, y + h}, {x - w, y + h}};
}

Point between(const Point& a, const Point& b, double part) {
  return {a.x + part * (b.x - a.x), a.y + part * (b.y - a.y)};
}

/// What of a polygon is on the allowed side, or by rounding near to it (Sutherland and Hodgman 1974).
Points cut(const Points& corners, const HalfPlane& plane, const View& view) {
  const double tolerance = 1e-9 * view.strength(plane.a);
  Points kept;
  for (std::size_t i = 0; i < corners.size(); ++i) {
    const Point &here = corners[i], &next = corners[(i + 1) % corners.size()];
    const double f = plane.at(here) - tolerance, g = plane.at(next) - tolerance;
    if (f <= 0) kept.push_back(here);
    if ((f < 0 && g > 0) || (f > 0 && g < 0)) kept.push_back(between(here, next, f / (f - g)));
  }
  return kept;
}

}  // namespace

std::vector<HalfPlane> rows(const Tensor& matrix, const Tensor& right) {
  std::vector<HalfPlane> result;
  for (std::int64_t i = 0; right.defined() && i < right.size(); ++i)
    result.push_back({{matrix.at(2 * i), matrix.at(2 * i + 1)}, right.at(i)});
  return result;
}

Points feasible_set(const QpData& data, const View& view) {
  Points corners = box(view);
  for (const HalfPlane& plane : rows(data.G, data.h)) corners = cut(corners, plane, view);
  for (const HalfPlane& plane : rows(data.A, data.b)) {
    corners = cut(corners, plane, view);
    corners = cut(corners, {{-plane.a[0], -plane.a[1]}, -plane.h}, view);
  }
  return corners;
}

Points border(const HalfPlane& plane, const View& view) {
  Points ends;
  const Points corners = box(view);
  for (std::size_t i = 0; i < corners.size() && ends.size() < 2; ++i) {
    const Point &here = corners[i], &next = corners[(i + 1) % corners.size()];
    const double f = plane.at(here), g = plane.at(next);
    if ((f <= 0) != (g <= 0)) ends.push_back(between(here, next, f / (f - g)));
  }
  return ends.size() == 2 ? ends : Points{};
}

double objective(const QpData& data, const Point& z) {
  const Tensor &Q = data.Q, &p = data.p;
  return 0.5 * (Q.at(0) * z.x * z.x + (Q.at(1) + Q.at(2)) * z.x * z.y + Q.at(3) * z.y * z.y) + p.at(0) * z.x +
         p.at(1) * z.y;
}

/// By the crossings of the sides of the triangles of a grid.
Points level_curve(const QpData& data, double level, const View& view) {
  constexpr int cells = 44;
  const auto place = [&](int i, int j) {
    const auto part = [](int k) { return 2.0 * k / cells - 1.0; };
    return Point{view.center[0] + view.reach[0] * part(i), view.center[1] + view.reach[1] * part(j)};
  };
  Points pieces;
  const auto triangle = [&](const Point& a, const Point& b, const Point& c) {
    Points ends;
    const Point* const sides[][2] = {{&a, &b}, {&b, &c}, {&c, &a}};
    for (const auto& side : sides) {
      const double f = objective(data, *side[0]) - level, g = objective(data, *side[1]) - level;
      if ((f <= 0) != (g <= 0)) ends.push_back(between(*side[0], *side[1], f / (f - g)));
    }
    if (ends.size() == 2) pieces.insert(pieces.end(), ends.begin(), ends.end());
  };
  for (int i = 0; i < cells; ++i)
    for (int j = 0; j < cells; ++j) {
      triangle(place(i, j), place(i + 1, j), place(i, j + 1));
      triangle(place(i + 1, j + 1), place(i, j + 1), place(i + 1, j));
    }
  return pieces;
}

}  // namespace banach::lab::qp
