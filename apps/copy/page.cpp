#include <apps/copy/page.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <apps/copy/drawing.hpp>
#include <apps/copy/task.hpp>
#include <apps/report/format.hpp>

namespace banach::copy_task {
namespace {

using report::Block;
using report::Chart;
using report::Series;

/// A number of every probe, along the steps or the time.
Chart chart_of(const Results& results, double Probe::*value, bool by_time, Chart chart) {
  chart.x_label = by_time ? "seconds of training" : "step";
  for (const ModelResult& model : results.models) {
    Series series{.name = model.name};
    for (const Probe& p : model.probes) {
      series.x.push_back(by_time ? p.seconds : static_cast<double>(p.step));
      series.y.push_back(p.*value);
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

Chart loss_chart(const Results& results, bool by_time) {
  Chart chart =
      chart_of(results, &Probe::loss, by_time,
               {.title = by_time ? "Loss by time" : "Loss by step",
                .look_for = "A model that stays on the upper line says no more than one without memory.",
                .y_label = "nats",
                .log_y = true});
  chart.references = {{results.memoryless, "without memory"}, {goal, "goal"}};
  return chart;
}

/// Evaluations of every step of the equilibria.
Chart evaluations(const ModelResult& model) {
  Chart chart{.title = "Evaluations a step, " + model.name,
              .look_for = "How hard the equilibrium and its adjoint are to find while they are learned.",
              .x_label = "step",
              .y_label = "evaluations"};
  for (const auto& [name, field] : {std::pair{"forward", &Step::forward}, {"backward", &Step::backward}}) {
    Series series{.name = name};
    for (std::size_t i = 0; i < model.steps.size(); ++i) {
      series.x.push_back(static_cast<double>(i + 1));
      series.y.push_back(model.steps[i].*field);
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

std::vector<Block> curves(const Results& results) {
  std::vector<Block> blocks{loss_chart(results, false), loss_chart(results, true),
                            chart_of(results, &Probe::wrong, false,
                                     {.title = "Symbols recalled wrong",
                                      .look_for = "Guessing gets 7 of 8 wrong.",
                                      .y_label = "share",
                                      .y_range = report::Range{0, 1}})};
  for (const ModelResult& model : results.models)
    if (!model.solves.empty()) blocks.push_back(evaluations(model));
  return blocks;
}

report::PictureGrid recalled(const Results& results) {
  report::PictureGrid grid{.title = "The first held-out sequences",
                           .caption =
                               "The ten symbols at the front, and what each model says when it is asked for "
                               "them. The less likely it holds the right symbol, the paler its cell; crossed "
                               "out: another one is likelier. Without memory it is 1 in 8."};
  for (std::size_t i = 0; i < results.asked.size(); ++i) {
    std::vector<NamedRecall> recalls;
    for (const ModelResult& model : results.models)
      if (i < model.recalls.size()) recalls.push_back({model.name, model.recalls[i]});
    grid.pictures.push_back(draw_recalls(fmt::format("sequence {}", i + 1), results.asked[i], recalls));
  }
  return grid;
}

std::vector<report::KeyFigure> key_figures(const Results& results) {
  std::vector<report::KeyFigure> figures;
  for (const ModelResult& model : results.models)
    figures.push_back({"Held-out loss, " + model.name,
                       model.failure.empty() ? report::format_number(model.last().loss) : "diverged",
                       fmt::format("{} parameters, {} of training", report::format_count(model.parameters),
                                   report::format_duration(model.seconds()))});
  figures.push_back({"Without memory", report::format_number(results.memoryless),
                     fmt::format("nats: 10 ln 8 / {}", length(results.delay))});
  return figures;
}

}  // namespace

report::Page make_page(const Results& results) {
  report::Page page{.kicker = "banach copy", .title = "Remembering ten symbols over a long silence"};
  page.subtitle = fmt::format(
      "Ten symbols out of eight, {} blanks, and then ten signals at which they are to be said again: every "
      "answer "
      "lies {} positions after its question.",
      results.delay - 1, results.delay + remembered);
  page.key_figures = key_figures(results);
  for (const ModelResult& model : results.models) page.series_order.push_back(model.name);
  page.sections.push_back(
      {"What was found",
       {},
       {report::Text{findings(results)}, cli::page_table(summary_table(results), "At the end of training")}});
  page.sections.push_back({"While learning",
                           fmt::format("On {} held-out sequences; all training sequences are new.",
                                       report::format_count(results.test)),
                           curves(results)});
  page.sections.push_back({"What is recalled", {}, {recalled(results)}});
  report::Settings models{"Models", {}};
  for (const ModelResult& model : results.models) models.entries.emplace_back(model.name, model.description);
  page.sections.push_back({"Settings",
                           {},
                           {std::move(models), report::Settings{"Settings", results.settings},
                            report::Settings{"Environment", results.environment}}});
  page.footer = "Made by banach copy. The numbers behind the page: metrics.csv and summary.json beside it.";
  return page;
}

}  // namespace banach::copy_task
