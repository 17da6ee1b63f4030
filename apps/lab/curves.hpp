#pragma once
// What the charts of a training have in common.

#include <utility>
#include <vector>

#include <apps/lab/results.hpp>
#include <apps/report/page.hpp>

namespace banach::lab {

/// One curve a rule: x and y of each of its rows.
template <class Row, class X, class Y>
std::vector<report::Series> curves(const Results& results, std::vector<Row> RuleResult::*rows, X x, Y y) {
  std::vector<report::Series> series;
  for (const RuleResult& rule : results.rules) {
    report::Series curve{.name = rule.spec};
    for (const Row& row : rule.*rows) {
      curve.x.push_back(x(row));
      curve.y.push_back(y(row));
    }
    if (!curve.x.empty()) series.push_back(std::move(curve));
  }
  return series;
}

inline double step_of(const auto& row) { return static_cast<double>(row.step); }

}  // namespace banach::lab
