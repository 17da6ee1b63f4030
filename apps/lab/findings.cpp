#include <apps/lab/findings.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <apps/report/format.hpp>
#include <apps/training/tally.hpp>

namespace banach::lab {
namespace {

using report::format_number;
using report::format_percent;

/// The rules that reached the end.
std::vector<const RuleResult*> finished(const Results& results) {
  std::vector<const RuleResult*> rules;
  for (const RuleResult& rule : results.rules)
    if (rule.failure.empty() && !rule.steps.empty()) rules.push_back(&rule);
  return rules;
}

template <class Value>
const RuleResult& largest(const std::vector<const RuleResult*>& rules, Value value) {
  return **std::max_element(rules.begin(), rules.end(),
                            [&](const RuleResult* a, const RuleResult* b) { return value(*a) < value(*b); });
}

std::string times(double factor) { return fmt::format("{:.{}f} times", factor, factor < 10.0 ? 1 : 0); }

std::string about_accuracy(const Results& results, const std::vector<const RuleResult*>& rules) {
  const auto accuracy = [](const RuleResult& r) { return r.accuracy; };
  const RuleResult& best = largest(rules, accuracy);
  const RuleResult& worst = largest(rules, [](const RuleResult& r) { return -r.accuracy; });
  const double gap = best.accuracy - worst.accuracy;
  // Two shares p of n images differ by chance by about sqrt(2 p (1 - p) / n).
  const double chance =
      std::sqrt(2.0 * best.accuracy * (1.0 - best.accuracy) / static_cast<double>(results.test_images));
  std::string text =
      fmt::format("Test accuracy lies between {} ({}) and {} ({}).", format_percent(worst.accuracy, 2),
                  worst.spec, format_percent(best.accuracy, 2), best.spec);
  const double points = 100.0 * gap, noise = 200.0 * chance;
  if (gap <= 2.0 * chance)
    return text + fmt::format(
                      " That is {:.2f} points apart, within the {:.2f} points that two runs may differ by "
                      "chance on {} test images: here no rule buys more accuracy than another.",
                      points, noise, report::format_count(results.test_images));
  return text + fmt::format(
                    " That is {:.2f} points apart, more than the {:.2f} points that chance on {} test images "
                    "explains.",
                    points, noise, report::format_count(results.test_images));
}

std::string about_directions(const std::vector<const RuleResult*>& rules) {
  const auto cosine = [](const RuleResult& r) { return r.same_point_summary().cosine_mean; };
  std::vector<const RuleResult*> measured;
  for (const RuleResult* rule : rules)
    if (!std::isnan(cosine(*rule))) measured.push_back(rule);
  if (measured.empty()) return {};
  const RuleResult& best = largest(measured, cosine);
  const RuleResult& worst = largest(measured, [&](const RuleResult& r) { return -cosine(r); });
  return fmt::format(
      "At the same points, {} comes closest to the exact gradient (mean cosine {:.6f}, norm ratio {:.3f}) "
      "and {} strays farthest (mean cosine {:.4f}, norm ratio {:.3f}, lowest cosine {:.4f}).",
      best.spec, cosine(best), best.same_point_summary().norm_ratio_mean, worst.spec, cosine(worst),
      worst.same_point_summary().norm_ratio_mean, worst.same_point_summary().cosine_smallest);
}

std::string about_cost(const std::vector<const RuleResult*>& rules) {
  const auto backward = [](const RuleResult& r) { return r.median_cost().backward_seconds; };
  const auto peak = [](const RuleResult& r) { return r.median_cost().peak_bytes; };
  const RuleResult& slow = largest(rules, backward);
  const RuleResult& fast = largest(rules, [&](const RuleResult& r) { return -backward(r); });
  const RuleResult& big = largest(rules, peak);
  const RuleResult& small = largest(rules, [&](const RuleResult& r) { return -peak(r); });
  return fmt::format(
      "A backward pass takes {} with {} and {} with {}, {} as long. A step of {} holds {} at its peak, one "
      "of {} {}.",
      report::format_si(backward(fast), "s"), fast.spec, report::format_si(backward(slow), "s"), slow.spec,
      times(backward(slow) / backward(fast)), small.spec, report::format_bytes(peak(small)), big.spec,
      report::format_bytes(peak(big)));
}

std::string about_contraction(const RuleResult& first) {
  if (first.probes.empty()) return {};
  const Probe &start = first.probes.front(), &end = first.probes.back();
  return fmt::format(
      "Along the training of {}, the median spectral radius of df/dz at the solution goes from {} to {}. The "
      "smaller it is, the faster the solver and the closer every truncated series to the exact gradient: the "
      "error of a Neumann series of K terms shrinks like its K-th power.",
      first.spec, format_number(start.radius_median), format_number(end.radius_median));
}

}  // namespace

std::vector<std::string> findings(const Results& results) {
  const std::vector<const RuleResult*> rules = finished(results);
  if (rules.empty()) return {"No rule reached the end of its training."};
  std::vector<std::string> texts;
  for (const std::string& text :
       {rules.size() > 1 ? about_accuracy(results, rules) : std::string(), about_directions(rules),
        rules.size() > 1 ? about_cost(rules) : std::string(), about_contraction(results.rules.front())})
    if (!text.empty()) texts.push_back(text);
  texts.push_back(
      "One seed, one model and one data set: differences in accuracy of this size are no ranking of the "
      "rules in general.");
  return texts;
}

std::vector<std::string> warnings(const Results& results) {
  std::vector<std::string> texts = results.notices;
  for (const RuleResult& rule : results.rules) {
    if (!rule.failure.empty()) texts.push_back(fmt::format("{}: {}.", rule.spec, rule.failure));
    if (const auto steps = rule.steps_without_loss(); !steps.empty())
      texts.push_back(fmt::format("{}: the loss is not finite in {} of {} steps, first in step {}.",
                                  rule.spec, report::format_count(static_cast<std::int64_t>(steps.size())),
                                  report::format_count(static_cast<std::int64_t>(rule.steps.size())),
                                  steps.front()));
    const auto broken = std::count_if(rule.probes.begin(), rule.probes.end(),
                                      [](const Probe& p) { return !std::isfinite(p.quality.cosine); });
    if (broken > 0)
      texts.push_back(fmt::format(
          "{}: at {} of {} probes of its own training its gradient or the exact one is zero or not finite.",
          rule.spec, broken, rule.probes.size()));
    const auto uphill = std::count_if(rule.probes.begin(), rule.probes.end(), [](const Probe& p) {
      return std::isfinite(p.quality.cosine) && !p.quality.descent;
    });
    if (uphill > 0)
      texts.push_back(fmt::format("{} points uphill at {} of {} probes of its own training.", rule.spec,
                                  uphill, rule.probes.size()));
    if (const std::int64_t lost = training::count_of(rule.adjoint_statuses, "diverged"); lost > 0)
      texts.push_back(fmt::format(
          "{}: says itself, for {} samples in training, that its gradient is lost (adjoint diverged).",
          rule.spec, report::format_count(lost)));
    const std::int64_t all = training::total(rule.forward_statuses),
                       converged = training::count_of(rule.forward_statuses, "converged");
    const bool cut_short = parse_rule(rule.spec).max_steps > 0;  // as it was asked to
    if (converged < all && !cut_short)
      texts.push_back(
          fmt::format("{}: {} of {} forward solves during training did not converge to the tolerance.",
                      rule.spec, report::format_count(all - converged), report::format_count(all)));
  }
  return texts;
}

}  // namespace banach::lab
