#include <banach/solvers/qp.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace banach {

std::string_view name(QpStatus status) {
  switch (status) {
    case QpStatus::solved:
      return "solved";
    case QpStatus::max_steps:
      return "max_steps";
    case QpStatus::primal_infeasible:
      return "primal_infeasible";
    case QpStatus::dual_infeasible:
      return "dual_infeasible";
    case QpStatus::non_convex:
      return "non_convex";
    case QpStatus::non_finite:
      return "non_finite";
  }
  return "?";
}

double QpSampleReport::largest() const {
  const double beside = gap / std::max(1.0, std::abs(objective));
  const double most = std::max({primal, dual, beside});
  return std::isfinite(primal + dual + beside) ? most : std::numeric_limits<double>::infinity();
}

bool QpReport::solved() const { return count(QpStatus::solved) == std::ssize(samples); }

int QpReport::count(QpStatus status) const {
  return static_cast<int>(std::count_if(samples.begin(), samples.end(),
                                        [&](const QpSampleReport& r) { return r.status == status; }));
}

std::string QpReport::to_string() const {
  std::string text = fmt::format("{} problem{}{}", samples.size(), samples.size() == 1 ? "" : "s",
                                 samples.empty() ? "" : ":");
  const char* separator = " ";
  for (int s = 0; s <= static_cast<int>(QpStatus::non_finite); ++s) {
    const auto status = static_cast<QpStatus>(s);
    if (const int k = count(status); k > 0) {
      text += fmt::format("{}{} {}", separator, k, name(status));
      separator = ", ";
    }
  }
  double most = 0.0;
  for (const QpSampleReport& r : samples)
    if (r.status == QpStatus::solved) most = std::max(most, r.largest());
  if (count(QpStatus::solved) > 0) text += fmt::format("; largest residual of these solved {:.1e}", most);
  return text;
}

}  // namespace banach
