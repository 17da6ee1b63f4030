#include <banach/engine/error.hpp>
#include <banach/engine/status.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace banach {
namespace {

// "126 converged, 2 max_steps": how often each status occurs, in the order of the enumeration.
template <class Sample, class Member>
std::string tally(const PoolVector<Sample>& samples, Member Sample::*member, int kinds) {
  std::string text;
  for (int kind = 0; kind < kinds; ++kind) {
    const auto value = static_cast<Member>(kind);
    const auto found =
        std::count_if(samples.begin(), samples.end(), [&](const Sample& s) { return s.*member == value; });
    if (found > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", found, name(value));
  }
  return text;
}

std::string head(std::size_t samples) { return fmt::format("{} sample{}", samples, samples == 1 ? "" : "s"); }

// Largest of the values; NaN if one is.
template <class Sample>
double largest(const PoolVector<Sample>& samples, double Sample::*member) {
  double result = 0.0;
  for (const Sample& s : samples) {
    if (std::isnan(s.*member)) return s.*member;
    result = std::max(result, s.*member);
  }
  return result;
}

constexpr std::array<std::string_view, 7> status_names = {"converged",  "max_steps", "diverged",  "stagnated",
                                                          "non_finite", "singular",  "indefinite"};
constexpr std::array<std::string_view, 5> kind_names = {"exact", "approximate", "least_squares",
                                                        "non_differentiable", "unbiased"};

}  // namespace

std::string_view name(Status status) { return status_names[static_cast<std::size_t>(status)]; }

std::string_view name(GradientKind kind) { return kind_names[static_cast<std::size_t>(kind)]; }

int SolveReport::count(Status status) const {
  return static_cast<int>(std::count_if(samples.begin(), samples.end(),
                                        [&](const SampleReport& s) { return s.status == status; }));
}

bool SolveReport::converged() const { return count(Status::converged) == static_cast<int>(samples.size()); }

std::string SolveReport::to_string() const {
  if (samples.empty()) return head(0);
  const auto unstable =
      std::count_if(samples.begin(), samples.end(), [](const SampleReport& s) { return s.unstable(); });
  const bool relative = measure == SolveReport().measure;
  return fmt::format("{}: {}; largest {} {:.1e}{}", head(samples.size()),
                     tally(samples, &SampleReport::status, status_names.size()), measure,
                     largest(samples, relative ? &SampleReport::rel_lowest : &SampleReport::abs_lowest),
                     unstable > 0 ? fmt::format("; {} unstable", unstable) : "");
}

bool AdjointReport::exact() const {
  return std::all_of(samples.begin(), samples.end(),
                     [](const GradientStatus& s) { return s.kind == GradientKind::exact; });
}

std::string AdjointReport::to_string() const {
  if (samples.empty()) return fmt::format("{}: {}", rule, head(0));
  const auto doubtful = std::count_if(samples.begin(), samples.end(),
                                      [](const GradientStatus& s) { return s.sensitivity > 0.25; });
  const auto spent = std::count_if(samples.begin(), samples.end(),
                                   [](const GradientStatus& s) { return s.adjoint == Status::max_steps; });
  return fmt::format(
      "{}: {}: {}; adjoint {}{}; {} products; largest residual {:.1e}{}{}{}", rule, head(samples.size()),
      tally(samples, &GradientStatus::kind, kind_names.size()),
      tally(samples, &GradientStatus::adjoint, status_names.size()),
      truncated && spent > 0 ? " (by design: a fixed number of terms)" : "", evaluations,
      largest(samples, &GradientStatus::adjoint_residual),
      doubtful > 0 ? fmt::format("; {} too inexact in z, or at a singular root", doubtful) : "",
      hint.empty() ? "" : "; hint: ", hint);
}

const AdjointReport& AdjointLog::last() const {
  if (!run()) fail<ValueError>("adjoint", "no backward sweep ran through this node yet: its log is empty");
  return reports_->back();
}

}  // namespace banach
