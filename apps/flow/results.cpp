#include <apps/flow/results.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/flow/sets.hpp>
#include <apps/report/format.hpp>
#include <apps/training/tally.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::flow {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Look, step, seconds, nats, correct)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Architecture, blocks, scales, hidden, lipschitz, dtype, sample, levels,
                                   classes, weigh)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(EstimatorSettings, probe, probes, sketch, gradient)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ModelResult, name, data, estimator, architecture, settings, folder, reduce,
                                   seed, parameters, test, probes, failure)

namespace {

using Json = nlohmann::ordered_json;
using report::format_fixed;
using report::format_number;

// Straight lines in z between pairs of samples, seen in x.
std::vector<Tensor> interpolate(const FlowModel& model, const Tensor& x, std::int64_t lines,
                                std::int64_t places) {
  const Tensor z = model.transform(Var(x.rows(0, 2 * lines).to(model.dtype()))).value();
  std::vector<Tensor> paths;
  for (std::int64_t line = 0; line < lines; ++line) {
    const Var from(z.rows(2 * line, 2 * line + 1)), to(z.rows(2 * line + 1, 2 * line + 2));
    Vars way;
    for (std::int64_t i = 0; i < places; ++i) {
      const double share = static_cast<double>(i) / static_cast<double>(places - 1);
      way.push_back((1.0 - share) * from + share * to);
    }
    paths.push_back(model.inverse(concat(way, 0)).x.value());
  }
  return paths;
}

double mass_of(FlowModel& model) {
  constexpr std::int64_t side = 256;
  constexpr double reach = 10.0, cell = 2.0 * reach / static_cast<double>(side);
  const Tensor log_p = log_densities(model, grid_points(side, reach));
  double sum = 0.0;
  for (std::int64_t i = 0; i < log_p.size(); ++i) sum += std::exp(log_p.at(i));
  return sum * cell * cell;
}

void examine_points(const ModelResult& result, FlowModel& model, const Tensor& x, Examined& found) {
  found.mass = mass_of(model);
  found.density = exp(Var(log_densities(model, grid_points(density_side, density_reach)))).value();
  if (const auto truth = true_log_density(result.data, x)) found.truth = mean_of(*truth).value;
}

std::string of_likelihood(const Results& results, std::size_t i) {
  const ModelResult& model = results.models[i];
  const Examined& found = results.examined[i];
  const std::string held_out =
      fmt::format("{} held-out {}", report::format_count(model.test), model.points() ? "points" : "images");
  std::string text = model.name + ": ";
  if (model.architecture.weigh)
    text += fmt::format("{} nats on {} (standard error {})",
                        format_fixed(found.nats.value, model.points() ? 4 : 2), held_out,
                        format_number(found.nats.error, 2));
  if (model.architecture.weigh && !model.points())
    text += fmt::format(", {} +- {} bits a pixel", format_fixed(model.bits(found.nats.value), 4),
                        format_number(-model.bits(found.nats.error), 2));
  if (std::isfinite(found.truth))
    text += fmt::format(", where the true density has {}", format_fixed(found.truth, 4));
  if (const Examined* exact = results.exact_of(model.data); exact && exact != &found)
    text += fmt::format("; {} from the model trained with the exact determinant",
                        format_fixed(found.nats.value - exact->nats.value, 4));
  if (model.classifies())
    text += fmt::format("{}{} of the labels of {} are right", model.architecture.weigh ? "; " : "",
                        report::format_percent(model.last().correct, 2), held_out);
  text += ".";
  if (std::isfinite(found.mass))
    text += fmt::format(" Its density integrates to {} over [-10, 10]^2.", format_fixed(found.mass, 4));
  text += of_variance("these log-determinants", found.infinite_variance);
  if (found.estimator)
    text += of_variance(model.estimator + ", as in training,", found.estimator->infinite_variance);
  return text;
}

std::string of_inverses(const Results& results) {
  double block = 0, network = 0, layers = 0, certified = 0, bound = 0;
  std::int64_t all = 0, failed = 0, beyond = 0;
  for (const Examined& f : results.examined) {
    block = std::max(block, f.reconstruction.worst_block());
    network = std::max(network, f.reconstruction.network);
    beyond += f.reconstruction.network <= f.reconstruction.bound ? 0 : 1;
    layers = std::max(layers, f.constants.layers);
    certified = std::max(certified, f.constants.certified);
    bound = std::max(bound, f.constants.bound);
    all += training::total(f.reconstruction.statuses);
    failed += training::total(f.reconstruction.statuses) -
              training::count_of(f.reconstruction.statuses, "converged");
  }
  const std::string certain =
      certified <= bound * (1.0 + 1e-3)
          ? fmt::format("certain upper bounds put every g at {} or less", format_number(certified, 6))
          : fmt::format("that is an estimate: of some g it is certain only that it is at most {}",
                        format_number(certified, 6));
  return fmt::format(
      "inverse(forward(x)) is off by {} at most for a block and {} for a network, {} what rounding allows; "
      "of "
      "{} inversions {} did not converge. Lipschitz constants are kept to c = {}: 1,000 steps of a power "
      "iteration that training does not use put the norms of the layers at {} times their bounds or less; "
      "{}.",
      format_number(block, 2), format_number(network, 2), beyond == 0 ? "within" : "in some beyond",
      report::format_count(all), report::format_count(failed), format_number(bound, 6),
      report::format_fixed(layers, 6), certain);
}

}  // namespace

