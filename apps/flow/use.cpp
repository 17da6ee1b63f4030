#include <apps/flow/use.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/cli/run.hpp>
#include <apps/flow/drawing.hpp>
#include <apps/flow/page.hpp>
#include <apps/flow/train.hpp>
#include <apps/report/format.hpp>
#include <apps/training/tally.hpp>
#include <banach/engine/error.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::flow {
namespace {

using Json = nlohmann::ordered_json;
using report::Block;
using report::Series;

struct Said {
  std::string command{}, title{};
  std::vector<std::string> sentences{};
  std::vector<Block> blocks{};
  Json summary{};
  std::string csv{};
  std::string failure{};
};

// A page of one section, and the rest of what a command leaves.
Used outcome(const ModelResult& model, Said said) {
  said.summary["model"] = model.name;
  said.summary["findings"] = said.sentences;
  said.blocks.insert(said.blocks.begin(), report::Text{said.sentences});
  report::Page page{
      .kicker = "banach flow " + said.command, .title = said.title, .subtitle = "Model: " + model.name + "."};
  page.sections = {{"What was found", {}, std::move(said.blocks)}};
  page.footer = "Made by banach flow. The numbers behind the page: metrics.csv and summary.json beside it.";
  return {{.summary_json = said.summary.dump(2) + "\n",
           .metrics_csv = std::move(said.csv),
           .page = std::move(page),
           .sentences = std::move(said.sentences)},
          std::move(said.failure)};
}

ModelResult trained_model(const UseOptions& options) {
  ModelResult model = load_model(options.checkpoint, options.model);
  if (!model.failure.empty()) fail<Error>("flow", fmt::format("{} diverged: {}", model.name, model.failure));
  return model;
}

void check_weighs(const ModelResult& model) {
  if (!model.architecture.weigh)
    fail<FileError>("flow", model.name + " has no density: it was trained with --density 0");
}

/// Samples as rows of a CSV file: "x0,x1,...,log_density".
std::string csv_of(const Tensor& x, const Tensor& log_p) {
  const std::int64_t n = x.size(0), entries = x.size() / std::max<std::int64_t>(1, n);
  std::string csv;
  for (std::int64_t k = 0; k < entries; ++k) csv += fmt::format("x{},", k);
  csv += "log_density\n";
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = 0; k < entries; ++k) csv += cli::csv_cell(x.at(i * entries + k)) + ",";
    csv += cli::csv_cell(log_p.at(i)) + "\n";
  }
  return csv;
}

constexpr std::int64_t shown = 100;  // images
constexpr std::int64_t default_grid = 200;

double white(const ModelResult& model) { return static_cast<double>(model.architecture.levels - 1); }

}  // namespace

Used sample(const UseOptions& options) {
  const ModelResult result = trained_model(options);
  check_weighs(result);
  FlowModel model = restore(result);
  nn::eval(model);
  const NoGrad off;
  const FlowModel::Inverted drawn = model.sample(options.count, options.seed);
  const Tensor x = drawn.x.value(), log_p = log_densities(model, x);
  training::Tally statuses;
  for (const SolveReport& report : drawn.reports)
    training::count(statuses, report.samples, &SampleReport::status);
  const Mean nats = mean_of(log_p);
  const std::int64_t failed = drawn.failed();
  Said said{
      .command = "sample",
      .title = "Drawn by a flow",
      .sentences = {fmt::format("{} samples, drawn by inverting {} blocks: {}.",
                                report::format_count(options.count), model.blocks(),
                                training::in_words(statuses, "none")),
                    fmt::format("Their mean log p is {} +- {} nats: minus this is the model's entropy.",
                                report::format_fixed(nats.value, 3), report::format_number(nats.error, 2))},
      .summary = {{"count", options.count},
                  {"failed", failed},
                  {"inversions", statuses},
                  {"mean_log_density", nats.value}},
      .csv = csv_of(x, log_p)};
  if (failed > 0)
    said.failure =
        fmt::format("{} of {} draws are no samples of {}: a block's inversion did not converge",
                    report::format_count(failed), report::format_count(options.count), result.name);
  const Tensor data = source_of(result)->held_out(options.count).x;
  if (result.points()) {
    report::Chart chart = plane("Samples", "Where the model puts its points.");
    chart.series.push_back(series_of("samples", x, Series::Mark::points));
    report::Chart beside = plane("Data", "Held-out points.");
    beside.series.push_back(series_of("data", data, Series::Mark::points));
    said.blocks = {std::move(chart), std::move(beside)};
  } else {
    said.blocks = {draw_images("Samples", "Draws from the normal distribution, inverted.",
                               x.rows(0, std::min(shown, x.size(0))), 20, white(result)),
                   draw_images("Data", "Held-out images.", data.rows(0, std::min(shown, data.size(0))), 20,
                               white(result))};
  }
  return outcome(result, std::move(said));
}

