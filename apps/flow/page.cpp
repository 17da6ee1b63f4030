#include <apps/flow/page.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <apps/flow/drawing.hpp>
#include <apps/flow/sets.hpp>
#include <apps/report/format.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::flow {
namespace {

using report::Block;
using report::Chart;
using report::Series;

std::vector<std::string> sets_of(const Results& results) {
  std::vector<std::string> sets;
  for (const ModelResult& model : results.models)
    if (std::find(sets.begin(), sets.end(), model.data) == sets.end()) sets.push_back(model.data);
  return sets;
}

report::PictureGrid densities(const Results& results, const std::string& data) {
  constexpr std::int64_t many = 400'000, coarse = density_side / 2;
  report::PictureGrid grid{
      .title = data,
      .caption = fmt::format("Over [-{0}, {0}]^2, all in one scale: the brightest colour is a density of ",
                             density_reach)};
  const Tensor data_density = histogram(draw_points(data, many, 0, 0).x, coarse, density_reach);
  const double most = bright(data_density);
  grid.caption += report::format_number(most) + " or more.";
  grid.pictures.push_back(draw_heat_map("data", fmt::format("{} points, counted", report::format_count(many)),
                                        data_density, coarse, most));
  grid.pictures.back().width = 2 * static_cast<int>(density_side);
  for (std::size_t i = 0; i < results.models.size(); ++i)
    if (results.models[i].data == data)
      grid.pictures.push_back(
          draw_heat_map(results.models[i].estimator,
                        fmt::format("{} nats", report::format_fixed(results.examined[i].nats.value, 3)),
                        results.examined[i].density, density_side, most));
  return grid;
}

void add_points(const ModelResult& model, const Examined& found, std::vector<Block>& blocks) {
  Chart chart =
      plane("Samples, " + model.name, "They lie where the density is high; gaps show what it leaves out.");
  chart.series.push_back(series_of("samples", found.samples, Series::Mark::points));
  chart.note = found.sampled ? "Each found by inverting every block to rounding."
                             : "Some inversions did not converge.";
  blocks.push_back(std::move(chart));
  Chart lines =
      plane("Interpolations, " + model.name,
            "Straight lines between pairs of held-out points in z, seen in x: they keep to where data "
            "lie, and cross gaps fast.");
  for (std::size_t k = 0; k < found.paths.size(); ++k)
    lines.series.push_back(series_of(fmt::format("pair {}", k + 1), found.paths[k], Series::Mark::points));
  blocks.push_back(std::move(lines));
}

void add_pictures(const ModelResult& model, const Examined& found, std::vector<Block>& blocks) {
  const auto white = static_cast<double>(model.architecture.levels - 1);
  if (found.samples.defined())
    blocks.push_back(draw_images("Samples, " + model.name, "Draws from the normal distribution, inverted.",
                                 found.samples, 20, white));
  Vars paths;
  for (const Tensor& path : found.paths) paths.emplace_back(path);
  blocks.push_back(draw_images("Interpolations, " + model.name,
                               "Straight lines between pairs of held-out images in z, seen in x.",
                               concat(paths, 0).value(), 10, white));
  blocks.push_back(draw_images("Held-out images, and under them inverse(forward(x)), " + model.name,
                               "Rounded down to whole grey levels where they were dequantised.",
                               concat({Var(found.originals), Var(found.restored)}, 0).value(), 20, white));
}

std::vector<Block> drawn(const Results& results) {
  std::vector<Block> blocks;
  for (std::size_t i = 0; i < results.models.size(); ++i) {
    if (!results.models[i].points())
      add_pictures(results.models[i], results.examined[i], blocks);
    else if (results.models[i].architecture.weigh)
      add_points(results.models[i], results.examined[i], blocks);
  }
  return blocks;
}

Chart curve(const Results& results, const std::string& data, double Look::*value, Chart chart) {
  chart.x_label = "step";
  for (std::size_t i = 0; i < results.models.size(); ++i) {
    const ModelResult& model = results.models[i];
    if (model.data != data) continue;
    Series series{.name = model.estimator};
    for (const Look& p : model.probes)
      if (p.step > 0) {
        series.x.push_back(static_cast<double>(p.step));
        series.y.push_back(p.*value);
      }
    chart.series.push_back(std::move(series));
    if (value == &Look::nats && std::isfinite(results.examined[i].truth) && chart.references.empty())
      chart.references = {{results.examined[i].truth, "true density"}};
  }
  return chart;
}

/// What the points of a curve before its last are a mean over.
std::string note_of(std::int64_t few, const ModelResult& model) {
  if (few >= model.test) return {};
  return fmt::format("On the way the first {} of the {} held-out {}; the last point is of them all.",
                     report::format_count(few), report::format_count(model.test),
                     model.points() ? "points" : "images");
}

std::vector<Block> curves(const Results& results) {
  std::vector<Block> blocks;
  const ModelResult& any = results.models.front();
  const Architecture& first = any.architecture;
  const bool exact = std::any_of(results.models.begin(), results.models.end(),
                                 [](const ModelResult& model) { return model.estimator == "exact"; });
  for (const std::string& data : sets_of(results)) {
    if (first.weigh)
      blocks.push_back(
          curve(results, data, &Look::nats,
                {.title = "log p while learning, " + data,
                 .look_for = exact ? "How far a model trained by estimates falls behind one trained exactly."
                                   : "How the density at held-out samples rises.",
                 .y_label = "nats",
                 .note = note_of(any.weighed_on_the_way(), any)}));
    if (first.classes > 0)
      blocks.push_back(curve(results, data, &Look::correct,
                             {.title = "Labels right while learning, " + data,
                              .look_for = "What the classifier of z makes of held-out samples.",
                              .y_label = "share",
                              .note = note_of(any.labelled_on_the_way(), any)}));
  }
  return blocks;
}

report::Table checks(const Results& results) {
  report::Table table{
      .title = "There and back",
      .columns = {
          {"model"},
          {"worst block", "", "max |x - inverse(forward(x))| of one block, over held-out samples"},
          {"network"},
          {"allowed", "", "10 rounding scale product, the product being that of the next column"},
          {"inverse Lipschitz", "",
           "Product over the parts of the largest ||(I + J)^-1|| at these samples, of images 1 / (1 - "
           "||J||)"},
          {"evaluations", "", "Of g, a block and sample"},
          {"layers", "of bound", "Largest norm of a layer over its bound, by 1,000 steps of power iteration"},
          {"certified", "", "Largest product of certain upper bounds over the layers of a block"}}};
  for (std::size_t i = 0; i < results.models.size(); ++i) {
    const Reconstruction& r = results.examined[i].reconstruction;
    const Constants& c = results.examined[i].constants;
    const auto number = [](double x) { return report::format_number(x); };
    table.rows.push_back({results.models[i].name, number(r.worst_block()), number(r.network), number(r.bound),
                          number(r.inverse_lipschitz), report::format_fixed(r.evaluations, 1),
                          report::format_fixed(c.layers, 6), report::format_fixed(c.certified, 6)});
  }
  return table;
}

report::Table estimates(const Results& results) {
  report::Table table{
      .title = "Estimators on the trained models",
      .caption =
          "Of log p at held-out samples, 20 draws each, beside the exact determinant; nan: too large "
          "for it.",
      .columns = {{"model"},
                  {"bias", "nats"},
                  {"standard error", "nats"},
                  {"bound of the bias", "nats", "Sum over the blocks; nan: there is none"},
                  {"deviation of a draw", "nats"},
                  {"infinite variance", "", "Share of samples and blocks where it is, or may be"}}};
  for (std::size_t i = 0; i < results.models.size(); ++i) {
    if (results.models[i].estimator == "exact" || !results.examined[i].estimator) continue;
    const EstimatorCheck& e = *results.examined[i].estimator;
    table.rows.push_back({results.models[i].name, report::format_number(e.bias.value),
                          report::format_number(e.bias.error), report::format_number(e.bound),
                          report::format_number(e.deviation), report::format_percent(e.infinite_variance)});
  }
  return table;
}

report::KeyFigure key_figure(const ModelResult& model, const Examined& found) {
  const std::string note = fmt::format("{} parameters, {}", report::format_count(model.parameters),
                                       report::format_duration(model.seconds()));
  if (!model.failure.empty()) return {model.name, "diverged", note};
  if (!model.architecture.weigh)
    return {"Labels right, " + model.name, report::format_percent(model.last().correct, 2), note};
  if (model.points())
    return {"log p, " + model.name, report::format_fixed(found.nats.value, 3), "nats; " + note};
  return {"Bits a pixel, " + model.name, report::format_fixed(model.bits(found.nats.value), 3), note};
}

}  // namespace

