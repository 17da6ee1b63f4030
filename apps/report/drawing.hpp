#pragma once
// What of a series is drawn: points that the axes can show, thinned to a number that a screen can. Internal.

#include <cstddef>
#include <vector>

#include <apps/report/page.hpp>

namespace banach::report {

/// One drawn point; y is NaN where the line must break. lo and hi are NaN where there is no band.
struct Point {
  double x = 0, y = 0, lo = 0, hi = 0;
};

struct Drawing {
  std::vector<Point> points{};
  std::size_t given = 0;         // points of the series
  std::size_t not_finite = 0;    // of these, left out: NaN or infinite
  std::size_t not_positive = 0;  // of these, left out: zero or negative on a log axis
  bool thinned = false;
};

inline constexpr std::size_t drawn_limit = 400;

/// Throws ValueError if x, y, lo and hi differ in length.
void check_lengths(const Series& series);

/// The points of a line or a cloud that the chart can show, at most drawn_limit of them if it thins. That
/// keeps the smallest and largest value of each stretch, so that a spike never disappears.
Drawing draw(const Series& series, const Chart& chart);

}  // namespace banach::report