namespace {

Used density_of_points(const UseOptions& options, const ModelResult& result, FlowModel& model) {
  const std::int64_t side = options.grid.value_or(default_grid);
  const double reach = options.reach.value_or(density_reach);
  const Tensor points = grid_points(side, reach), log_p = log_densities(model, points);
  const double cell = 2.0 * reach / static_cast<double>(side);
  double mass = 0.0;
  for (std::int64_t i = 0; i < log_p.size(); ++i) mass += std::exp(log_p.at(i)) * cell * cell;
  const Tensor p = exp(Var(log_p)).value();
  const Mean nats = mean_of(log_densities(model, source_of(result)->held_out(result.test).x));
  constexpr double depth = 15.0;  // of log p below the brightest
  const double most = bright(p), top = std::log(most);
  report::PictureGrid maps{.title = "Densities"};
  maps.pictures.push_back(draw_heat_map("p(x)", "brightest: " + report::format_number(most), p, side, most));
  maps.pictures.push_back(draw_heat_map("log p(x)", fmt::format("dark: {} less than the brightest", depth),
                                        maximum(Var(log_p) - (top - depth), 0.0).value(), side, depth));
  return outcome(result, {.command = "density",
                          .title = "The density of a flow",
                          .sentences = {fmt::format("The density over [-{0:g}, {0:g}]^2 sums to {1}.", reach,
                                                    report::format_fixed(mass, 5)),
                                        fmt::format("{} held-out points have a mean log p of {} +- {} nats.",
                                                    report::format_count(result.test),
                                                    report::format_fixed(nats.value, 4),
                                                    report::format_number(nats.error, 2))},
                          .blocks = {std::move(maps)},
                          .summary = {{"grid", side}, {"reach", reach}, {"mass", mass}, {"nats", nats.value}},
                          .csv = csv_of(points, log_p)});
}

Used density_of_images(const ModelResult& result, FlowModel& model) {
  const Labelled test = source_of(result)->held_out(result.test);
  const Weighed weighed = weigh(model, test.x);
  const Tensor& log_p = weighed.log_p;
  const Mean nats = mean_of(log_p);
  std::vector<std::int64_t> order(static_cast<std::size_t>(log_p.size()));
  std::string csv = "image,label,log_density,bits_a_pixel\n";
  for (std::int64_t i = 0; i < log_p.size(); ++i) {
    order[static_cast<std::size_t>(i)] = i;
    csv += fmt::format("{},{},{},{}\n", i, test.labels.data<std::int64_t>()[i], cli::csv_cell(log_p.at(i)),
                       cli::csv_cell(result.bits(log_p.at(i))));
  }
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return log_p.at(a) > log_p.at(b); });
  const auto picked = [&](bool likely) {
    Vars images;
    for (std::size_t i = 0; i < std::min<std::size_t>(20, order.size()); ++i) {
      const std::int64_t at = likely ? order[i] : order[order.size() - 1 - i];
      images.emplace_back(test.x.rows(at, at + 1));
    }
    return concat(images, 0).value();
  };
  return outcome(
      result,
      {.command = "density",
       .title = "How likely a flow holds images",
       .sentences =
           {fmt::format(
                "{} held-out images: {} +- {} nats, or {} +- {} bits a pixel. These are bounds: each image "
                "was dequantised once.",
                report::format_count(result.test), report::format_fixed(nats.value, 2),
                report::format_number(nats.error, 2), report::format_fixed(result.bits(nats.value), 4),
                report::format_number(-result.bits(nats.error), 2)) +
            of_variance("their log-determinants", weighed.infinite_variance)},
       .blocks = {draw_images("The likeliest", {}, picked(true), 20, white(result)),
                  draw_images("The least likely", {}, picked(false), 20, white(result))},
       .summary = {{"nats", nats.value},
                   {"nats_error", nats.error},
                   {"bits_a_pixel", result.bits(nats.value)},
                   {"bits_error", -result.bits(nats.error)},
                   {"infinite_variance", weighed.infinite_variance}},
       .csv = std::move(csv)});
}

}  // namespace

Used density(const UseOptions& options) {
  const ModelResult result = trained_model(options);
  check_weighs(result);
  if (!result.points() && (options.grid || options.reach))
    throw cli::UsageError("--grid and --reach go with points: " + result.name + " is of images");
  FlowModel model = restore(result);
  return result.points() ? density_of_points(options, result, model) : density_of_images(result, model);
}

