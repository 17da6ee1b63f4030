#include <apps/lab/charts.hpp>

#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include <apps/lab/frontier.hpp>
#include <apps/report/format.hpp>

namespace banach::lab {
namespace {

using report::Chart;
using report::Series;

/// One curve a rule: x and y of each of its rows.
template <class Row, class X, class Y>
std::vector<Series> curves(const Results& results, std::vector<Row> RuleResult::*rows, X x, Y y) {
  std::vector<Series> series;
  for (const RuleResult& rule : results.rules) {
    Series curve{.name = rule.spec};
    for (const Row& row : rule.*rows) {
      curve.x.push_back(x(row));
      curve.y.push_back(y(row));
    }
    if (!curve.x.empty()) series.push_back(std::move(curve));
  }
  return series;
}

double step_of(const auto& row) { return static_cast<double>(row.step); }

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

/// A point a rule, named in place, and the front as a stair through those that none beats in both.
Chart offers_chart(const std::vector<Offer>& offers, const std::vector<Offer>& front) {
  Chart chart{.kind = Chart::Kind::scatter, .label_points = true, .wide = true};
  for (const Offer& offer : offers)
    chart.series.push_back({.name = offer.rule, .x = {offer.cost}, .y = {offer.loss}});
  Series stair{.name = "Pareto front", .dashed = true, .mark = Series::Mark::line, .color = "#8a929c"};
  for (std::size_t i = 0; i < front.size(); ++i) {
    if (i > 0) {
      stair.x.push_back(front[i].cost);
      stair.y.push_back(front[i - 1].loss);
    }
    stair.x.push_back(front[i].cost);
    stair.y.push_back(front[i].loss);
  }
  if (!front.empty()) chart.series.push_back(std::move(stair));
  return chart;
}

}  // namespace

std::vector<report::Block> frontier_charts(const Results& results) {
  const std::vector<Offer> gradients = gradient_offers(results), accuracies = accuracy_offers(results);
  Chart gradient = offers_chart(gradients, pareto_front(gradients));
  gradient.title = "What a backward pass buys: error of the gradient against its time";
  gradient.look_for =
      "Down and to the left is better. On the dashed stair stand the rules that no other beats in both; a "
      "rule above it "
      "pays more, for a gradient that is no closer, than one on it.";
  gradient.x_label = "ms of a backward pass, median";
  gradient.y_label = "||estimate - exact|| / ||exact||, median";
  gradient.log_x = gradient.log_y = true;
  gradient.note =
      "Errors: all rules at the same points, on the same batch; times: along each rule's own training. A "
      "rule that differentiates its own iteration pays in "
      "its forward "
      "pass too, for the recording; all of its time is in the next chart.";
  for (Series& series : gradient.series)
    for (double& seconds : series.x) seconds *= 1e3;

  Chart accuracy = offers_chart(accuracies, pareto_front(accuracies));
  accuracy.title = "What a training buys: test error against its time";
  accuracy.look_for =
      "Down and to the left is better. Rules at the same height bought the same accuracy, whatever their "
      "gradients are "
      "worth: then the cheapest is the one to take.";
  accuracy.x_label = "seconds of training in all";
  accuracy.y_label = "test error at the end, %";
  for (Series& series : accuracy.series)
    for (double& error : series.y) error *= 100.0;
  return {std::move(gradient), std::move(accuracy)};
}

std::vector<report::Block> noise_charts(const Results& results) {
  const auto of = [&](double Noise::*member) {
    return curves(results, &RuleResult::same_point, step_of<SamePoint>,
                  [=](const SamePoint& p) { return p.noise.*member; });
  };
  Chart bias{
      .title = "Bias, at the same points",
      .look_for =
          "What no averaging removes. An unbiased rule lies at the height that chance alone gives it, and "
          "sinks as more minibatches and draws are taken.",
      .x_label = "training step",
      .y_label = "||E g - exact|| / ||exact||",
      .log_y = true,
      .series = of(&Noise::bias)};

  Chart spread{
      .title = "Variance over minibatches, at the same points",
      .look_for =
          "The noise that training on minibatches brings, whatever the rule; a rule below the others "
          "gives shorter gradients, not better ones.",
      .x_label = "training step",
      .y_label = "E||g - E g||² / ||exact||²",
      .log_y = true,
      .series = of(&Noise::batch_variance)};
  const auto known = [](const Series& s) {
    return std::any_of(s.y.begin(), s.y.end(), [](double v) { return std::isfinite(v); });
  };
  if (std::none_of(spread.series.begin(), spread.series.end(), known))
    return {std::move(bias)};  // one minibatch has no variance

  Chart parts{
      .title = "The squared error of one gradient, in its parts",
      .look_for =
          "Where the minibatch bar is the longest by far, a better estimate of the gradient is lost in the "
          "noise of the data.",
      .y_label = "relative to ||exact||²",
      .log_y = true,
      .kind = Chart::Kind::bar,
      .horizontal = true,
      .wide = true};
  Series squared_bias{.name = "bias²"}, own{.name = "variance of its draws"},
      batch{.name = "variance over minibatches"};
  for (const RuleResult& rule : results.rules) {
    const Noise noise = rule.mean_noise();
    parts.categories.push_back(rule.spec);
    squared_bias.y.push_back(noise.bias * noise.bias);
    own.y.push_back(rule.random ? noise.own_variance : 0.0);
    batch.y.push_back(noise.batch_variance);
  }
  const bool draws = std::any_of(own.y.begin(), own.y.end(), [](double v) { return v > 0.0; });
  parts.series = {std::move(squared_bias), std::move(batch)};
  if (draws) {
    parts.series.push_back(std::move(own));
    parts.note =
        "Means over the points. A rule that draws nothing has no variance but that of the minibatches.";
  }
  return {std::move(bias), std::move(spread), std::move(parts)};
}

std::vector<report::Block> figure_charts(const Results& results) {
  struct Known {
    std::string name, title, look_for, y_label;
    bool log;
    std::vector<report::ReferenceLine> references{};
  };
  const Known known[] = {
      {"reconstruction error",
       "Reconstruction error of an inverted iteration",
       "Rounding errors grow with every step that is inverted. Above the line the gradient is not that of "
       "the iteration "
       "any more, and the rule says so.",
       "distance from the true start, relative",
       true,
       {{1e-3, "lost above"}}},
      {"variance of λ", "Variance that a rule estimates from its own draws",
       "A rise says that the terms of the series die away more slowly than the chance to go on.",
       "variance of λ, summed over the batch", true},
      {"fallbacks", "Samples whose estimate was not trusted",
       "Where the estimate of λ is too long, g itself is taken: at 1 the rule is jfb by another name.",
       "share of the batch", false},
  };
  std::vector<report::Block> blocks;
  report::Table table{
      .title = "Over all training steps",
      .caption = {},
      .columns = {{"rule"},
                  {"figure", "", "", report::Column::Align::left},
                  {"mean", "", "of the steps' worst samples; of the variance, and of the share, itself"},
                  {"largest"}}};
  for (const Known& figure : known) {
    Chart chart{.title = figure.title,
                .look_for = figure.look_for,
                .x_label = "training step",
                .y_label = figure.y_label,
                .log_y = figure.log,
                .references = figure.references};
    for (const RuleResult& rule : results.rules) {
      Series curve{.name = rule.spec};
      for (const Probe& probe : rule.probes)
        if (const auto found = probe.figures.find(figure.name); found != probe.figures.end()) {
          curve.x.push_back(step_of(probe));
          curve.y.push_back(found->second);
        }
      if (!curve.x.empty()) chart.series.push_back(std::move(curve));
      if (const auto found = rule.figures.find(figure.name); found != rule.figures.end())
        table.rows.push_back({rule.spec, figure.name, report::format_number(found->second.mean, 3),
                              report::format_number(found->second.largest, 3)});
    }
    if (!chart.series.empty()) blocks.push_back(std::move(chart));
  }
  if (!table.rows.empty()) blocks.push_back(std::move(table));
  return blocks;
}

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
      "record "
      "them or not.";
  forward.y_label = "ms, median over training";
  Chart memory =
      bars(results, [](const RuleResult& r) { return r.median_cost().peak_bytes / (1024.0 * 1024.0); });
  memory.title = "Peak memory of a step";
  memory.look_for =
      "Rules that work at the solution need the same memory however many steps led there, and the exact one "
      "that of its "
      "linear solver; unrolling pays for every step.";
  memory.y_label = "MiB of tape and solver history";
  Chart evaluations = bars(results, [](const RuleResult& r) { return r.median_cost().backward_evaluations; });
  evaluations.title = "Vector-Jacobian products of a backward pass";
  evaluations.look_for = "The cost of a rule in the unit that does not depend on the machine.";
  evaluations.y_label = "products with df/dz, median over training";
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
          "Arnoldi's "
          "method, 30 products."};
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
          "has a "
          "solver of its own, span the smallest and the largest. A sample that has stopped keeps its last "
          "residual."};
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
