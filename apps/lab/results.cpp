#include <apps/lab/results.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/lab/findings.hpp>
#include <apps/report/format.hpp>

namespace banach::lab {
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Quality, cosine, norm_ratio, descent, error)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Noise, bias, chance, own_variance, batch_variance, exact_batch_variance)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Cost, forward_seconds, backward_seconds, forward_evaluations,
                                   backward_evaluations, peak_bytes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FigureSummary, mean, largest, steps)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Probe, step, seconds, test_accuracy, test_loss, quality, radius_median,
                                   radius_largest, forward_residual, adjoint_residual, figures)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SamePoint, step, quality, cost, noise)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Convergence, median, smallest, largest)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RuleResult, spec, formula, paper, solver, random, probes, same_point,
                                   convergence, forward_statuses, gradient_kinds, adjoint_statuses, figures,
                                   accuracy, failure, predictions)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RuleResult::Summary, cosine_mean, cosine_smallest, norm_ratio_mean,
                                   descent_share)

namespace {

double mean(const std::vector<double>& values) {
  double total = 0.0;
  for (const double value : values) total += value;
  return values.empty() ? unknown : total / static_cast<double>(values.size());
}

template <class Row>
RuleResult::Summary summarize(const std::vector<Row>& rows) {
  std::vector<double> cosines, ratios;
  double descents = 0.0;
  for (const Row& row : rows) {
    cosines.push_back(row.quality.cosine);
    ratios.push_back(row.quality.norm_ratio);
    descents += row.quality.descent ? 1.0 : 0.0;
  }
  if (rows.empty()) return {};
  const double average = mean(cosines);  // NaN if one of them is; the smallest would depend on their order
  return {average, std::isnan(average) ? unknown : *std::min_element(cosines.begin(), cosines.end()),
          mean(ratios), descents / static_cast<double>(rows.size())};
}

}  // namespace

double median(std::vector<double> values) {
  values.erase(std::remove_if(values.begin(), values.end(), [](double v) { return std::isnan(v); }),
               values.end());
  if (values.empty()) return unknown;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return 0.5 * (*middle + *std::max_element(values.begin(), middle));
}

void FigureSummary::add(double value) {
  ++steps;
  mean += (value - mean) / static_cast<double>(steps);
  if (std::isnan(value) || value > largest) largest = value;  // a NaN is the worst of all, and stays
}

Cost RuleResult::median_cost() const {
  const auto of = [&](double Cost::*member) {
    std::vector<double> values;
    for (const Step& step : steps) values.push_back(step.cost.*member);
    return median(std::move(values));
  };
  return {of(&Cost::forward_seconds), of(&Cost::backward_seconds), of(&Cost::forward_evaluations),
          of(&Cost::backward_evaluations), of(&Cost::peak_bytes)};
}

double RuleResult::final_loss(std::size_t count) const {
  std::vector<double> losses;
  for (std::size_t i = steps.size() - std::min(count, steps.size()); i < steps.size(); ++i)
    losses.push_back(steps[i].loss);
  return mean(losses);
}

std::vector<std::size_t> RuleResult::steps_without_loss() const {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < steps.size(); ++i)
    if (!std::isfinite(steps[i].loss)) found.push_back(i + 1);
  return found;
}

Noise RuleResult::mean_noise() const {
  const auto over_points = [&](auto value) {
    std::vector<double> values;
    for (const SamePoint& point : same_point) values.push_back(value(point.noise));
    return mean(values);
  };
  const auto of = [&](double Noise::*member) {
    return over_points([=](const Noise& n) { return n.*member; });
  };
  const auto root_of = [&](double Noise::*member) {
    return std::sqrt(over_points([=](const Noise& n) { return n.*member * n.*member; }));
  };
  return {root_of(&Noise::bias), root_of(&Noise::chance), of(&Noise::own_variance),
          of(&Noise::batch_variance), of(&Noise::exact_batch_variance)};
}

RuleResult::Summary RuleResult::own_summary() const { return summarize(probes); }
RuleResult::Summary RuleResult::same_point_summary() const { return summarize(same_point); }

std::string to_text(const RuleResult& result) { return nlohmann::json(result).dump(); }

RuleResult from_text(const std::string& text) {
  RuleResult result;
  cli::read_results(text, [&](const nlohmann::json& json) { json.get_to(result); });
  return result;
}