Used reconstruct_samples(const UseOptions& options) {
  const ModelResult result = trained_model(options);
  FlowModel model = restore(result);
  const Tensor x = source_of(result)->held_out(options.count).x;
  const Reconstruction r = reconstruct(model, x);
  std::string csv = "block,error\n";
  Series series{.name = "max |x - inverse(forward(x))|"};
  for (std::size_t i = 0; i < r.blocks.size(); ++i) {
    csv += fmt::format("{},{}\n", i + 1, cli::csv_cell(r.blocks[i]));
    series.x.push_back(static_cast<double>(i + 1));
    series.y.push_back(r.blocks[i]);
  }
  report::Chart chart{.title = "Block by block",
                      .look_for = "Each is solved to rounding, so none stands out.",
                      .x_label = "block",
                      .y_label = "largest error",
                      .log_y = true};
  chart.series.push_back(std::move(series));
  Said said{
      .command = "reconstruct",
      .title = "There and back",
      .sentences = {fmt::format(
                        "{} samples there and back: off by {} at most. Rounding allows {}: ten times the "
                        "dtype's, times the largest number on the way ({}), times the product of the "
                        "measured inverse Lipschitz constants ({}).",
                        report::format_count(x.size(0)), report::format_number(r.network, 2),
                        report::format_number(r.bound, 2), report::format_number(r.scale),
                        report::format_number(r.inverse_lipschitz)),
                    fmt::format("The worst block is off by {}. Inversions: {}; {} evaluations of g each, in "
                                "the mean, and 20 plain steps after them.",
                                report::format_number(r.worst_block(), 2),
                                training::in_words(r.statuses, "none"),
                                report::format_fixed(r.evaluations, 1))},
      .blocks = {std::move(chart)},
      .summary = {{"count", x.size(0)},
                  {"network", r.network},
                  {"bound", r.bound},
                  {"inverse_lipschitz", r.inverse_lipschitz},
                  {"blocks", r.blocks},
                  {"inversions", r.statuses}},
      .csv = std::move(csv)};
  if (!result.points()) {
    const NoGrad off;
    nn::eval(model);
    const Var few(x.rows(0, std::min<std::int64_t>(20, x.size(0))).to(model.dtype()));
    const Var back = model.inverse(model.transform(few)).x;
    said.blocks.push_back(draw_images("Held-out images, and under them inverse(forward(x))", {},
                                      concat({few, back}, 0).value(), 20, white(result)));
  }
  return outcome(result, std::move(said));
}

Used classify(const UseOptions& options) {
  const ModelResult result = trained_model(options);
  if (!result.classifies())
    fail<FileError>("flow", result.name + " does not classify: train it with --classify 1");
  FlowModel model = restore(result);
  const Labelled batch = source_of(result)->held_out(options.count);
  const Tensor given = labels_by(model, batch.x);
  const std::int64_t n = batch.x.size(0);
  const auto classes = static_cast<std::size_t>(result.architecture.classes);
  std::vector<std::vector<std::int64_t>> confusion(classes, std::vector<std::int64_t>(classes));
  report::Chart said_chart =
                    plane("What the classifier says", "Held-out points, coloured by the label they get."),
                true_chart = plane("What they are", "The same points by their true labels.");
  for (report::Chart* chart : {&said_chart, &true_chart})
    for (std::size_t k = 0; k < classes; ++k)
      chart->series.push_back({.name = fmt::format("class {}", k), .mark = Series::Mark::points});
  Vars wrong;
  std::string csv = "sample,label,given\n";
  double right = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto label = static_cast<std::size_t>(batch.labels.data<std::int64_t>()[i]),
               guess = static_cast<std::size_t>(given.data<std::int64_t>()[i]);
    right += label == guess ? 1.0 : 0.0;
    ++confusion[label][guess];
    csv += fmt::format("{},{},{}\n", i, label, guess);
    if (label != guess) wrong.emplace_back(batch.x.rows(i, i + 1));
    if (!result.points()) continue;
    for (Series* series : {&said_chart.series[guess], &true_chart.series[label]}) {
      series->x.push_back(batch.x.at(2 * i));
      series->y.push_back(batch.x.at(2 * i + 1));
    }
  }
  const double correct = right / static_cast<double>(n);
  Said said{.command = "classify",
            .title = "Labels from a flow",
            .sentences = {fmt::format("{} of {} held-out samples get the right label.",
                                      report::format_percent(correct, 2), report::format_count(n))},
            .summary = {{"count", n}, {"correct", correct}},
            .csv = std::move(csv)};
  if (result.architecture.weigh) {
    const Mean nats = mean_of(log_densities(model, batch.x));
    said.sentences.push_back(fmt::format("The same model gives them a mean log p of {} +- {} nats.",
                                         report::format_fixed(nats.value, 3),
                                         report::format_number(nats.error, 2)));
    said.summary["nats"] = nats.value;
  }
  if (result.points()) {
    said.blocks.emplace_back(std::move(said_chart));
    said.blocks.emplace_back(std::move(true_chart));
  } else if (!wrong.empty()) {
    wrong.resize(std::min<std::size_t>(wrong.size(), shown));
    said.blocks.emplace_back(
        draw_images("Images that get a wrong label", {}, concat(wrong, 0).value(), 20, white(result)));
  }
  report::Table table{.title = "True labels (rows) and given ones", .columns = {{"label"}}};
  for (std::size_t k = 0; k < classes; ++k) {
    table.columns.push_back({std::to_string(k)});
    table.rows.push_back({std::to_string(k)});
    for (const std::int64_t count : confusion[k]) table.rows.back().push_back(std::to_string(count));
  }
  said.blocks.emplace_back(std::move(table));
  return outcome(result, std::move(said));
}

}  // namespace banach::flow
