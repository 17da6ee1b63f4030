#include <apps/flow/results.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/flow/train.hpp>
#include <apps/report/format.hpp>
#include <banach/ops/elementwise.hpp>

namespace banach::flow {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Probe, step, seconds, nats, correct)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Architecture, blocks, hidden, lipschitz, dtype, classes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(EstimatorSettings, probe, probes, sketch, gradient)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ModelResult, name, data, estimator, architecture, settings, seed,
                                   parameters, test, probes, failure)

namespace {

using Json = nlohmann::ordered_json;
using report::format_number;

// z-straight lines between the first held-out points, seen in the data.
std::vector<Tensor> interpolate(const PointFlow& model, const Tensor& points) {
  const NoGrad off;
  constexpr std::int64_t lines = 6, places = 60;
  const Tensor z = model.forward(Var(points.rows(0, 2 * lines).to(model.dtype()))).y.value();
  std::vector<Tensor> paths;
  for (std::int64_t line = 0; line < lines; ++line) {
    Tensor way = Tensor::empty({places, 2}, DType::f64);
    for (std::int64_t i = 0; i < places; ++i)
      for (std::int64_t k = 0; k < 2; ++k) {
        const double share = static_cast<double>(i) / static_cast<double>(places - 1);
        way.mutable_data<double>()[2 * i + k] =
            (1.0 - share) * z.at(4 * line + k) + share * z.at(4 * line + 2 + k);
      }
    paths.push_back(model.inverse(Var(way.to(model.dtype()))).x.value());
  }
  return paths;
}

double mass_of(PointFlow& model) {
  constexpr std::int64_t side = 256;
  constexpr double reach = 10.0, cell = 2.0 * reach / static_cast<double>(side);
  const Tensor log_p = log_densities(model, grid_points(side, reach));
  double sum = 0.0;
  for (std::int64_t i = 0; i < log_p.size(); ++i) sum += std::exp(log_p.at(i));
  return sum * cell * cell;
}

std::string of_likelihood(const Results& results, std::size_t i) {
  const ModelResult& model = results.models[i];
  const Findings& found = results.findings[i];
  std::string text = fmt::format("{}: {} nats on {} held-out points (standard error {})", model.name,
                                 report::format_fixed(found.nats.value, 4), report::format_count(model.test),
                                 format_number(found.nats.error, 2));
  if (std::isfinite(found.truth))
    text += fmt::format(", where the true density has {}", report::format_fixed(found.truth, 4));
  if (const Findings* exact = results.exact_of(model.data); exact && exact != &found)
    text += fmt::format("; {} from the model trained with the exact determinant",
                        report::format_fixed(found.nats.value - exact->nats.value, 4));
  if (model.architecture.classes > 0)
    text += fmt::format("; {} of the labels are right", report::format_percent(model.last().correct, 2));
  text +=
      fmt::format(". Its density integrates to {} over [-10, 10]^2.", report::format_fixed(found.mass, 4));
  return text;
}

std::string of_estimator(const ModelResult& model, const Findings& found) {
  const EstimatorCheck& e = found.estimator;
  std::string text =
      fmt::format("{}: on the trained model the estimate of log p is off by {} +- {} nats in the mean",
                  model.name, format_number(e.bias.value, 2), format_number(e.bias.error, 2));
  if (e.bound > 0.0) text += fmt::format(" (at most {} by its bound)", format_number(e.bound));
  text += fmt::format("; a single draw varies by {}", format_number(e.deviation));
  if (e.infinite_variance > 0.0)
    text += fmt::format("; its variance is, or may be, infinite for {} of the samples and blocks",
                        report::format_percent(e.infinite_variance));
  return text + ".";
}

std::string of_inverse(const ModelResult& model, const Findings& found) {
  const Reconstruction& r = found.reconstruction;
  std::int64_t all = 0;
  for (const auto& [status, count] : r.statuses) all += count;
  const auto converged = r.statuses.find("converged");
  const std::int64_t failed = all - (converged == r.statuses.end() ? 0 : converged->second);
  return fmt::format(
      "{}: inverse(forward(x)) is off by {} at most for a block and {} for the network (allowed by rounding: "
      "{}); of {} inversions {} did not converge. The layers' norms are at most {} of their bounds by "
      "1,000 steps of power iteration of its own; certified, each g has a constant below {} (c = {}).",
      model.name, format_number(r.worst_block(), 2), format_number(r.network, 2), format_number(r.bound, 2),
      report::format_count(all), failed, format_number(found.constants.layers, 6),
      format_number(found.constants.certified, 6), format_number(found.constants.bound, 6));
}

}  // namespace

std::string to_text(const ModelResult& model) { return nlohmann::json(model).dump(); }

ModelResult from_text(const std::string& text) {
  ModelResult model;
  cli::read_results(text, [&](const nlohmann::json& json) { json.get_to(model); });
  return model;
}

PointFlow restore(const ModelResult& result) {
  PointFlow model(result.architecture, parse_estimator(result.estimator, result.settings), result.seed);
  nn::load_state(model, result.learned);
  return model;
}