double ModelResult::entries() const {
  double product = 1.0;
  for (const std::int64_t extent : architecture.sample) product *= static_cast<double>(extent);
  return product;
}
double ModelResult::bits(double nats) const { return -nats / (entries() * std::numbers::ln2); }

std::int64_t ModelResult::weighed_on_the_way() const {
  return std::min<std::int64_t>(points() ? 2000 : 200, test);
}
std::int64_t ModelResult::labelled_on_the_way() const { return std::min<std::int64_t>(2000, test); }

std::string to_text(const ModelResult& model) { return nlohmann::json(model).dump(); }

ModelResult from_text(const std::string& text) {
  ModelResult model;
  cli::read_results(text, [&](const nlohmann::json& json) {
    nlohmann::json whole = json;
    // Checkpoints of a time when there was one scale do not say so.
    if (whole.contains("architecture") && whole["architecture"].is_object())
      whole["architecture"].emplace("scales", 1);
    whole.get_to(model);
  });
  return model;
}

FlowModel restore(const ModelResult& result) {
  FlowModel model(result.architecture, parse_estimator(result.estimator, result.settings), result.seed);
  nn::load_state(model, result.learned);
  return model;
}

std::unique_ptr<Source> source_of(const ModelResult& result) {
  return open_source(result.data, {.folder = result.folder, .reduce = result.reduce}, result.seed);
}

Examined examine(const ModelResult& result) {
  FlowModel model = restore(result);
  const Tensor x = source_of(result)->held_out(result.test).x;
  const bool points = result.points(), weighs = result.architecture.weigh;
  const Tensor some = x.rows(0, std::min<std::int64_t>(points ? 1000 : 64, x.size(0)));
  Examined found{.reconstruction = reconstruct(model, some), .constants = constants_of(model)};
  if (points && weighs) examine_points(result, model, x, found);
  const NoGrad off;
  if (weighs) {
    const Weighed weighed = weigh(model, x);
    found.nats = mean_of(weighed.log_p);
    found.infinite_variance = weighed.infinite_variance;
    found.estimator = check_estimator(model, parse_estimator(result.estimator, result.settings),
                                      some.rows(0, std::min<std::int64_t>(points ? 1000 : 16, some.size(0))));
    nn::eval(model);
    const FlowModel::Inverted drawn = model.sample(points ? 2000 : 40, result.seed);
    found.samples = drawn.x.value();
    found.sampled = drawn.failed() == 0;
  }
  nn::eval(model);
  found.paths = points ? interpolate(model, x, 6, 60) : interpolate(model, x, 4, 10);
  if (!points) {
    found.originals = x.rows(0, 20).to(model.dtype());
    found.restored = model.inverse(model.transform(Var(found.originals))).x.value();
  }
  return found;
}

const Examined* Results::exact_of(const std::string& data) const {
  for (std::size_t i = 0; i < examined.size(); ++i)
    if (models[i].data == data && models[i].estimator == "exact") return &examined[i];
  return nullptr;
}

std::string metrics_csv(const Results& results) {
  std::string csv = "model,row,step,seconds,loss,nats,correct\n";
  for (const ModelResult& model : results.models) {
    for (std::size_t i = 0; i < model.steps.size(); ++i)
      csv += fmt::format("\"{}\",step,{},{},{},,\n", model.name, i + 1, cli::csv_cell(model.steps[i].seconds),
                         cli::csv_cell(model.steps[i].loss));
    for (const Look& p : model.probes)
      csv += fmt::format("\"{}\",probe,{},{},,{},{}\n", model.name, p.step, cli::csv_cell(p.seconds),
                         model.architecture.weigh ? cli::csv_cell(p.nats) : "",
                         model.classifies() ? cli::csv_cell(p.correct) : "");
  }
  return csv;
}

