#include <apps/lab/charts.hpp>

#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include <apps/lab/curves.hpp>

namespace banach::lab {
namespace {

using report::Chart;
using report::Series;

/// Training loss, averaged over a hundredth of the training at a time.
std::vector<Series> loss_curves(const Results& results) {
  std::vector<Series> series;
  for (const RuleResult& rule : results.rules) {
    Series curve{.name = rule.spec};
    const std::size_t window = std::max<std::size_t>(1, rule.steps.size() / 100);
    for (std::size_t from = 0; from + window <= rule.steps.size(); from += window) {
      double total = 0.0;
      for (std::size_t i = from; i < from + window; ++i) total += rule.steps[i].loss;
      curve.x.push_back(static_cast<double>(from + window));
      curve.y.push_back(total / static_cast<double>(window));
    }
    series.push_back(std::move(curve));
  }
  return series;
}

/// One bar a rule.
template <class Value>
Chart bars(const Results& results, Value value) {
  Chart chart{.kind = Chart::Kind::bar};
  Series series;
  for (const RuleResult& rule : results.rules) {
    chart.categories.push_back(rule.spec);
    series.y.push_back(value(rule));
  }
  chart.series.push_back(std::move(series));
  chart.horizontal = true;
  chart.color_by_category = true;
  return chart;
}

double angle(double cosine) { return std::acos(std::clamp(cosine, -1.0, 1.0)) * 180.0 / std::acos(-1.0); }

template <class Row>
std::vector<report::Block> quality_charts(const Results& results, std::vector<Row> RuleResult::*rows,
                                          const std::string& where) {
  Chart cosine{.title = "Cosine to the exact gradient, " + where,
               .look_for =
                   "1 is the right direction, 0 is useless, below 0 points uphill: look for rules that sink "
                   "as training goes on.",
               .x_label = "training step",
               .y_label = "cosine",
               .series = curves(results, rows, step_of<Row>, [](const Row& r) { return r.quality.cosine; }),
               .references = {{1.0, "exact"}}};
  Chart tilt{
      .title = "Angle to the exact gradient, " + where,
      .look_for =
          "The same on a log scale, where the good rules can be told apart: each ten times lower is ten "
          "times closer.",
      .x_label = "training step",
      .y_label = "angle, degrees",
      .log_y = true,
      .series = curves(results, rows, step_of<Row>, [](const Row& r) { return angle(r.quality.cosine); })};
  Chart length{
      .title = "Length beside the exact gradient, " + where,
      .look_for = "1 is the right length; below it the rule takes smaller steps than gradient descent would.",
      .x_label = "training step",
      .y_label = "||estimate|| / ||exact||",
      .series = curves(results, rows, step_of<Row>, [](const Row& r) { return r.quality.norm_ratio; }),
      .references = {{1.0, "exact"}}};
  return {std::move(cosine), std::move(tilt), std::move(length)};
}

/// The accuracies after the first quarter of training: before, all climb from chance, and would flatten the
/// rest.
std::optional<report::Range> accuracy_range(const Results& results) {
  double low = 1.0, high = 0.0;
  for (const RuleResult& rule : results.rules)
    for (const Probe& p : rule.probes)
      if (4 * p.step >= rule.probes.back().step) {
        low = std::min(low, p.test_accuracy);
        high = std::max(high, p.test_accuracy);
      }
  if (!(low < high)) return std::nullopt;
  const double margin = 0.15 * (high - low);
  return report::Range{std::max(0.0, low - margin), std::min(1.0, high + margin)};
}

}  // namespace

std::vector<report::Block> accuracy_charts(const Results& results) {
  const auto accuracy = [](const Probe& p) { return p.test_accuracy; };
  const std::optional<report::Range> range = accuracy_range(results);
  const std::string note = range ? "Cut off below: the climb from chance at the start." : "";
  return {
      Chart{
          .title = "Test accuracy against training time",
          .look_for = "Which curve is highest at a given time: this is what an estimator buys for its cost.",
          .x_label = "seconds of training (probes not counted)",
          .y_label = "test accuracy",
          .series = curves(
              results, &RuleResult::probes, [](const Probe& p) { return p.seconds; }, accuracy),
          .y_range = range,
          .note = note},
      Chart{.title = "Test accuracy against steps",
            .look_for = "Curves that coincide mean that the estimate is as good a direction as the exact "
                        "gradient, step for step.",
            .x_label = "training step",
            .y_label = "test accuracy",
            .series = curves(results, &RuleResult::probes, step_of<Probe>, accuracy),
            .y_range = range,
            .note = note},
      Chart{.title = "Training loss",
            .look_for =
                "A rule whose loss stays above the others follows a worse direction, or takes shorter steps.",
            .x_label = "training step",
            .y_label = "cross entropy",
            .log_y = true,
            .series = loss_curves(results),
            .note = "Each point is the mean over a hundredth of the training."}};
}

std::vector<report::Block> same_point_charts(const Results& results) {
  return quality_charts(results, &RuleResult::same_point, "all rules at the same point");
}

std::vector<report::Block> own_training_charts(const Results& results) {
  return quality_charts(results, &RuleResult::probes, "each along its own training");
}

std::vector<report::Block> cost_charts(const Results& results) {
  Chart backward = bars(results, [](const RuleResult& r) { return 1e3 * r.median_cost().backward_seconds; });
  backward.title = "Time of a backward pass";
  backward.look_for = "What the exact gradient costs above the cheapest estimate.";
  backward.y_label = "ms, median over training";
  Chart forward = bars(results, [](const RuleResult& r) { return 1e3 * r.median_cost().forward_seconds; });
  forward.title = "Time of a forward pass";
  forward.look_for =
      "Rules that share a solver should be alike; those with an iteration of their own take its steps, and "
      "record them or not.";
  forward.y_label = "ms, median over training";
  Chart memory =
      bars(results, [](const RuleResult& r) { return r.median_cost().peak_bytes / (1024.0 * 1024.0); });
  memory.title = "Peak memory of a step";
  memory.look_for =
      "Rules that work at the solution need the same memory however many steps led there, and the exact one "
      "that of its linear solver; unrolling pays for every step.";
  memory.y_label = "MiB of tape and solver history";
  Chart evaluations = bars(results, [](const RuleResult& r) { return r.median_cost().backward_evaluations; });
  evaluations.title = "Vector-Jacobian products of a backward pass";
  evaluations.look_for = "The cost of a rule in the unit that does not depend on the machine.";
  evaluations.y_label = "products, median over training";
  return {std::move(backward), std::move(forward), std::move(memory), std::move(evaluations)};
}

std::vector<report::Block> equilibrium_charts(const Results& results) {
  const auto radii = [&](double Probe::*member) {
    return curves(results, &RuleResult::probes, step_of<Probe>, [=](const Probe& p) { return p.*member; });
  };
  Chart radius{
      .title = "Spectral radius of df/dz at the solution",
      .look_for = "The nearer to 1, the slower plain iteration and the worse every truncated series.",
      .x_label = "training step",
      .y_label = "spectral radius",
      .series = radii(&Probe::radius_median),
      .note =
          "Median over the samples of the probe's batch; dashed: the largest of them, for the first rule. "
          "Arnoldi's method, 30 products."};
  if (!radius.series.empty()) {
    Series largest = radii(&Probe::radius_largest).front();
    largest.looks_like = largest.name;
    largest.name += ", largest";
    largest.dashed = true;
    radius.series.push_back(std::move(largest));
  }

  Chart residuals{
      .title = "Convergence of the forward solve, at the end of training",
      .look_for = "A straight line is a constant rate; the steeper, the fewer evaluations a solve takes.",
      .x_label = "evaluation of f",
      .y_label = "||f(z) - z|| / ||f(z)||",
      .log_y = true,
      .note =
          "Median over the samples of the probe's batch; the bands, of the first rule and of unrolled, which "
          "has a solver of its own, span the smallest and the largest. A sample that has stopped keeps its "
          "last residual."};
  for (const RuleResult& rule : results.rules) {
    const Convergence& c = rule.convergence;
    Series curve{.name = rule.spec, .y = c.median};
    for (std::size_t i = 0; i < c.median.size(); ++i) curve.x.push_back(static_cast<double>(i + 1));
    if (&rule == &results.rules.front() || rule.spec == "unrolled") {
      curve.lo = c.smallest;
      curve.hi = c.largest;
    }
    if (!curve.y.empty()) residuals.series.push_back(std::move(curve));
  }
  return {std::move(radius), std::move(residuals)};
}

}  // namespace banach::lab
