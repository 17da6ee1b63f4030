#include <apps/denoise/page.hpp>

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include <apps/denoise/models.hpp>
#include <apps/denoise/signals.hpp>
#include <apps/report/format.hpp>
#include <apps/training/tally.hpp>

namespace banach::denoise {
namespace {

using report::Block;
using report::Chart;
using report::Series;
using report::Table;

constexpr std::array<const char*, 2> drawn_methods{"tv", "tuned"};

std::vector<report::KeyFigure> key_figures(const Results& results) {
  std::vector<report::KeyFigure> figures;
  for (const MethodResult& method : results.methods)
    if (!method.epochs.empty())
      figures.push_back({method.name, fmt::format("{:.2f}", method.error()),
                         std::isnan(error_in_paper(method.name))
                             ? "test error"
                             : fmt::format("test error; {:.1f} in the paper", error_in_paper(method.name))});
  if (const double over = gain(results, "tuned"); std::isfinite(over))
    figures.push_back({"Tuned beside tv", fmt::format("{:+.1f} %", -100.0 * over), "of the test error"});
  return figures;
}

Table overview(const Results& results) {
  Table table = cli::page_table(summary_table(results), "Test errors",
                                "Mean squared error a value. The paper's numbers are of its own signals.");
  std::size_t best = 0;
  for (std::size_t i = 0; i < results.methods.size(); ++i)
    if (results.methods[i].error() < results.methods[best].error()) best = i;
  table.emphasised = {{best, 1}};
  return table;
}

Table methods_table(const Results& results) {
  Table table{.title = "The methods",
              .columns = {{"method"}, {"what it is", "", "", report::Column::Align::left}}};
  for (const MethodResult& method : results.methods)
    table.rows.push_back({method.name, description(method.name)});
  return table;
}

std::vector<report::ReferenceLine> tv_line(const Results& results) {
  const MethodResult* tv = results.find("tv");
  if (!tv) return {};
  return {{tv->error(), "total variation, best lambda"}};
}

/// One curve a trained method: test error, or dashed training error.
Chart error_chart(const Results& results, bool with_training) {
  Chart chart{
      .x_label = "epoch", .y_label = "mean squared error", .log_y = true, .references = tv_line(results)};
  for (const MethodResult& method : results.methods) {
    if (method.epochs.size() < 2) continue;
    Series test{.name = method.name}, train{.name = method.name + ", training"};
    train.dashed = true;
    train.looks_like = method.name;
    for (const Epoch& e : method.epochs) {
      if (e.epoch == 0) continue;
      test.x.push_back(static_cast<double>(e.epoch));
      test.y.push_back(e.test_error);
      train.x.push_back(static_cast<double>(e.epoch) - 0.5);
      train.y.push_back(e.train_error);
    }
    chart.series.push_back(std::move(test));
    if (with_training) chart.series.push_back(std::move(train));
  }
  return chart;
}

Chart tuned_chart(const Results& results, const MethodResult& tuned) {
  Chart chart = error_chart(results, true);
  chart.title = "The tuned program alone";
  chart.look_for =
      "It starts at total variation. Dashed: the error on the signals it is trained on; what lies between "
      "the two curves is learned by heart.";
  chart.log_y = false;
  std::erase_if(chart.series,
                [](const Series& s) { return s.name != "tuned" && s.name != "tuned, training"; });
  Series& test = chart.series.front();
  test.x.insert(test.x.begin(), 0.0);
  test.y.insert(test.y.begin(), tuned.epochs.front().test_error);
  return chart;
}

std::vector<Block> error_charts(const Results& results) {
  std::vector<Block> blocks;
  Chart all = error_chart(results, false);
  if (all.series.empty()) return blocks;
  all.title = "Test error along training";
  all.look_for = "Which of them come below total variation, and when.";
  blocks.push_back(std::move(all));
  if (const MethodResult* tuned = results.find("tuned"); tuned && tuned->epochs.size() > 1)
    blocks.push_back(tuned_chart(results, *tuned));
  return blocks;
}

Chart lambda_chart(const Results& results) {
  Series errors{.name = "tv"};
  errors.mark = Series::Mark::points;
  for (const Candidate& c : results.candidates) {
    errors.x.push_back(c.lambda);
    errors.y.push_back(c.error);
  }
  return {.title = "Total variation's lambda",
          .look_for = "Too small a lambda leaves noise, too large a one flattens the steps.",
          .x_label = "lambda",
          .y_label = "error on signals held out for this",
          .log_x = true,
          .series = {std::move(errors)},
          .references = {{results.lambda, fmt::format("chosen: {:.1f}", results.lambda),
                          report::ReferenceLine::Axis::x}}};
}

std::vector<Block> signal_charts(const Results& results) {
  std::vector<Block> blocks;
  for (std::size_t i = 0; i < results.noisy.size(); ++i) {
    Chart chart{.title = fmt::format("Test signal {}", i + 1), .x_label = "time", .y_label = "level"};
    Series noisy{.name = "noisy", .y = results.noisy[i]};
    noisy.mark = Series::Mark::points;
    noisy.color = "#999999";
    chart.series = {std::move(noisy), {.name = "clean", .y = results.clean[i], .dashed = true}};
    std::string errors;
    for (const char* name : drawn_methods) {
      const MethodResult* method = results.find(name);
      if (!method || i >= method->shown.size()) continue;
      chart.series.push_back({.name = name, .y = method->shown[i]});
      errors += fmt::format("{}{} {:.1f}", errors.empty() ? "" : ", ", name,
                            squared_error(method->shown[i].data(), results.clean[i].data()));
    }
    if (!errors.empty()) chart.look_for = "Errors on this signal: " + errors + ".";
    blocks.push_back(std::move(chart));
  }
  return blocks;
}

/// Values from -limit (blue) over 0 (white) to limit (red).
std::vector<std::uint8_t> heat_map(const std::vector<double>& values, std::int64_t rows, double limit) {
  std::vector<std::uint8_t> pixels;
  for (const double value : values) {
    const double strength = std::min(1.0, std::abs(value) / limit);
    const auto faded = static_cast<std::uint8_t>(std::lround(255.0 * (1.0 - strength)));
    const std::uint8_t full = 255;
    if (value > 0)
      pixels.insert(pixels.end(), {full, faded, faded});
    else
      pixels.insert(pixels.end(), {faded, faded, full});
  }
  return report::encode_png(pixels, static_cast<int>(length), static_cast<int>(rows), 3);
}

std::vector<double> first_differences() {
  std::vector<double> values(static_cast<std::size_t>((length - 1) * length));
  for (std::int64_t i = 0; i < length - 1; ++i) {
    values[static_cast<std::size_t>(i * length + i)] = -1.0;
    values[static_cast<std::size_t>(i * length + i + 1)] = 1.0;
  }
  return values;
}

/// What was added to a matrix that began with `at` on its diagonal and `after` beside it: means along the
/// diagonals, so that the noise of single rows is out.
Chart stencil_chart(const Tensor& matrix, double at, double after, const std::string& name,
                    const std::string& look_for) {
  constexpr std::int64_t around = 15;
  const std::int64_t rows = matrix.size(0);
  Series added{.name = "tuned"};
  for (std::int64_t offset = -around; offset <= around; ++offset) {
    const std::int64_t begin = std::max<std::int64_t>(0, -offset), end = std::min(rows, length - offset);
    double sum = 0.0;
    for (std::int64_t i = begin; i < end; ++i) sum += matrix.at(i * length + i + offset);
    added.x.push_back(static_cast<double>(offset));
    added.y.push_back(sum / static_cast<double>(end - begin) - (offset == 0   ? at
                                                                : offset == 1 ? after
                                                                              : 0.0));
  }
  return {.title = fmt::format("What was added to a row of {}, in the mean", name),
          .look_for = look_for,
          .x_label = "time, from the row's own",
          .y_label = "learned - start",
          .series = {std::move(added)},
          .references = {{0.0, "total variation"}}};
}

Chart lambdas_chart(const Results& results, const Tensor& lambda) {
  const std::int64_t rows = lambda.size() / 2;
  Chart chart{.title = "The learned lambdas",
              .look_for = "One for each row of D and sign of Dz; total variation has one for all.",
              .x_label = "row of D",
              .y_label = "lambda",
              .references = {{results.lambda, "total variation's"}}};
  for (const std::int64_t side : {0, 1}) {
    Series series{.name = side == 0 ? "upward steps" : "downward steps"};
    for (std::int64_t i = 0; i < rows; ++i) series.y.push_back(lambda.at(side * rows + i));
    chart.series.push_back(std::move(series));
  }
  return chart;
}

std::vector<Block> learned_blocks(const Results& results) {
  const MethodResult* tuned = results.find("tuned");
  if (!tuned || !tuned->learned.contains("D")) return {};
  const Tensor &D = tuned->learned.at("D"), &W = tuned->learned.at("W"),
               &lambda = tuned->learned.at("lambda");
  const std::vector<double> start = first_differences();
  std::vector<double> learned(D.values<double>().begin(), D.values<double>().end()), change = learned;
  double largest = 0.0;
  for (std::size_t i = 0; i < change.size(); ++i)
    largest = std::max(largest, std::abs(change[i] -= start[i]));
  const double limit = std::max(largest, 1e-12);
  const auto picture = [](std::string title, const std::vector<double>& values, double most) {
    report::Picture p{.title = std::move(title), .caption = fmt::format("color full at {:.2g}", most)};
    p.png = heat_map(values, length - 1, most);
    p.width = 300;
    return p;
  };
  report::PictureGrid grid{
      .title = "D: one row a difference, one column a time",
      .caption = "Red above zero, blue below; full color from the number given on.",
      .pictures = {picture("first differences", start, 1.0), picture("learned", learned, 1.0),
                   picture("what was learned: their difference", change, limit)}};
  return {
      std::move(grid),
      stencil_chart(D, -1.0, 1.0, "D", "Whether a difference comes to look at more than two values."),
      stencil_chart(
          W, 1.0, 0.0, "W, the map of the signal into the program",
          "Whether steps are sharpened: more of the value itself, less of those around it. That makes up for "
          "what lambda takes from them."),
      lambdas_chart(results, lambda)};
}

Table status_table(const Results& results) {
  using Align = report::Column::Align;
  Table table{.title = "How the quadratic programs ended",
              .caption =
                  "A gradient is exact where no constraint has neither multiplier nor slack; where one "
                  "has, it is taken for inactive (non_differentiable).",
              .columns = {{"method"},
                          {"in training", "", "", Align::left},
                          {"gradients", "", "", Align::left},
                          {"in the last test", "", "", Align::left}}};
  const auto in_words = [](const Tally& tally) { return training::in_words(tally, "none"); };
  for (const MethodResult& method : results.methods)
    if (!method.test_statuses.empty())
      table.rows.push_back({method.name, in_words(method.solve_statuses), in_words(method.gradient_kinds),
                            in_words(method.test_statuses)});
  return table;
}

}  // namespace

report::Page make_page(const Results& results) {
  report::Page page{.kicker = "banach denoise", .title = "Signals denoised by quadratic programs"};
  page.subtitle = fmt::format(
      "Piecewise constant signals of {} values in {} to {} constant pieces, levels between 0 and {:.0f}, "
      "normal "
      "noise of deviation {:.0f}: the table of OptNet (Amos and Kolter 2017, section 4.3).",
      length, fewest_pieces, most_pieces, highest_level, noise);
  page.key_figures = key_figures(results);
  for (const MethodResult& method : results.methods) page.series_order.push_back(method.name);

  std::vector<Block> found;
  for (const std::string& text : warnings(results))
    found.push_back(report::Callout{.title = "Note.", .text = text, .tone = report::Callout::Tone::warning});
  found.push_back(report::Text{findings(results)});
  found.push_back(overview(results));
  const auto add = [&](std::string title, std::string intro, std::vector<Block> blocks) {
    if (!blocks.empty()) page.sections.push_back({std::move(title), std::move(intro), std::move(blocks)});
  };
  add("What was found", {}, std::move(found));
  std::vector<Block> errors = error_charts(results);
  if (!results.candidates.empty()) errors.push_back(lambda_chart(results));
  add("Errors", {}, std::move(errors));
  add("Signals", {}, signal_charts(results));
  add("What the tuned program has learned",
      "argmin over z of 1/2 |z - (W y + c)|² + Σ λᵢ |(D z)ᵢ|: with W = I, c = 0, one λ and first differences "
      "D "
      "that is total variation, and there training starts.",
      learned_blocks(results));
  add("Methods and settings", {},
      {methods_table(results), status_table(results), report::Settings{"Settings", results.settings},
       report::Settings{"Environment", results.environment}});
  page.footer =
      "Made by banach denoise. The numbers behind the page: metrics.csv and summary.json beside it.";
  return page;
}

}  // namespace banach::denoise
