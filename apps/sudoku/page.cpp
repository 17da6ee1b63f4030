#include <apps/sudoku/page.hpp>

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include <apps/report/format.hpp>
#include <apps/sudoku/constraints.hpp>
#include <apps/sudoku/drawing.hpp>
#include <apps/training/tally.hpp>

namespace banach::sudoku {
namespace {

using report::Block;
using report::Chart;
using report::Series;

struct Axis {
  std::string title, label;
  double (*of)(const Results&, const Probe&);
};
const Axis by_epoch{"by epoch", "epoch", [](const Results& r, const Probe& p) { return r.epoch_of(p); }};
const Axis by_time{"by time", "seconds of training",
                   [](const Results&, const Probe& p) { return p.seconds; }};

/// One error of all models, on held-out boards as a line, on boards trained on dashed.
Chart error_chart(const Results& results, const Axis& axis, const std::string& title,
                  const std::string& label, double Errors::*error, double scale, bool log_y) {
  Chart chart{.title = title + ", " + axis.title, .x_label = axis.label, .y_label = label, .log_y = log_y};
  for (const ModelResult& model : results.models) {
    Series test{.name = model.name},
        train{.name = model.name + ", trained on", .dashed = true, .looks_like = model.name};
    for (const Probe& p : model.probes) {
      for (Series* series : {&test, &train}) series->x.push_back(axis.of(results, p));
      test.y.push_back(scale * p.test.*error);
      train.y.push_back(scale * p.train.*error);
    }
    chart.series.push_back(std::move(test));
    chart.series.push_back(std::move(train));
  }
  return chart;
}

std::vector<Block> error_charts(const Results& results) {
  const std::string boards = "Boards with a wrong row, column or block", percent = "% of boards";
  std::vector<Block> blocks;
  for (const Axis* axis : {&by_epoch, &by_time}) {
    Chart chart = error_chart(results, *axis, boards, percent, &Errors::boards, 100.0, false);
    chart.look_for = axis == &by_epoch
                         ? "How far a model's line, of held-out boards, stays above its dashed one."
                         : "Which model is good first.";
    chart.y_range = report::Range{0, 100};
    blocks.push_back(std::move(chart));
  }
  blocks.push_back(error_chart(results, by_epoch, "Cells that differ from the solution", "% of cells",
                               &Errors::cells, 100.0, false));
  Chart mse = error_chart(results, by_epoch, "Mean squared error", "MSE", &Errors::mse, 1.0, true);
  mse.references = {{results.by_rules.mse, "with the rules themselves"}};
  mse.look_for = "The loss itself: boards can be right long before it is zero.";
  blocks.push_back(std::move(mse));
  return blocks;
}

report::Table statuses(const Results& results) {
  const auto in_words = [](const Tally& tally) {
    return training::in_words(tally, "none: no program to solve");
  };
  report::Table table{.title = "How the solves ended",
                      .caption = "Quadratic programs of all training steps, and the gradients through them.",
                      .columns = {{"model"},
                                  {"programs", "", "", report::Column::Align::left},
                                  {"gradients", "", "", report::Column::Align::left}}};
  for (const ModelResult& model : results.models)
    table.rows.push_back({model.name, in_words(model.solves), in_words(model.gradients)});
  return table;
}

int wrong_cells(const Results& results, std::size_t board) {
  int wrong = 0;
  for (const ModelResult& model : results.models)
    for (std::size_t i = 0; i < static_cast<std::size_t>(cells); ++i)
      wrong += model.predictions[board][i] == results.data.test[board].solution[i] ? 0 : 1;
  return wrong;
}

report::PictureGrid boards(const Results& results, const std::string& title, const std::string& caption,
                           const std::vector<std::size_t>& chosen) {
  report::PictureGrid grid{.title = title, .caption = caption};
  for (const std::size_t board : chosen) {
    std::vector<NamedBoard> predictions;
    for (const ModelResult& model : results.models)
      predictions.push_back({model.name, model.predictions[board]});
    grid.pictures.push_back(
        draw_boards(fmt::format("board {}", board + 1), results.data.test[board], predictions));
  }
  return grid;
}

std::vector<Block> board_pictures(const Results& results) {
  constexpr std::size_t most = 6;
  std::vector<std::size_t> order(results.data.test.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  const std::vector<std::size_t> first(
      order.begin(), order.begin() + static_cast<std::ptrdiff_t>(std::min(most, order.size())));
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return wrong_cells(results, a) > wrong_cells(results, b);
  });
  order.resize(std::min(most, order.size()));
  std::vector<Block> blocks{boards(results, "The first held-out boards",
                                   "Bold: a given digit. Crossed out: not the digit of the solution.",
                                   first)};
  if (!order.empty() && wrong_cells(results, order.front()) > 0)
    blocks.push_back(boards(results, "The held-out boards that were hardest",
                            "Those with the most wrong cells, over all models.", order));
  return blocks;
}

std::vector<Block> learned_rules(const Results& results) {
  const Comparison before = compare(*results.initial), after = compare(*results.learned);
  Chart angles{.title = "Principal angles to the rules of the game",
               .look_for =
                   "Zero degrees: a direction that the learned equalities and the rules share. Two "
                   "spaces of 40 dimensions out of 64 always share 16.",
               .x_label = "number, ascending",
               .y_label = "degrees",
               .wide = true};
  for (const auto& [name, comparison] : {std::pair{"after training", &after}, {"before training", &before}}) {
    Series series{.name = name, .dashed = comparison == &before};
    for (std::size_t i = 0; i < comparison->angles.size(); ++i) {
      series.x.push_back(static_cast<double>(i + 1));
      series.y.push_back(comparison->angles[i]);
    }
    angles.series.push_back(std::move(series));
  }
  double reach = 0.0;
  const Tensor& A = results.learned->A;
  for (std::int64_t i = 0; i < A.size(); ++i) reach = std::max(reach, std::abs(A.at(i)));
  report::PictureGrid projections{
      .title = "What the equalities fix",
      .caption = fmt::format("The orthogonal projection onto the row space, 64 x 64: entry (i, j) tells how "
                             "much the equalities tie "
                             "digit i of a board to digit j, whatever rows A is written with. Blue: below "
                             "zero; red: above; full "
                             "at {:g}. Four rows a cell, cells by rows of the board.",
                             0.25),
      .pictures = {draw_matrix("before training", before.projection, 0.25),
                   draw_matrix("after training", after.projection, 0.25),
                   draw_matrix("the rules", compare(rule_equalities()).projection, 0.25)}};
  report::Picture raw = draw_matrix("The learned A, 40 x 64", A, reach);
  raw.caption = fmt::format(
      "Full colour at {:.2f}. Its rows are any basis of what the projection above shows, so no single rule "
      "is "
      "seen in them.",
      reach);
  report::Table table{.title = "The learned equalities in numbers",
                      .caption =
                          "Distance: of the 288 solutions, whose length is 4, from the plane Az = b; root of "
                          "the mean square.",
                      .columns = {{""}, {"before"}, {"after"}, {"the rules"}}};
  const auto row = [&](const std::string& name, auto value, const std::string& rules) {
    table.rows.push_back({name, value(before), value(after), rules});
  };
  row(
      "rank of A", [](const Comparison& c) { return std::to_string(c.rank); }, "40");
  row(
      "condition number of A", [](const Comparison& c) { return report::format_number(c.condition); }, "-");
  row(
      "mean principal angle", [](const Comparison& c) { return fmt::format("{:.2f}°", c.mean_angle()); },
      "0°");
  row(
      "largest principal angle", [](const Comparison& c) { return fmt::format("{:.2f}°", c.angles.back()); },
      "0°");
  row(
      "distance of solutions", [](const Comparison& c) { return report::format_number(c.distance); }, "0");
  return {std::move(table), std::move(angles), std::move(projections), std::move(raw)};
}

std::vector<report::KeyFigure> key_figures(const Results& results) {
  std::vector<report::KeyFigure> figures;
  for (const ModelResult& model : results.models)
    figures.push_back({fmt::format("Held-out boards wrong, {}", model.name),
                       report::format_percent(model.test().boards, 2),
                       fmt::format("{} parameters, {} of training", report::format_count(model.parameters),
                                   report::format_duration(model.seconds()))});
  if (results.initial && results.learned)
    figures.push_back({"Mean angle between learned equalities and rules",
                       fmt::format("{:.1f}°", compare(*results.learned).mean_angle()),
                       fmt::format("{:.1f}° before training", compare(*results.initial).mean_angle())});
  return figures;
}

}  // namespace

