#include <apps/flow/use.hpp>

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/flow/drawing.hpp>
#include <apps/flow/page.hpp>
#include <apps/flow/train.hpp>
#include <apps/report/format.hpp>
#include <banach/engine/error.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/order.hpp>

namespace banach::flow {
namespace {

using Json = nlohmann::ordered_json;
using report::Series;

// A page of one section, and the rest of what a command leaves.
cli::Outcome conclude(const std::string& command, const std::string& title, const ModelResult& model,
                      const std::vector<std::string>& sentences, std::vector<report::Block> blocks,
                      Json summary, std::string csv, std::string table = {}) {
  summary["model"] = model.name;
  summary["findings"] = sentences;
  blocks.insert(blocks.begin(), report::Text{sentences});
  report::Page page{
      .kicker = "banach flow " + command, .title = title, .subtitle = "Model: " + model.name + "."};
  page.sections = {{"What was found", {}, std::move(blocks)}};
  page.footer = "Made by banach flow. The numbers behind the page: metrics.csv and summary.json beside it.";
  return {.summary_json = summary.dump(2) + "\n",
          .metrics_csv = std::move(csv),
          .page = std::move(page),
          .table = std::move(table),
          .sentences = sentences};
}

std::string tell(const training::Tally& statuses) {
  std::string text;
  for (const auto& [status, count] : statuses)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", report::format_count(count), status);
  return text;
}

}  // namespace

cli::Outcome sample(const UseOptions& options) {
  const ModelResult result = load_model(options.checkpoint, options.model);
  PointFlow model = restore(result);
  nn::eval(model);
  const NoGrad off;
  const PointFlow::Inverted drawn = model.sample(options.count, options.seed);
  const Tensor x = drawn.x.value(), log_p = log_densities(model, x.to(DType::f64));
  training::Tally statuses;
  for (const SolveReport& report : drawn.reports)
    training::count(statuses, report.samples, &SampleReport::status);
  std::string csv = "x,y,log_density\n";
  for (std::int64_t i = 0; i < options.count; ++i)
    csv += fmt::format("{},{},{}\n", cli::csv_cell(x.at(2 * i)), cli::csv_cell(x.at(2 * i + 1)),
                       cli::csv_cell(log_p.at(i)));
  const Mean nats = mean_of(log_p);
  const std::vector<std::string> sentences{
      fmt::format("{} points, drawn by inverting {} blocks: {}.", report::format_count(options.count),
                  model.blocks().size(), tell(statuses)),
      fmt::format("Their mean log p is {} +- {} nats: minus this is the model's entropy.",
                  report::format_fixed(nats.value, 3), report::format_number(nats.error, 2))};
  report::Chart chart = plane("Samples", "Where the model puts its points.");
  chart.series.push_back(series_of("samples", x, Series::Mark::points));
  report::Chart data = plane("Data", "As many held-out points.");
  data.series.push_back(series_of("data",
                                  draw_points(result.data, options.count, result.seed, ~std::uint64_t{0}).x,
                                  Series::Mark::points));
  return conclude("sample", "Points drawn by a flow", result, sentences, {chart, data},
                  {{"count", options.count}, {"inversions", statuses}, {"mean_log_density", nats.value}},
                  csv);
}

cli::Outcome density(const UseOptions& options) {
  const ModelResult result = load_model(options.checkpoint, options.model);
  PointFlow model = restore(result);
  const Tensor points = grid_points(options.grid, options.reach), log_p = log_densities(model, points);
  const double cell = 2.0 * options.reach / static_cast<double>(options.grid);
  double mass = 0.0;
  std::string csv = "x,y,log_density\n";
  for (std::int64_t i = 0; i < log_p.size(); ++i) {
    mass += std::exp(log_p.at(i)) * cell * cell;
    csv +=
        fmt::format("{:.6g},{:.6g},{}\n", points.at(2 * i), points.at(2 * i + 1), cli::csv_cell(log_p.at(i)));
  }
  const Tensor p = exp(Var(log_p)).value();
  const Mean nats = mean_of(log_densities(model, held_out(result).x));
  const std::vector<std::string> sentences{
      fmt::format("The density over [-{0:g}, {0:g}]^2 sums to {1}.", options.reach,
                  report::format_fixed(mass, 5)),
      fmt::format("{} held-out points have a mean log p of {} +- {} nats.", report::format_count(result.test),
                  report::format_fixed(nats.value, 4), report::format_number(nats.error, 2))};
  report::PictureGrid maps{.title = "Densities"};
  const std::string to = "brightest: " + report::format_number(bright(p));
  maps.pictures.push_back(draw_heat_map("p(x)", to, p, options.grid, bright(p)));
  // The logarithm, down to 15 below its largest.
  constexpr double depth = 15.0;
  const double top = std::log(bright(p));
  maps.pictures.push_back(draw_heat_map("log p(x)", fmt::format("dark: {} less than the brightest", depth),
                                        maximum(Var(log_p) - (top - depth), 0.0).value(), options.grid,
                                        depth));
  return conclude("density", "The density of a flow", result, sentences, {maps},
                  {{"grid", options.grid}, {"reach", options.reach}, {"mass", mass}, {"nats", nats.value}},
                  csv);
}

cli::Outcome reconstruct_points(const UseOptions& options) {
  const ModelResult result = load_model(options.checkpoint, options.model);
  PointFlow model = restore(result);
  const Points points = draw_points(result.data, options.count, options.seed, ~std::uint64_t{0});
  const Reconstruction r = reconstruct(model, points.x);
  std::string csv = "block,error\n";
  report::Series series{.name = "max |x - inverse(forward(x))|"};
  for (std::size_t i = 0; i < r.blocks.size(); ++i) {
    csv += fmt::format("{},{}\n", i + 1, cli::csv_cell(r.blocks[i]));
    series.x.push_back(static_cast<double>(i + 1));
    series.y.push_back(r.blocks[i]);
  }
  const std::vector<std::string> sentences{
      fmt::format("{} points there and back: off by {} at most. Rounding allows {}: ten times the dtype's, "
                  "times the largest number on the way ({}), times the product of the measured inverse "
                  "Lipschitz constants ({}).",
                  report::format_count(options.count), report::format_number(r.network, 2),
                  report::format_number(r.bound, 2), report::format_number(r.scale),
                  report::format_number(r.inverse_lipschitz)),
      fmt::format("The worst block is off by {}. Inversions: {}; {} evaluations of g each, in the mean.",
                  report::format_number(r.worst_block(), 2), tell(r.statuses),
                  report::format_fixed(r.evaluations, 1))};
  report::Chart chart{.title = "Block by block",
                      .look_for = "Each is solved to rounding, so none stands out.",
                      .x_label = "block",
                      .y_label = "largest error",
                      .log_y = true};
  chart.series.push_back(std::move(series));
  return conclude("reconstruct", "There and back", result, sentences, {chart},
                  {{"count", options.count},
                   {"network", r.network},
                   {"bound", r.bound},
                   {"inverse_lipschitz", r.inverse_lipschitz},
                   {"blocks", r.blocks},
                   {"inversions", r.statuses}},
                  csv);
}

cli::Outcome classify(const UseOptions& options) {
  const ModelResult result = load_model(options.checkpoint, options.model);
  if (result.architecture.classes == 0)
    fail<FileError>("flow", fmt::format("{} does not classify: train it with --classify 1", result.name));
  PointFlow model = restore(result);
  const Points points = draw_points(result.data, options.count, options.seed, ~std::uint64_t{0});
  const Tensor log_p = log_densities(model, points.x);
  const NoGrad off;
  nn::eval(model);
  const Tensor said = argmax(model.logits(model.forward(Var(points.x.to(model.dtype()))).y), 1).value();
  const std::int64_t classes = result.architecture.classes;
  std::vector<std::vector<std::int64_t>> confusion(
      static_cast<std::size_t>(classes), std::vector<std::int64_t>(static_cast<std::size_t>(classes)));
  std::string csv = "x,y,label,said,log_density\n";
  std::vector<Series> groups(static_cast<std::size_t>(classes));
  std::int64_t right = 0;
  for (std::int64_t i = 0; i < options.count; ++i) {
    const auto label = points.labels.data<std::int64_t>()[i], guess = said.data<std::int64_t>()[i];
    right += label == guess;
    ++confusion[static_cast<std::size_t>(label)][static_cast<std::size_t>(guess)];
    groups[static_cast<std::size_t>(guess)].x.push_back(points.x.at(2 * i));
    groups[static_cast<std::size_t>(guess)].y.push_back(points.x.at(2 * i + 1));
    csv += fmt::format("{},{},{},{},{}\n", points.x.at(2 * i), points.x.at(2 * i + 1), label, guess,
                       cli::csv_cell(log_p.at(i)));
  }
  const double correct = static_cast<double>(right) / static_cast<double>(options.count);
  const Mean nats = mean_of(log_p);
  const std::vector<std::string> sentences{
      fmt::format("{} of {} held-out points get the right label; the same model gives them a mean log p of "
                  "{} +- {} nats.",
                  report::format_percent(correct, 2), report::format_count(options.count),
                  report::format_fixed(nats.value, 4), report::format_number(nats.error, 2))};
  report::Chart chart =
      plane("What the classifier says", "Held-out points, coloured by the label they are given.");
  for (std::size_t k = 0; k < groups.size(); ++k) {
    groups[k].name = fmt::format("class {}", k);
    groups[k].mark = Series::Mark::points;
    chart.series.push_back(std::move(groups[k]));
  }
  report::Table table{.title = "True labels (rows) and given ones", .columns = {{"label"}}};
  for (std::int64_t k = 0; k < classes; ++k) table.columns.push_back({std::to_string(k)});
  for (std::size_t k = 0; k < confusion.size(); ++k) {
    table.rows.push_back({std::to_string(k)});
    for (const std::int64_t count : confusion[k]) table.rows.back().push_back(std::to_string(count));
  }
  return conclude("classify", "Labels from a flow", result, sentences, {chart, table},
                  {{"count", options.count}, {"correct", correct}, {"nats", nats.value}}, csv);
}

}  // namespace banach::flow
