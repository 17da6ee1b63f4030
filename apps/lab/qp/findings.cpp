#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/lab/qp/diagrams.hpp>
#include <apps/lab/qp/geometry.hpp>
#include <apps/lab/qp/page.hpp>

namespace banach::lab::qp {
namespace {

using report::format_number;

std::string plural(std::size_t count, const std::string& word) {
  return fmt::format("{} {}{}", count, word, count == 1 ? "" : "s");
}

/// "p1 and h2", or "3 entries".
std::string list(const std::vector<std::string>& entries) {
  if (entries.size() > 4) return fmt::format("{} entries", entries.size());
  return fmt::format("{}", fmt::join(entries, ", "));
}

std::string about_exact(const Results& results) {
  double largest = 0.0;
  std::size_t count = 0, entries = 0;
  for (const Study& s : results.studies) {
    if (!exact(s)) continue;
    ++count;
    for (const Derivative& d : s.derivatives) largest = std::max(largest, d.largest_difference()), ++entries;
  }
  if (count == 0) return {};
  return fmt::format(
      "Where the gradient is called exact ({}, {}), it differs from the differences of solutions to either "
      "side by {} at most, in parts of the drawing.",
      plural(count, "problem"), plural(entries, "derivative"), format_number(largest, 2));
}

std::string about_inexact(const Study& s) {
  std::vector<std::string> kinked, missing, off;
  for (const Derivative& d : s.derivatives) {
    const std::string entry = with_subscript(d.by);
    if (std::isnan(d.left[0]) || std::isnan(d.right[0]))
      missing.push_back(entry);
    else if (d.apart(d.left, d.right) > agreement)
      kinked.push_back(entry);
    else if (d.largest_difference() > agreement)
      off.push_back(entry);
  }
  std::vector<std::string> parts;
  if (!kinked.empty()) parts.push_back("left and right differences disagree for " + list(kinked));
  if (!missing.empty()) parts.push_back("a problem a step away has no solution for " + list(missing));
  if (!off.empty()) parts.push_back("differences disagree with what is reported for " + list(off));
  if (parts.empty()) parts.push_back("differences of solutions agree with what is reported nevertheless");
  return fmt::format("{}: the gradient is called {}; {}.", s.problem.title, gradient_words(s),
                     fmt::join(parts, "; "));
}

std::string about_unsolved(const Study& s) {
  const auto planes = rows(s.problem.data.G, s.problem.data.h),
             equalities = rows(s.problem.data.A, s.problem.data.b);
  if (s.report.status == QpStatus::primal_infeasible) {
    for (std::size_t i = 0; i < planes.size(); ++i)
      if (planes[i].h == -HUGE_VAL)
        return fmt::format("{}: primal_infeasible: constraint {} asks for less than -infinity.",
                           s.problem.title, i + 1);
    Vector sum{};
    double right = 0.0;
    const auto take = [&](const std::vector<HalfPlane>& all, const std::vector<double>& weights) {
      for (std::size_t i = 0; i < all.size(); ++i) {
        for (std::size_t k = 0; k < 2; ++k) sum[k] += weights[i] * all[i].a[k];
        right += weights[i] == 0.0 ? 0.0 : weights[i] * all[i].h;
      }
    };
    take(planes, s.lambda), take(equalities, s.nu);
    std::vector<std::string> weights;
    for (const auto* all : {&s.lambda, &s.nu})
      for (const double weight : *all) weights.push_back(format_number(weight));
    return fmt::format(
        "{}: primal_infeasible, and proved: the constraints with the weights {} add up to 0 (to {}) on the "
        "left "
        "and to {} on the right.",
        s.problem.title, fmt::join(weights, ", "),
        format_number(std::max(std::abs(sum[0]), std::abs(sum[1])), 2), format_number(right));
  }
  if (s.report.status == QpStatus::dual_infeasible) {
    const Tensor& p = s.problem.data.p;
    const double size = std::max(std::abs(s.z[0]), std::abs(s.z[1]));
    double most = -HUGE_VAL;
    for (const HalfPlane& plane : planes)
      if (plane.h < qp_infinity)  // else it holds nothing back
        most = std::max(most, plane.a[0] * s.z[0] + plane.a[1] * s.z[1]);
    return fmt::format(
        "{}: dual_infeasible, and proved: along z = {} the objective falls (p'z = {}){}.", s.problem.title,
        pair_words(s.z, {size, size}), format_number(p.at(0) * s.z[0] + p.at(1) * s.z[1]),
        most == -HUGE_VAL
            ? ""
            : fmt::format(" and no constraint stops it (the largest Gᵢ z is {})", format_number(most)));
  }
  return fmt::format("{}: named {}; no solution and no gradient is made up.", s.problem.title,
                     name(s.report.status));
}

std::string about_paths(const Results& results) {
  double largest = 0.0;
  std::size_t exact = 0, places = 0, paths = 0;
  for (const Study& s : results.studies) {
    paths += !s.path.empty();
    for (const PathPoint& p : s.path) {
      ++places;
      if (p.status != QpStatus::solved || p.gradient != GradientKind::exact) continue;
      ++exact;
      largest = std::max(largest, relative_distance(p.reported, p.difference, s.view.reach));
    }
  }
  if (paths == 0) return {};
  return fmt::format(
      "Along the paths ({} of them) the derivative is called exact at {} of {} places, and differs from a "
      "central difference by {} at most there, in parts of the drawing.",
      paths, exact, places, format_number(largest, 2));
}

std::string about_estimates(const Estimates& e) {
  std::vector<std::string> parts;
  for (const std::string& rule : estimate_rules()) {
    const int steps = steps_to(e, rule, 0.01);
    if (rule != "jfb" || steps > 0)
      parts.push_back(rule + " " + (steps > 0 ? std::to_string(steps) : "more than tried"));
  }
  const std::string forward =
      e.converged
          ? fmt::format("the fixed point takes {} steps (rate {}); ", e.forward_steps, format_number(e.rate))
          : fmt::format(
                "ADMM did not reach its fixed point in {} steps (rate {}): what follows is at "
                "the last one; ",
                e.forward_steps, format_number(e.rate));
  return fmt::format("{} by ADMM: {}steps differentiated for an error below 1 % of the gradient: {}.",
                     e.problem, forward, fmt::join(parts, ", "));
}

}  // namespace

std::vector<std::string> findings(const Results& results) {
  std::vector<std::string> sentences;
  for (std::string text : {about_exact(results), about_paths(results)})
    if (!text.empty()) sentences.push_back(std::move(text));
  for (const Study& s : results.studies) {
    if (!s.solved())
      sentences.push_back(about_unsolved(s));
    else if (!exact(s))
      sentences.push_back(about_inexact(s));
  }
  for (const Estimates& e : results.estimates) sentences.push_back(about_estimates(e));
  return sentences;
}

}  // namespace banach::lab::qp
