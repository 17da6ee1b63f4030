#include <apps/copy/results.hpp>

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/report/format.hpp>
#include <apps/training/tally.hpp>

namespace banach::copy_task {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Probe, step, seconds, loss, wrong)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Recall, symbols, probability)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ModelResult, name, description, parameters, probes, recalls, solves,
                                   failure)

namespace {

using Json = nlohmann::ordered_json;
using report::format_number;

double mean_of(const std::vector<Step>& steps, double Step::*field) {
  double total = 0.0;
  for (const Step& step : steps) total += step.*field;
  return steps.empty() ? 0.0 : total / static_cast<double>(steps.size());
}

std::string at_the_end(const Results& results, const ModelResult& model) {
  std::string text = fmt::format(
      "{} ({} parameters) ends at a loss of {} nats on {} held-out sequences, {} of what is reached without "
      "memory ({}); it says {} of the symbols wrong.",
      model.name, report::format_count(model.parameters), format_number(model.last().loss), results.test,
      report::format_percent(model.last().loss / results.memoryless, 2), format_number(results.memoryless),
      report::format_percent(model.last().wrong, 2));
  const Probe* reached = model.below(goal);
  return text +
         (reached ? fmt::format(
                        " From step {} on, after {} of training, the loss stays below {:g}; all "
                        "{} steps took {}.",
                        report::format_count(reached->step), report::format_duration(reached->seconds), goal,
                        report::format_count(model.last().step), report::format_duration(model.seconds()))
                  : fmt::format(" It did not get below {:g}; training took {}.", goal,
                                report::format_duration(model.seconds())));
}

std::string how_solves_ended(const ModelResult& model) {
  const std::int64_t all = training::total(model.solves);
  return fmt::format(
      "Of {} equilibria in training {} did not converge within their steps; a step took {} evaluations "
      "forward "
      "and {} products with the Jacobian backward, in the mean.",
      report::format_count(all), report::format_count(all - training::count_of(model.solves, "converged")),
      format_number(model.forward()), format_number(model.backward()));
}

}  // namespace

const Probe* ModelResult::below(double loss) const {
  const Probe* first = nullptr;
  for (auto probe = probes.rbegin(); probe != probes.rend() && probe->loss < loss; ++probe) first = &*probe;
  return first;
}
double ModelResult::forward() const { return mean_of(steps, &Step::forward); }
double ModelResult::backward() const { return mean_of(steps, &Step::backward); }

std::string to_text(const ModelResult& model) { return nlohmann::json(model).dump(); }

ModelResult from_text(const std::string& text) {
  ModelResult model;
  cli::read_results(text, [&](const nlohmann::json& json) { json.get_to(model); });
  return model;
}

std::string metrics_csv(const Results& results) {
  std::string csv = "model,row,step,seconds,loss,forward,backward,wrong\n";
  for (const ModelResult& model : results.models) {
    for (std::size_t i = 0; i < model.steps.size(); ++i) {
      const Step& s = model.steps[i];
      csv += fmt::format("{},step,{},{},{},{},{},\n", model.name, i + 1, cli::csv_cell(s.seconds),
                         cli::csv_cell(s.loss), cli::csv_cell(s.forward), cli::csv_cell(s.backward));
    }
    for (const Probe& p : model.probes)
      csv += fmt::format("{},probe,{},{},{},,,{}\n", model.name, p.step, cli::csv_cell(p.seconds),
                         cli::csv_cell(p.loss), cli::csv_cell(p.wrong));
  }
  return csv;
}

std::string summary_json(const Results& results) {
  Json json{{"settings", cli::object_of(results.settings)},
            {"environment", cli::object_of(results.environment)},
            {"memoryless_loss", results.memoryless},
            {"findings", findings(results)},
            {"models", Json::array()}};
  for (const ModelResult& model : results.models) {
    Json entry{{"model", model.name},
               {"description", model.description},
               {"parameters", model.parameters},
               {"steps", model.steps.size()},
               {"seconds", model.seconds()},
               {"loss", model.last().loss},
               {"wrong", model.last().wrong},
               {"forward_evaluations_a_step", model.forward()},
               {"backward_products_a_step", model.backward()},
               {"solves", model.solves},
               {"failure", model.failure},
               {"probes", nlohmann::json(model.probes)}};
    if (const Probe* p = model.below(goal)) entry["below_goal_after_seconds"] = p->seconds;
    json["models"].push_back(std::move(entry));
  }
  return json.dump(2) + "\n";
}

cli::SummaryTable summary_table(const Results& results) {
  cli::SummaryTable table{
      .head = {{"model"},
               {"parameters"},
               {"held-out loss", "nats"},
               {"symbols wrong"},
               {fmt::format("below {:g} after", goal)},
               {"evaluations a step", "", "Of f forward, and products with its Jacobian backward"},
               {"time"}},
      .rows = {}};
  for (const ModelResult& model : results.models) {
    const Probe* p = model.below(goal);
    table.rows.push_back(
        {model.name, report::format_count(model.parameters),
         model.failure.empty() ? format_number(model.last().loss) : "diverged",
         report::format_percent(model.last().wrong, 2), p ? report::format_duration(p->seconds) : "-",
         model.solves.empty()
             ? "-"
             : fmt::format("{} + {}", format_number(model.forward()), format_number(model.backward())),
         report::format_duration(model.seconds())});
  }
  return table;
}

std::vector<std::string> findings(const Results& results) {
  std::vector<std::string> found;
  for (const ModelResult& model : results.models) {
    found.emplace_back();
    if (!model.failure.empty()) found.back() = fmt::format("{} diverged: {}. ", model.name, model.failure);
    if (std::isfinite(model.last().loss)) found.back() += at_the_end(results, model);
    if (!model.solves.empty()) found.back() += " " + how_solves_ended(model);
  }
  return found;
}

}  // namespace banach::copy_task
