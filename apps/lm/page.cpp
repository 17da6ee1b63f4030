#include <apps/lm/page.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include <fmt/format.h>

#include <apps/lm/depth.hpp>
#include <apps/report/format.hpp>

namespace banach::lm {
namespace {

using report::Block;
using report::Chart;
using report::Series;

constexpr double mib = 1024.0 * 1024.0;

using Points = std::vector<std::pair<double, double>>;

/// A curve for each depth: the mean over its seeds that did not diverge, in a band from the lowest to the
/// highest; of those that did if all did, as far as they all came.
void add_means(Chart& chart, const Results& results,
               const std::function<Points(const ModelResult&)>& points_of) {
  for (const DepthMean& d : by_depth(results)) {
    Series series{.name = d.depth};
    std::vector<Points> seeds;
    for (const ModelResult* m : d.finished().empty() ? d.models : d.finished())
      seeds.push_back(points_of(*m));
    std::size_t length = seeds.front().size();
    for (const Points& points : seeds) length = std::min(length, points.size());
    for (std::size_t i = 0; i < length; ++i) {
      double x = 0, y = 0, low = seeds.front()[i].second, high = low;
      for (const Points& points : seeds) {
        x += points[i].first / static_cast<double>(seeds.size());
        y += points[i].second / static_cast<double>(seeds.size());
        low = std::min(low, points[i].second);
        high = std::max(high, points[i].second);
      }
      series.x.push_back(x);
      series.y.push_back(y);
      if (seeds.size() == 1) continue;
      series.lo.push_back(low);
      series.hi.push_back(high);
    }
    chart.series.push_back(std::move(series));
    if (seeds.size() > 1) chart.note = "Means over the seeds, in bands from the lowest to the highest.";
  }
}

Chart learning(const Results& results, bool by_time) {
  const bool alone = results.models.size() == 1;
  Chart chart{.title = by_time ? "Validation, by time of training" : "Validation, by data",
              .look_for = alone     ? "Whether it still falls at the end."
                          : by_time ? "Which comes lowest for the same time."
                                    : "Which comes lowest for the same text.",
              .x_label = by_time ? "seconds" : "step",
              .y_label = "bits a character, first windows",
              .wide = alone};
  add_means(chart, results, [&](const ModelResult& m) {
    Points points;
    for (const Probe& p : m.probes)
      if (p.step > 0)
        points.emplace_back(by_time ? p.seconds : static_cast<double>(p.step), results.valid_bits(p.valid));
    return points;
  });
  return chart;
}

/// How many steps make a point of a curve.
std::size_t mean_of(const ModelResult& m) { return std::max<std::size_t>(1, m.steps.size() / 100); }

Chart of_steps(const Results& results, const std::string& title, const std::string& look_for,
               const std::string& label, double Step::*figure) {
  Chart chart{.title = title, .look_for = look_for, .x_label = "step", .y_label = label};
  add_means(chart, results, [&](const ModelResult& m) {
    Points points;
    const std::size_t together = mean_of(m);
    for (std::size_t i = 0; i + together <= m.steps.size(); i += together) {
      double sum = 0;
      for (std::size_t k = i; k < i + together; ++k) sum += m.steps[k].*figure;
      points.emplace_back(static_cast<double>(i + together), sum / static_cast<double>(together));
    }
    return points;
  });
  if (const std::size_t together = mean_of(results.models.front()); together > 1)
    chart.note = fmt::format("A point is the mean of {} steps. {}", together, chart.note);
  return chart;
}

Chart bars(const Results& results, const std::string& title, const std::string& look_for,
           const std::string& label, double (*figure)(const ModelResult&)) {
  Chart chart{.title = title,
              .look_for = look_for,
              .y_label = label,
              .kind = Chart::Kind::bar,
              .horizontal = true,
              .color_by_category = true};
  Series series{.name = label};
  for (const DepthMean& d : by_depth(results)) {
    chart.categories.push_back(d.depth);
    series.y.push_back(d.mean(figure));
  }
  chart.series.push_back(std::move(series));
  return chart;
}

Chart quality(const Results& results) {
  Chart chart{.title = "Quality and memory",
              .look_for = "Down: better. Left: less memory for one step of the cell.",
              .x_label = "MiB",
              .y_label = "perplexity a token, test",
              .log_x = true,
              .kind = Chart::Kind::scatter,
              .label_points = true,
              .note = "One point a seed."};
  for (const DepthMean& d : by_depth(results)) {
    Series series{.name = d.depth};
    for (const ModelResult* m : d.models) {
      series.x.push_back(m->cost.peak_bytes / mib);
      series.y.push_back(m->test.perplexity());
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

Chart curves(const Results& results, const std::string& title, const std::string& look_for,
             const std::string& label, double (*figure)(const Cost&)) {
  Chart chart{.title = title,
              .look_for = look_for,
              .x_label = "forward steps, or layers",
              .y_label = label,
              .log_x = true,
              .log_y = true};
  for (const CostCurve& curve : results.curves) {
    Series series{.name = curve.name, .x = curve.steps};
    for (const Cost& cost : curve.costs) series.y.push_back(figure(cost));
    chart.series.push_back(std::move(series));
  }
  return chart;
}

report::KeyFigure quality_of(const std::string& label, const DepthMean& depth) {
  return {label,
          report::format_fixed(depth.mean([](const ModelResult& m) { return m.test.perplexity(); }), 3),
          fmt::format("perplexity a token on the test text: {}", depth.depth)};
}

std::vector<report::KeyFigure> key_figures(const Results& results) {
  const Standing s = standing(results);
  std::vector<report::KeyFigure> figures;
  if (s.equilibrium && s.layers) {
    const auto peak = [](const ModelResult& m) { return m.cost.peak_bytes; };
    const DepthMean* largest = s.layers;
    for (const DepthMean& d : s.depths)
      if (d.mean(peak) > largest->mean(peak)) largest = &d;
    return {
        quality_of("Best equilibrium", *s.equilibrium),
        quality_of("Best explicit network", *s.layers),
        {"Memory of the equilibrium", report::format_percent(s.equilibrium->mean(peak) / largest->mean(peak)),
         "of what one step of " + largest->depth + " needs"}};
  }
  for (const ModelResult& m : results.models) {
    if (figures.size() == 3) break;
    if (!m.failure.empty()) {
      figures.push_back({m.name, "diverged", m.failure});
      continue;
    }
    const std::string unknown_ones = unknown_in_words(results.test);
    figures.push_back({m.name, report::format_fixed(results.test_bits(m.test), 3),
                       fmt::format("bits a character on the test text; perplexity {} a token{}{}",
                                   report::format_fixed(m.test.perplexity(), 2),
                                   unknown_ones.empty() ? "" : "; ", unknown_ones)});
  }
  if (results.models.size() != 1) return figures;
  const ModelResult& m = results.models.front();
  if (std::isfinite(m.cost.peak_bytes))
    figures.push_back({"Memory of one step", report::format_bytes(m.cost.peak_bytes),
                       "of the cell, without embedding, output layer and optimiser"});
  figures.push_back({"Training", report::format_duration(m.seconds()),
                     fmt::format("{} steps, {} parameters", report::format_count(std::ssize(m.steps)),
                                 report::format_count(m.parameters))});
  return figures;
}

}  // namespace

report::Page make_page(const Results& results) {
  const bool several = results.models.size() > 1;
  report::Page page{.kicker = "banach " + results.command,
                    .title = several ? "Equilibrium and explicit language models" : "A language model"};
  page.subtitle =
      several
          ? "One cell, run to its equilibrium or layer by layer, trained on the same text in the same order."
          : "A cell with shared weights that reads text.";
  page.key_figures = key_figures(results);
  for (const DepthMean& d : by_depth(results)) page.series_order.push_back(d.depth);
  page.sections.push_back(
      {"What was found",
       {},
       {report::Text{findings(results)},
        cli::page_table(summary_table(results), "All of it in numbers",
                        "Time (wall clock) and memory: one step of the cell alone, on one window.")}});
  if (!results.sample.empty())
    page.sections.push_back(
        {"What it writes",
         {},
         {report::Code{.title = "Given: the beginning of the test text", .text = results.prompt},
          report::Code{.title = "Added by the model, each next one drawn at temperature 0.8",
                       .text = results.sample}}});
  std::vector<Block> learned{learning(results, false)};
  if (several) learned.push_back(learning(results, true));
  learned.push_back(of_steps(results, "Training loss",
                             several ? "All of them see the same windows."
                                     : "How it falls on text seen for the first time, and again.",
                             "nats a token", &Step::loss));
  learned.push_back(of_steps(results, "Evaluations of the cell", "How hard the equilibrium is to find.",
                             "evaluations", &Step::forward));
  page.sections.push_back({"Learning", {}, std::move(learned)});
  if (several)
    page.sections.push_back(
        {"Memory and time",
         "One step of the cell on one window, with trained weights, without embedding, output layer and "
         "optimiser.",
         {quality(results),
          bars(results, "Memory", "An equilibrium keeps one layer, whatever its steps.", "MiB",
               [](const ModelResult& m) { return m.cost.peak_bytes / mib; }),
          bars(results, "Time of the backward pass", "Approximate rules spare products.", "ms",
               [](const ModelResult& m) { return 1e3 * m.cost.backward_seconds; }),
          bars(results, "Time of the forward pass", "The steps that the tolerance asks for.", "ms",
               [](const ModelResult& m) { return 1e3 * m.cost.forward_seconds; })}});
  if (!results.curves.empty())
    page.sections.push_back(
        {"As depth grows",
         "The same cell made to take so many steps, or run as so many layers.",
         {curves(results, "Memory by depth", "Flat: equilibria. Rising: layers that are kept.", "MiB",
                 [](const Cost& c) { return c.peak_bytes / mib; }),
          curves(results, "Time by depth", "Forward and backward together.", "ms",
                 [](const Cost& c) { return 1e3 * (c.forward_seconds + c.backward_seconds); })}});
  page.sections.push_back(
      {"Settings",
       {},
       {report::Settings{"Text", results.text}, report::Settings{"Settings", results.settings},
        report::Settings{"Environment", results.environment}}});
  page.footer =
      fmt::format("Made by banach {}. The numbers behind the page: metrics.csv and summary.json beside it.",
                  results.command);
  return page;
}

}  // namespace banach::lm
