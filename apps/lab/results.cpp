#include <apps/lab/results.hpp>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/lab/findings.hpp>
#include <apps/report/format.hpp>
#include <banach/engine/error.hpp>

namespace banach::lab {
namespace {

using Json = nlohmann::ordered_json;

// ---- JSON: each struct lists its fields once, for writing and reading alike. A number that is not finite
// becomes null.

/// visit("a", x.a)("b", x.b) calls `each` for one field after another.
template <class Each>
struct Visit {
  Each each;
  const Visit& operator()(const char* name, auto& field) const {
    each(name, field);
    return *this;
  }
};
template <class Each>
Visit(Each) -> Visit<Each>;

template <class T>
concept Fielded = requires(T& value) {
  fields(value, Visit{[](const char*, auto&) {}});
};

template <class T, class U>
concept Is = std::is_same_v<std::remove_const_t<T>, U>;

void fields(Is<Quality> auto& q, auto&& visit) {
  visit("cosine", q.cosine)("norm_ratio", q.norm_ratio)("descent", q.descent)("error", q.error);
}

void fields(Is<Noise> auto& n, auto&& visit) {
  visit("bias", n.bias)("chance", n.chance)("own_variance", n.own_variance);
  visit("batch_variance", n.batch_variance)("exact_batch_variance", n.exact_batch_variance);
}

void fields(Is<Cost> auto& c, auto&& visit) {
  visit("forward_seconds", c.forward_seconds)("backward_seconds", c.backward_seconds);
  visit("forward_evaluations", c.forward_evaluations)("backward_evaluations", c.backward_evaluations);
  visit("peak_bytes", c.peak_bytes);
}

void fields(Is<FigureSummary> auto& f, auto&& visit) {
  visit("mean", f.mean)("largest", f.largest)("steps", f.steps);
}

void fields(Is<Probe> auto& p, auto&& visit) {
  visit("step", p.step)("seconds", p.seconds)("test_accuracy", p.test_accuracy)("test_loss", p.test_loss);
  visit("quality", p.quality)("radius_median", p.radius_median)("radius_largest", p.radius_largest);
  visit("forward_residual", p.forward_residual)("adjoint_residual", p.adjoint_residual);
  visit("figures", p.figures);
}

void fields(Is<SamePoint> auto& s, auto&& visit) {
  visit("step", s.step)("quality", s.quality)("cost", s.cost)("noise", s.noise);
}

void fields(Is<Convergence> auto& c, auto&& visit) {
  visit("median", c.median)("smallest", c.smallest)("largest", c.largest);
}

void fields(Is<RuleResult> auto& r, auto&& visit) {
  visit("spec", r.spec)("formula", r.formula)("paper", r.paper)("solver", r.solver)("random", r.random)(
      "probes", r.probes);
  visit("same_point", r.same_point)("convergence", r.convergence)("forward_statuses", r.forward_statuses);
  visit("gradient_kinds", r.gradient_kinds)("adjoint_statuses", r.adjoint_statuses);
  visit("figures", r.figures)("accuracy", r.accuracy)("failure", r.failure)("predictions", r.predictions);
}

Json to_json_value(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
template <class T>
Json to_json_value(const T& value);

template <class T>
Json to_json_value(const std::vector<T>& values) {
  Json list = Json::array();
  for (const T& value : values) list.push_back(to_json_value(value));
  return list;
}

template <class T>
Json to_json_value(const std::map<std::string, T>& values) {
  Json object = Json::object();
  for (const auto& [name, value] : values) object[name] = to_json_value(value);
  return object;
}

template <class T>
Json to_json_value(const T& value) {
  if constexpr (Fielded<const T>) {
    Json object = Json::object();
    fields(value, Visit{[&](const char* name, const auto& field) { object[name] = to_json_value(field); }});
    return object;
  } else {
    return Json(value);
  }
}

void read(const Json& json, double& value) { value = json.is_null() ? unknown : json.get<double>(); }
template <class T>
void read(const Json& json, T& value);

template <class T>
void read(const Json& json, std::vector<T>& values) {
  values.clear();
  for (const Json& item : json) read(item, values.emplace_back());
}

template <class T>
void read(const Json& json, std::map<std::string, T>& values) {
  values.clear();
  for (const auto& [name, item] : json.items()) read(item, values[name]);
}

template <class T>
void read(const Json& json, T& value) {
  if constexpr (Fielded<T>)
    fields(value, Visit{[&](const char* name, auto& field) { read(json.at(name), field); }});
  else
    value = json.get<T>();
}

Json object_of(const Entries& entries) {
  Json object = Json::object();
  for (const auto& [key, value] : entries) object[key] = value;
  return object;
}

// ---- statistics

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

std::string cell(double value) { return std::isfinite(value) ? fmt::format("{}", value) : ""; }

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

std::string to_text(const RuleResult& result) { return to_json_value(result).dump(); }

RuleResult from_text(const std::string& text) {
  try {
    RuleResult result;
    read(Json::parse(text), result);
    return result;
  } catch (const Json::exception& error) {
    fail<FileError>("checkpoint", fmt::format("its results cannot be read: {}", error.what()));
  }
}

std::string metrics_csv(const Results& results) {
  std::string csv =
      "rule,row,step,train_seconds,train_loss,test_loss,test_accuracy,cosine,norm_ratio,descent,error,"
      "forward_"
      "seconds,"
      "backward_seconds,forward_evaluations,backward_evaluations,peak_bytes,spectral_radius_median,"
      "spectral_radius_largest,exact_forward_residual,exact_adjoint_residual,bias,bias_by_chance,own_"
      "variance,"
      "batch_variance,exact_batch_variance\n";
  const auto cost = [](const Cost& c) {
    return fmt::format("{},{},{},{},{}", cell(c.forward_seconds), cell(c.backward_seconds),
                       cell(c.forward_evaluations), cell(c.backward_evaluations), cell(c.peak_bytes));
  };
  const auto quality = [](const Quality& q) {
    return fmt::format("{},{},{},{}", cell(q.cosine), cell(q.norm_ratio), q.descent ? 1 : 0, cell(q.error));
  };
  const auto noise = [](const Noise& n) {
    return fmt::format("{},{},{},{},{}", cell(n.bias), cell(n.chance), cell(n.own_variance),
                       cell(n.batch_variance), cell(n.exact_batch_variance));
  };
  for (const RuleResult& rule : results.rules) {
    double seconds = 0.0;
    for (std::size_t i = 0; i < rule.steps.size(); ++i) {
      const Step& s = rule.steps[i];
      seconds += s.seconds;
      csv += fmt::format("{},train,{},{},{},,,,,,,{},,,,,,,,,\n", rule.spec, i + 1, cell(seconds),
                         cell(s.loss), cost(s.cost));
    }
    for (const Probe& p : rule.probes)
      csv +=
          fmt::format("{},probe,{},{},,{},{},{},,,,,,{},{},{},{},,,,,\n", rule.spec, p.step, cell(p.seconds),
                      cell(p.test_loss), cell(p.test_accuracy), quality(p.quality), cell(p.radius_median),
                      cell(p.radius_largest), cell(p.forward_residual), cell(p.adjoint_residual));
    for (const SamePoint& s : rule.same_point)
      csv += fmt::format("{},same_point,{},,,,,{},{},,,,,{}\n", rule.spec, s.step, quality(s.quality),
                         cost(s.cost), noise(s.noise));
  }
  return csv;
}

std::string summary_json(const Results& results) {
  Json json;
  json["settings"] = object_of(results.settings);
  json["environment"] = object_of(results.environment);
  json["notices"] = warnings(results);
  json["parameters"] = results.parameters;
  json["training_images"] = results.training_images;
  json["test_images"] = results.test_images;
  json["rules"] = Json::array();
  const auto summary = [](const RuleResult::Summary& s) {
    return Json{{"cosine_mean", to_json_value(s.cosine_mean)},
                {"cosine_smallest", to_json_value(s.cosine_smallest)},
                {"norm_ratio_mean", to_json_value(s.norm_ratio_mean)},
                {"descent_share", to_json_value(s.descent_share)}};
  };
  for (const RuleResult& rule : results.rules) {
    Json entry;
    entry["rule"] = rule.spec;
    entry["formula"] = rule.formula;
    entry["solver"] = rule.solver;
    entry["test_accuracy"] = to_json_value(rule.accuracy);
    entry["final_loss"] = to_json_value(rule.final_loss(100));
    entry["steps"] = rule.steps.size();
    entry["steps_without_finite_loss"] = rule.steps_without_loss().size();
    entry["seconds"] = to_json_value(rule.seconds());
    entry["median_step"] = to_json_value(rule.median_cost());
    entry["along_own_training"] = summary(rule.own_summary());
    entry["at_the_same_points"] = summary(rule.same_point_summary());
    entry["bias_and_variance"] = to_json_value(rule.mean_noise());
    entry["forward_statuses"] = rule.forward_statuses;
    entry["gradient_kinds"] = rule.gradient_kinds;
    entry["adjoint_statuses"] = rule.adjoint_statuses;
    entry["figures"] = to_json_value(rule.figures);
    entry["failure"] = rule.failure;
    entry["convergence"] = to_json_value(rule.convergence);
    entry["probes"] = to_json_value(rule.probes);
    entry["same_point"] = to_json_value(rule.same_point);
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