std::string summary_json(const Results& results) {
  Json json{{"settings", cli::object_of(results.settings)},
            {"environment", cli::object_of(results.environment)},
            {"findings", findings(results)},
            {"models", Json::array()}};
  for (std::size_t i = 0; i < results.examined.size(); ++i) {
    const ModelResult& model = results.models[i];
    const Examined& f = results.examined[i];
    Json entry{{"model", model.name},
               {"parameters", model.parameters},
               {"steps", model.steps.size()},
               {"seconds", model.seconds()},
               {"reconstruction_of_blocks", f.reconstruction.blocks},
               {"reconstruction", f.reconstruction.network},
               {"reconstruction_bound", f.reconstruction.bound},
               {"inverse_lipschitz", f.reconstruction.inverse_lipschitz},
               {"inversions", f.reconstruction.statuses},
               {"lipschitz", f.constants.bound},
               {"layers_over_bounds", f.constants.layers},
               {"lipschitz_certified", f.constants.certified},
               {"failure", model.failure},
               {"probes", nlohmann::json(model.probes)}};
    if (model.architecture.weigh) {
      entry["nats"] = f.nats.value;
      entry["nats_error"] = f.nats.error;
      entry["infinite_variance"] = f.infinite_variance;
      if (!model.points()) entry["bits_a_pixel"] = model.bits(f.nats.value);
    }
    if (std::isfinite(f.truth)) entry["true_nats"] = f.truth;
    if (std::isfinite(f.mass)) entry["mass"] = f.mass;
    if (model.classifies()) entry["correct"] = model.last().correct;
    if (f.estimator)
      entry["estimator"] = {{"bias", f.estimator->bias.value},
                            {"bias_error", f.estimator->bias.error},
                            {"bound", f.estimator->bound},
                            {"deviation", f.estimator->deviation},
                            {"infinite_variance", f.estimator->infinite_variance}};
    json["models"].push_back(std::move(entry));
  }
  return json.dump(2) + "\n";
}

cli::SummaryTable summary_table(const Results& results) {
  cli::SummaryTable table{
      .head = {{"model"},
               {"log p", "nats", "Mean over held-out samples; of points by the exact determinant"},
               {"error", "", "Standard error of that mean"},
               {"bits a pixel"},
               {"beside exact", "nats", "Difference to the model trained with the exact determinant"},
               {"true", "nats", "Mean of the true log p at these points, where it has a closed form"},
               {"labels right"},
               {"worst block", "", "max |x - inverse(forward(x))| of a block"},
               {"network", "", "The same of all of it"},
               {"time"}},
      .rows = {}};
  for (std::size_t i = 0; i < results.examined.size(); ++i) {
    const ModelResult& model = results.models[i];
    const Examined& f = results.examined[i];
    const Examined* exact = results.exact_of(model.data);
    const bool weighs = model.architecture.weigh;
    table.rows.push_back({model.name,
                          !model.failure.empty() ? "diverged"
                          : weighs               ? format_fixed(f.nats.value, model.points() ? 4 : 2)
                                                 : "-",
                          weighs ? format_number(f.nats.error, 2) : "-",
                          weighs && !model.points() ? format_fixed(model.bits(f.nats.value), 4) : "-",
                          exact && exact != &f ? format_fixed(f.nats.value - exact->nats.value, 4) : "-",
                          std::isfinite(f.truth) ? format_fixed(f.truth, 4) : "-",
                          model.classifies() ? report::format_percent(model.last().correct, 2) : "-",
                          format_number(f.reconstruction.worst_block(), 2),
                          format_number(f.reconstruction.network, 2),
                          report::format_duration(model.seconds())});
  }
  // What no model of this run has is left out.
  for (std::size_t k = table.head.size(); k-- > 0;) {
    const auto missing = [&](const auto& row) { return row[k] == "-"; };
    if (!std::all_of(table.rows.begin(), table.rows.end(), missing)) continue;
    table.head.erase(table.head.begin() + static_cast<std::ptrdiff_t>(k));
    for (auto& row : table.rows) row.erase(row.begin() + static_cast<std::ptrdiff_t>(k));
  }
  return table;
}

std::string of_variance(const std::string& what, double share) {
  if (share == 0.0) return {};
  return fmt::format(" The variance of {} is, or may be, infinite for {} of the samples and blocks.", what,
                     report::format_percent(share));
}

std::vector<std::string> findings(const Results& results) {
  std::vector<std::string> found;
  for (std::size_t i = 0; i < results.examined.size(); ++i) {
    const ModelResult& model = results.models[i];
    if (!model.failure.empty()) found.push_back(fmt::format("{} diverged: {}.", model.name, model.failure));
    found.push_back(of_likelihood(results, i));
  }
  found.push_back(of_inverses(results));
  return found;
}

}  // namespace banach::flow