std::string metrics_csv(const Results& results) {
  using cli::csv_cell;
  std::string csv =
      "rule,row,step,train_seconds,train_loss,test_loss,test_accuracy,cosine,norm_ratio,descent,error,"
      "forward_"
      "seconds,"
      "backward_seconds,forward_evaluations,backward_evaluations,peak_bytes,spectral_radius_median,"
      "spectral_radius_largest,exact_forward_residual,exact_adjoint_residual,bias,bias_by_chance,own_"
      "variance,"
      "batch_variance,exact_batch_variance\n";
  const auto cost = [](const Cost& c) {
    return fmt::format("{},{},{},{},{}", csv_cell(c.forward_seconds), csv_cell(c.backward_seconds),
                       csv_cell(c.forward_evaluations), csv_cell(c.backward_evaluations),
                       csv_cell(c.peak_bytes));
  };
  const auto quality = [](const Quality& q) {
    return fmt::format("{},{},{},{}", csv_cell(q.cosine), csv_cell(q.norm_ratio), q.descent ? 1 : 0,
                       csv_cell(q.error));
  };
  const auto noise = [](const Noise& n) {
    return fmt::format("{},{},{},{},{}", csv_cell(n.bias), csv_cell(n.chance), csv_cell(n.own_variance),
                       csv_cell(n.batch_variance), csv_cell(n.exact_batch_variance));
  };
  for (const RuleResult& rule : results.rules) {
    double seconds = 0.0;
    for (std::size_t i = 0; i < rule.steps.size(); ++i) {
      const Step& s = rule.steps[i];
      seconds += s.seconds;
      csv += fmt::format("{},train,{},{},{},,,,,,,{},,,,,,,,,\n", rule.spec, i + 1, csv_cell(seconds),
                         csv_cell(s.loss), cost(s.cost));
    }
    for (const Probe& p : rule.probes)
      csv += fmt::format("{},probe,{},{},,{},{},{},,,,,,{},{},{},{},,,,,\n", rule.spec, p.step,
                         csv_cell(p.seconds), csv_cell(p.test_loss), csv_cell(p.test_accuracy),
                         quality(p.quality), csv_cell(p.radius_median), csv_cell(p.radius_largest),
                         csv_cell(p.forward_residual), csv_cell(p.adjoint_residual));
    for (const SamePoint& s : rule.same_point)
      csv += fmt::format("{},same_point,{},,,,,{},{},,,,,{}\n", rule.spec, s.step, quality(s.quality),
                         cost(s.cost), noise(s.noise));
  }
  return csv;
}

std::string summary_json(const Results& results) {
  nlohmann::ordered_json json;
  json["settings"] = cli::object_of(results.settings);
  json["environment"] = cli::object_of(results.environment);
  json["notices"] = warnings(results);
  json["parameters"] = results.parameters;
  json["training_images"] = results.training_images;
  json["test_images"] = results.test_images;
  json["rules"] = nlohmann::json::array();
  for (const RuleResult& rule : results.rules) {
    nlohmann::ordered_json entry;
    entry["rule"] = rule.spec;
    entry["formula"] = rule.formula;
    entry["solver"] = rule.solver;
    entry["test_accuracy"] = rule.accuracy;
    entry["final_loss"] = rule.final_loss(100);
    entry["steps"] = rule.steps.size();
    entry["steps_without_finite_loss"] = rule.steps_without_loss().size();
    entry["seconds"] = rule.seconds();
    entry["median_step"] = nlohmann::json(rule.median_cost());
    entry["along_own_training"] = nlohmann::json(rule.own_summary());
    entry["at_the_same_points"] = nlohmann::json(rule.same_point_summary());
    entry["bias_and_variance"] = nlohmann::json(rule.mean_noise());
    entry["forward_statuses"] = rule.forward_statuses;
    entry["gradient_kinds"] = rule.gradient_kinds;
    entry["adjoint_statuses"] = rule.adjoint_statuses;
    entry["figures"] = nlohmann::json(rule.figures);
    entry["failure"] = rule.failure;
    entry["convergence"] = nlohmann::json(rule.convergence);
    entry["probes"] = nlohmann::json(rule.probes);
    entry["same_point"] = nlohmann::json(rule.same_point);
    json["rules"].push_back(std::move(entry));
  }
  return json.dump(2) + "\n";
}

cli::SummaryTable summary_table(const Results& results) {
  using report::format_number;
  cli::SummaryTable table;
  table.head = {
      {"rule", "", "as given to --rules"},
      {"accuracy", "", "on the test set, at the end of training"},
      {"loss", "", "training loss, mean of the last 100 steps"},
      {"cosine", "", "mean cosine to the exact gradient, along the rule's own training"},
      {"lowest", "", "lowest such cosine"},
      {"norm ratio", "", "mean of ||estimate|| / ||exact||, along the rule's own training"},
      {"descent", "", "share of the probes at which a step against the estimate goes downhill"},
      {"forward / backward", "ms", "median times of a forward and of a backward pass"},
      {"f / vjp", "",
       "medians of the evaluations of f in a forward and of its vector-Jacobian products in a backward pass"},
      {"peak", "MiB", "memory of tape and solver history in a step, median of the steps' peaks"},
      {"time", "s", "of all training steps, probes not counted"}};
  for (const RuleResult& rule : results.rules) {
    const RuleResult::Summary own = rule.own_summary();
    const Cost cost = rule.median_cost();
    table.rows.push_back(
        {rule.spec, report::format_percent(rule.accuracy, 2), report::format_fixed(rule.final_loss(100), 4),
         report::format_fixed(own.cosine_mean, 5), report::format_fixed(own.cosine_smallest, 5),
         report::format_fixed(own.norm_ratio_mean, 3), report::format_percent(own.descent_share, 0),
         fmt::format("{:.2f} / {:.2f}", 1e3 * cost.forward_seconds, 1e3 * cost.backward_seconds),
         fmt::format("{} / {}", format_number(cost.forward_evaluations),
                     format_number(cost.backward_evaluations)),
         report::format_fixed(cost.peak_bytes / (1024.0 * 1024.0), 2),
         report::format_fixed(rule.seconds(), 1)});
  }
  return table;
}

}  // namespace banach::lab
