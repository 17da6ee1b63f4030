#include <apps/lab/qp/scales.hpp>

#include <algorithm>
#include <cmath>

namespace banach::lab::qp {
namespace {

constexpr double shown = 0.9;  // reach / extent of what is seen
constexpr double differ = 10;  // extents, before each axis has its own scale
constexpr double far = 4;      // of the free optimum, in extents of all else
constexpr double rounding =
    1e-9;  // an extent so small beside the other, or beside the nearest border, is none
constexpr double without_data = 1.5;  // reach where nothing tells

struct Box {
  Vector low{}, high{};
  void take(const Vector& v) {
    for (std::size_t k = 0; k < 2; ++k) low[k] = std::min(low[k], v[k]), high[k] = std::max(high[k], v[k]);
  }
  double extent(std::size_t k) const { return high[k] - low[k]; }
  bool near(const Vector& v) const {
    for (std::size_t k = 0; k < 2; ++k) {
      const double room = extent(k) > 0 ? far * extent(k) : HUGE_VAL;
      if (v[k] < low[k] - room || v[k] > high[k] + room) return false;
    }
    return true;
  }
};

/// Where the nearest of the borders that do so crosses axis k, but for the origin; 0 if none does.
double nearest_crossing(const QpData& data, std::size_t k) {
  double nearest = 0;
  const auto look = [&](const Tensor& matrix, const Tensor& right) {
    for (std::int64_t i = 0; right.defined() && i < right.size(); ++i) {
      if (!(std::abs(right.at(i)) < qp_infinity)) continue;
      const double at = right.at(i) / matrix.at(2 * i + static_cast<std::int64_t>(k));
      if (std::isfinite(at) && at != 0 && (nearest == 0 || std::abs(at) < std::abs(nearest))) nearest = at;
    }
  };
  look(data.G, data.h), look(data.A, data.b);
  return nearest;
}

/// The largest term of each row, for z within the view.
std::vector<double> terms(const Tensor& matrix, const View& view) {
  std::vector<double> largest;
  for (std::int64_t i = 0; matrix.defined() && 2 * i < matrix.size(); ++i)
    largest.push_back(
        std::max(std::abs(matrix.at(2 * i)) * view.reach[0], std::abs(matrix.at(2 * i + 1)) * view.reach[1]));
  return largest;
}

}  // namespace

double View::length(const Vector& v) const { return std::hypot(v[0] / reach[0], v[1] / reach[1]); }
double View::strength(const Vector& row) const { return std::hypot(row[0] * reach[0], row[1] * reach[1]); }

Scales scales(const QpData& data, const View& view) {
  Scales s{.objective = 0, .p = terms(data.Q, view), .h = terms(data.G, view), .b = terms(data.A, view)};
  for (std::size_t k = 0; k < 2; ++k) {
    s.p[k] = std::max(s.p[k], std::abs(data.p.at(static_cast<std::int64_t>(k))));
    s.objective = std::max(s.objective, s.p[k] * view.reach[k]);
  }
  if (!(s.objective > 0)) s.objective = 1;
  for (std::size_t k = 0; k < 2; ++k)
    if (!(s.p[k] > 0)) s.p[k] = s.objective / view.reach[k];
  for (auto* rows : {&s.h, &s.b})
    for (double& row : *rows)
      if (!(row > 0)) row = 1;  // 0'z <= h: nothing tells
  return s;
}

View fitting(const QpData& data, std::vector<Vector> seen, const std::optional<Vector>& free_optimum) {
  Box box;
  for (const Vector& v : seen)
    if (std::isfinite(v[0]) && std::isfinite(v[1])) box.take(v);
  for (std::size_t k = 0; k < 2; ++k) {
    Vector crossing{};
    crossing[k] = nearest_crossing(data, k);
    if (!(box.extent(k) > rounding * std::max(box.extent(1 - k), std::abs(crossing[k])))) box.take(crossing);
  }
  if (free_optimum && box.near(*free_optimum)) box.take(*free_optimum);

  View view;
  for (std::size_t k = 0; k < 2; ++k) {
    view.center[k] = 0.5 * (box.low[k] + box.high[k]);
    view.reach[k] = shown * box.extent(k);
  }
  const double larger = std::max(view.reach[0], view.reach[1]),
               smaller = std::min(view.reach[0], view.reach[1]);
  if (!(larger > 0))
    view.reach = {without_data, without_data};
  else if (smaller <= rounding * larger || larger <= differ * smaller)
    view.reach = {larger, larger};
  return view;
}

double relative_distance(const Vector& a, const Vector& b, const Vector& unit) {
  double apart = 0, size = 1;
  for (std::size_t k = 0; k < 2; ++k) {
    if (std::isnan(a[k]) || std::isnan(b[k])) return std::numeric_limits<double>::quiet_NaN();
    apart = std::max(apart, std::abs(a[k] - b[k]) / unit[k]);
    size = std::max(size, std::abs(a[k]) / unit[k]);
  }
  return apart / size;
}

}  // namespace banach::lab::qp