Findings examine(const ModelResult& result) {
  PointFlow model = restore(result);
  const Points test = held_out(result);
  const std::int64_t some = std::min<std::int64_t>(1000, result.test);
  Findings found{.nats = mean_of(log_densities(model, test.x)),
                 .truth = std::numeric_limits<double>::quiet_NaN(),
                 .mass = mass_of(model),
                 .estimator = check_estimator(model, parse_estimator(result.estimator, result.settings),
                                              test.x.rows(0, some)),
                 .reconstruction = reconstruct(model, test.x.rows(0, some)),
                 .constants = constants_of(model),
                 .density = exp(Var(log_densities(model, grid_points(density_side, density_reach)))).value()};
  if (const auto truth = true_log_density(result.data, test.x)) found.truth = mean_of(*truth).value;
  nn::eval(model);
  const PointFlow::Inverted drawn = model.sample(2000, result.seed);
  found.samples = drawn.x.value();
  found.sampled = drawn.converged();
  found.paths = interpolate(model, test.x);
  return found;
}

const Findings* Results::exact_of(const std::string& data) const {
  for (std::size_t i = 0; i < findings.size(); ++i)
    if (models[i].data == data && models[i].estimator == "exact") return &findings[i];
  return nullptr;
}

std::string metrics_csv(const Results& results) {
  std::string csv = "model,row,step,seconds,loss,nats,correct\n";
  for (const ModelResult& model : results.models) {
    for (std::size_t i = 0; i < model.steps.size(); ++i)
      csv += fmt::format("\"{}\",step,{},{},{},,\n", model.name, i + 1, cli::csv_cell(model.steps[i].seconds),
                         cli::csv_cell(model.steps[i].loss));
    for (const Probe& p : model.probes)
      csv +=
          fmt::format("\"{}\",probe,{},{},,{},{}\n", model.name, p.step, cli::csv_cell(p.seconds),
                      cli::csv_cell(p.nats), model.architecture.classes > 0 ? cli::csv_cell(p.correct) : "");
  }
  return csv;
}

std::string summary_json(const Results& results) {
  Json json{{"settings", cli::object_of(results.settings)},
            {"environment", cli::object_of(results.environment)},
            {"findings", sentences(results)},
            {"models", Json::array()}};
  for (std::size_t i = 0; i < results.findings.size(); ++i) {
    const ModelResult& model = results.models[i];
    const Findings& f = results.findings[i];
    json["models"].push_back({{"model", model.name},
                              {"parameters", model.parameters},
                              {"steps", model.steps.size()},
                              {"seconds", model.seconds()},
                              {"nats", f.nats.value},
                              {"nats_error", f.nats.error},
                              {"true_nats", f.truth},
                              {"mass", f.mass},
                              {"correct", model.last().correct},
                              {"estimator_bias", f.estimator.bias.value},
                              {"estimator_bias_error", f.estimator.bias.error},
                              {"estimator_bound", f.estimator.bound},
                              {"estimator_deviation", f.estimator.deviation},
                              {"estimator_infinite_variance", f.estimator.infinite_variance},
                              {"reconstruction_of_blocks", f.reconstruction.blocks},
                              {"reconstruction", f.reconstruction.network},
                              {"reconstruction_bound", f.reconstruction.bound},
                              {"inverse_lipschitz", f.reconstruction.inverse_lipschitz},
                              {"inversions", f.reconstruction.statuses},
                              {"lipschitz", f.constants.bound},
                              {"layers_over_bounds", f.constants.layers},
                              {"lipschitz_certified", f.constants.certified},
                              {"failure", model.failure},
                              {"probes", nlohmann::json(model.probes)}});
  }
  return json.dump(2) + "\n";
}

cli::SummaryTable summary_table(const Results& results) {
  cli::SummaryTable table{
      .head = {{"model"},
               {"log p", "nats", "Mean over held-out points, by the exact determinant"},
               {"error", "", "Standard error of that mean"},
               {"beside exact", "nats", "Difference to the model trained with the exact determinant"},
               {"true", "nats", "Mean of the true log p at these points, where it has a closed form"},
               {"block there and back", "", "max |x - inverse(forward(x))| of the worst block"},
               {"network there and back"},
               {"allowed", "", "Ten times rounding and the product of measured inverse Lipschitz constants"},
               {"time"}},
      .rows = {}};
  for (std::size_t i = 0; i < results.findings.size(); ++i) {
    const ModelResult& model = results.models[i];
    const Findings& f = results.findings[i];
    const Findings* exact = results.exact_of(model.data);
    table.rows.push_back(
        {model.name, model.failure.empty() ? report::format_fixed(f.nats.value, 4) : "diverged",
         format_number(f.nats.error, 2),
         exact && exact != &f ? report::format_fixed(f.nats.value - exact->nats.value, 4) : "-",
         std::isfinite(f.truth) ? report::format_fixed(f.truth, 4) : "-",
         format_number(f.reconstruction.worst_block(), 2), format_number(f.reconstruction.network, 2),
         format_number(f.reconstruction.bound, 2), report::format_duration(model.seconds())});
  }
  return table;
}

std::vector<std::string> sentences(const Results& results) {
  std::vector<std::string> found;
  for (std::size_t i = 0; i < results.findings.size(); ++i) {
    const ModelResult& model = results.models[i];
    if (!model.failure.empty()) found.push_back(fmt::format("{} diverged: {}.", model.name, model.failure));
    found.push_back(of_likelihood(results, i));
    if (model.estimator != "exact") found.push_back(of_estimator(model, results.findings[i]));
    found.push_back(of_inverse(model, results.findings[i]));
  }
  return found;
}

}  // namespace banach::flow
