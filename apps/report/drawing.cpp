#include <apps/report/drawing.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>

#include <banach/engine/error.hpp>

namespace banach::report {
namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Beyond these the chart library's own arithmetic overflows while it looks for round ticks.
constexpr double largest_drawn = 1e300;
constexpr double smallest_drawn_on_log = 1e-300;

enum class Fault { none, not_finite, not_positive };

Fault fault_of(double value, bool log) {
  if (!(std::abs(value) <= largest_drawn)) return Fault::not_finite;
  return log && value < smallest_drawn_on_log ? Fault::not_positive : Fault::none;
}

bool is_gap(const Point& point) { return std::isnan(point.y); }

/// All points the axes can show; a run of missing values in a line becomes one gap.
Drawing drawable_points(const Series& series, const Chart& chart) {
  Drawing drawing{.given = series.y.size()};
  std::vector<Point>& points = drawing.points;
  for (std::size_t i = 0; i < series.y.size(); ++i) {
    const double x = series.x.empty() ? static_cast<double>(i) : series.x[i];
    const Fault x_fault = fault_of(x, chart.log_x), y_fault = fault_of(series.y[i], chart.log_y);
    const Fault fault = x_fault != Fault::none ? x_fault : y_fault;
    drawing.not_finite += fault == Fault::not_finite;
    drawing.not_positive += fault == Fault::not_positive;
    if (fault == Fault::none) {
      points.push_back({x, series.y[i], not_a_number, not_a_number});
      if (!series.lo.empty() && fault_of(series.lo[i], false) == Fault::none &&
          fault_of(series.hi[i], false) == Fault::none) {
        points.back().lo = series.lo[i];
        points.back().hi = series.hi[i];
      }
    } else if (x_fault == Fault::none && !points.empty() && !is_gap(points.back())) {
      points.push_back({x, not_a_number, not_a_number, not_a_number});
    }
  }
  if (!points.empty() && is_gap(points.back())) points.pop_back();
  return drawing;
}

/// On a log axis a band may reach below zero; it is cut at the smallest value that the series shows.
void cut_band_at_smallest(std::vector<Point>& points) {
  double smallest = std::numeric_limits<double>::infinity();
  for (const Point& point : points) {
    if (point.y < smallest) smallest = point.y;
    if (point.lo > 0 && point.lo < smallest) smallest = point.lo;
  }
  for (Point& point : points) {
    if (point.lo <= 0) point.lo = std::min(smallest, point.y);
    if (point.hi <= 0) point.hi = point.y;
  }
}

/// The stretch of the axis, out of `count`, in which each point lies: by x where x ascends, else by index.
std::vector<std::size_t> stretches(const std::vector<Point>& points, std::size_t count, bool log_x) {
  const auto place = [&](std::size_t i) { return log_x ? std::log(points[i].x) : points[i].x; };
  const bool ascending =
      std::is_sorted(points.begin(), points.end(), [](auto& a, auto& b) { return a.x < b.x; });
  const std::size_t last = points.size() - 1;
  const double span = place(last) - place(0);
  const bool by_place = ascending && span > 0 && std::isfinite(span);
  std::vector<std::size_t> result(points.size());
  for (std::size_t i = 0; i < points.size(); ++i) {
    const double part =
        by_place ? (place(i) - place(0)) / span : static_cast<double>(i) / static_cast<double>(last);
    result[i] = std::min(count - 1, static_cast<std::size_t>(part * static_cast<double>(count)));
  }
  return result;
}

/// Of each stretch the smallest, the largest and the first gap, in their order; besides, the two ends.
std::vector<Point> thin_line(const std::vector<Point>& points, bool log_x) {
  const bool has_gaps = std::any_of(points.begin(), points.end(), is_gap);
  const std::vector<std::size_t> stretch = stretches(points, (drawn_limit - 2) / (has_gaps ? 3 : 2), log_x);
  std::vector<Point> thinned;
  for (std::size_t begin = 0, end = 0; begin < points.size(); begin = end) {
    std::size_t lowest = points.size(), highest = points.size(), gap = points.size();
    for (end = begin; end < points.size() && stretch[end] == stretch[begin]; ++end) {
      if (is_gap(points[end])) {
        gap = std::min(gap, end);
        continue;
      }
      if (lowest == points.size() || points[end].y < points[lowest].y) lowest = end;
      if (highest == points.size() || points[end].y > points[highest].y) highest = end;
    }
    std::set<std::size_t> kept{lowest, highest, gap};
    if (begin == 0) kept.insert(0);
    if (end == points.size()) kept.insert(end - 1);
    kept.erase(points.size());
    for (const std::size_t i : kept) thinned.push_back(points[i]);
  }
  return thinned;
}

/// An even sample of a cloud and the points that are extreme in x or y.
std::vector<Point> thin_cloud(std::vector<Point> points) {
  std::erase_if(points, is_gap);
  if (points.size() <= drawn_limit) return points;
  const auto [left, right] =
      std::minmax_element(points.begin(), points.end(), [](auto& a, auto& b) { return a.x < b.x; });
  const auto [low, high] =
      std::minmax_element(points.begin(), points.end(), [](auto& a, auto& b) { return a.y < b.y; });
  std::set<std::ptrdiff_t> kept;
  for (const auto extreme : {left, right, low, high}) kept.insert(extreme - points.begin());
  const std::size_t sampled = drawn_limit - 4;
  for (std::size_t i = 0; i < sampled; ++i)
    kept.insert(static_cast<std::ptrdiff_t>(i * points.size() / sampled));
  std::vector<Point> thinned;
  for (const std::ptrdiff_t i : kept) thinned.push_back(points[static_cast<std::size_t>(i)]);
  return thinned;
}

}  // namespace

void check_lengths(const Series& series) {
  const std::size_t count = series.y.size();
  const bool x_fits = series.x.empty() || series.x.size() == count;
  const bool band_fits =
      (series.lo.empty() && series.hi.empty()) || (series.lo.size() == count && series.hi.size() == count);
  if (x_fits && band_fits) return;
  fail<ValueError>("report",
                   "a series must have as many x, and lo and hi if any, as y: '" + series.name + "' has " +
                       std::to_string(series.x.size()) + " x, " + std::to_string(series.lo.size()) + " lo, " +
                       std::to_string(series.hi.size()) + " hi and " + std::to_string(count) + " y");
}

Drawing draw(const Series& series, const Chart& chart) {
  check_lengths(series);
  Drawing drawing = drawable_points(series, chart);
  const bool cloud = series.mark == Series::Mark::points ||
                     (series.mark == Series::Mark::automatic && chart.kind == Chart::Kind::scatter);
  if (cloud) std::erase_if(drawing.points, is_gap);
  if (chart.log_y) cut_band_at_smallest(drawing.points);
  if (chart.thin && drawing.points.size() > drawn_limit) {
    drawing.points = cloud ? thin_cloud(std::move(drawing.points)) : thin_line(drawing.points, chart.log_x);
    drawing.thinned = true;
  }
  return drawing;
}

}  // namespace banach::report