report::Page make_page(const Results& results) {
  report::Page page{.kicker = "banach sudoku", .title = "Learning the rules of Sudoku from solved boards"};
  page.subtitle = fmt::format(
      "Models that are told nothing of rows, columns and blocks see {} puzzles of 4x4 cells with their "
      "solutions, "
      "and are asked for {} others.",
      report::format_count(static_cast<std::int64_t>(results.data.train.size())),
      report::format_count(static_cast<std::int64_t>(results.data.test.size())));
  page.key_figures = key_figures(results);
  for (const ModelResult& model : results.models) page.series_order.push_back(model.name);

  std::vector<Block> found{report::Text{findings(results)},
                           cli::page_table(summary_table(results), "At the end of training")};
  page.sections.push_back({"What was found", {}, std::move(found)});
  page.sections.push_back({"Errors while learning",
                           fmt::format("Lines: the held-out boards. Dashed: {} of the boards trained on.",
                                       report::format_count(results.train_probed)),
                           error_charts(results)});
  page.sections.push_back({"Boards", {}, board_pictures(results)});
  if (results.initial && results.learned)
    page.sections.push_back({"What the equalities learned",
                             "The rules of the game are linear: the four entries of a cell sum to one, and "
                             "so do the four entries of "
                             "a digit in each row, column and block. These 64 equations have rank 40, as "
                             "many as optnet has rows.",
                             learned_rules(results)});
  report::Settings models{"Models", {}};
  for (const ModelResult& model : results.models) models.entries.emplace_back(model.name, model.description);
  page.sections.push_back(
      {"Solves and settings",
       {},
       {statuses(results), std::move(models), report::Settings{"Settings", results.settings},
        report::Settings{"Environment", results.environment}}});
  page.footer = "Made by banach sudoku. The numbers behind the page: metrics.csv and summary.json beside it.";
  return page;
}

}  // namespace banach::sudoku
