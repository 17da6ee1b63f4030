#include <apps/lab/charts.hpp>

#include <algorithm>
#include <cmath>

#include <apps/lab/curves.hpp>
#include <apps/lab/frontier.hpp>
#include <apps/report/format.hpp>

namespace banach::lab {
namespace {

using report::Chart;
using report::Series;

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
      "rule above it pays more, for a gradient that is no closer, than one on it.";
  gradient.x_label = "ms of a backward pass, median";
  gradient.y_label = "||estimate - exact|| / ||exact||, median";
  gradient.log_x = gradient.log_y = true;
  gradient.note =
      "Errors: all rules at the same points, on the same batch; times: along each rule's own training. A "
      "rule that differentiates its own iteration pays in its forward pass too, for the recording; all of "
      "its time is in the next chart.";
  for (Series& series : gradient.series)
    for (double& seconds : series.x) seconds *= 1e3;

  Chart accuracy = offers_chart(accuracies, pareto_front(accuracies));
  accuracy.title = "What a training buys: test error against its time";
  accuracy.look_for =
      "Down and to the left is better. Rules at the same height bought the same accuracy, whatever their "
      "gradients are worth: then the cheapest is the one to take.";
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
  Chart bias{.title = "Bias, at the same points",
             .look_for =
                 "What no averaging removes. An unbiased rule lies at the height that chance alone gives it, "
                 "and sinks as more minibatches and draws are taken.",
             .x_label = "training step",
             .y_label = "||E g - exact|| / ||exact||",
             .log_y = true,
             .series = of(&Noise::bias)};

  Chart spread{.title = "Variance over minibatches, at the same points",
               .look_for =
                   "The noise that training on minibatches brings, whatever the rule; a rule below the "
                   "others gives shorter gradients, not better ones.",
               .x_label = "training step",
               .y_label = "E||g - E g||² / ||exact||²",
               .log_y = true,
               .series = of(&Noise::batch_variance)};
  const auto known = [](const Series& s) {
    return std::any_of(s.y.begin(), s.y.end(), [](double v) { return std::isfinite(v); });
  };
  if (std::none_of(spread.series.begin(), spread.series.end(), known))
    return {std::move(bias)};  // one minibatch has no variance

  Chart parts{.title = "The squared error of one gradient, in its parts",
              .look_for =
                  "Where the minibatch bar is the longest by far, a better estimate of the gradient is lost "
                  "in the noise of the data.",
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
       "the iteration any more, and the rule says so.",
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

}  // namespace banach::lab