Chart plane(const std::string& title, const std::string& look_for) {
  const report::Range range{-density_reach, density_reach};
  return {.title = title,
          .look_for = look_for,
          .kind = Chart::Kind::scatter,
          .x_range = range,
          .y_range = range,
          .thin = false,
          .square = true};
}

report::Page make_page(const Results& results) {
  report::Page page{
      .kicker = "banach flow train",
      .title = "Densities by invertible residual networks",
      .subtitle =
          "Blocks x + g(x) with a contraction g carry samples to a normal distribution; how much "
          "each stretches space is a log-determinant, exact or estimated."};
  for (std::size_t i = 0; i < std::min<std::size_t>(4, results.models.size()); ++i)
    page.key_figures.push_back(key_figure(results.models[i], results.examined[i]));
  for (const ModelResult& model : results.models)
    if (std::find(page.series_order.begin(), page.series_order.end(), model.estimator) ==
        page.series_order.end())
      page.series_order.push_back(model.estimator);
  page.sections.push_back(
      {"What was found",
       {},
       {report::Text{findings(results)}, cli::page_table(summary_table(results), "At the end of training")}});
  report::Section maps{"Densities", {}, {}};
  const ModelResult& first = results.models.front();
  for (const std::string& data : sets_of(results))
    if (first.points() && first.architecture.weigh) maps.blocks.push_back(densities(results, data));
  if (!maps.blocks.empty()) page.sections.push_back(std::move(maps));
  page.sections.push_back({"Samples and interpolations", {}, drawn(results)});
  report::Section checked{"Inverses and estimates", {}, {checks(results)}};
  if (report::Table table = estimates(results); !table.rows.empty())
    checked.blocks.push_back(std::move(table));
  page.sections.push_back(std::move(checked));
  page.sections.push_back({"While learning", "On held-out samples.", curves(results)});
  page.sections.push_back({"Settings",
                           {},
                           {report::Settings{"Settings", results.settings},
                            report::Settings{"Environment", results.environment}}});
  page.footer = "Made by banach flow. The numbers behind the page: metrics.csv and summary.json beside it.";
  return page;
}

}  // namespace banach::flow
