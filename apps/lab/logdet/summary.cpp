#include <cmath>

#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/lab/logdet/page.hpp>

namespace banach::lab::logdet {
namespace {

using Json = nlohmann::ordered_json;
using report::format_number;

Json moments_json(const Moments& m) {
  return {{"exact", m.exact},      {"expected", m.expected},    {"mean", m.mean},
          {"bias", m.bias()},      {"standard_error", m.error}, {"t", m.t()},
          {"bias_bound", m.bound}, {"variance", m.variance},    {"variance_standard_error", m.variance_error},
          {"draws", m.draws}};
}

Json measured_json(const Measured& m) {
  Json json{{"estimator", m.estimator.name},        {"products", m.products},
            {"value", moments_json(m.value)},       {"derivative", moments_json(m.derivative)},
            {"finite_variance", m.finite_variance}, {"said_infinite", m.told_infinite}};
  if (!m.running.empty()) json["running_variance"] = m.running;
  return json;
}

Json study_json(const Study& s) {
  Json json{{"name", s.problem.name},
            {"title", s.problem.title},
            {"dimensions", s.problem.d()},
            {"lipschitz", s.problem.lipschitz},
            {"spectral_radius", s.problem.radius()},
            {"eigenvalues", Json::array()},
            {"estimators", Json::array()}};
  for (const auto& z : s.problem.eigenvalues) json["eigenvalues"].push_back({z.real(), z.imag()});
  for (const Measured& m : s.measured) json["estimators"].push_back(measured_json(m));
  return json;
}

}  // namespace

cli::SummaryTable summary_table(const Results& results) {
  cli::SummaryTable table;
  table.head = {{"Estimator", "", ""},
                {"Products", "", "With J or its transpose, for one value"},
                {"Bias", "", "Of the value: mean less answer"},
                {"Error", "", "Standard error of the bias"},
                {"Bound", "", "That the bias cannot exceed"},
                {"t", "", "Mean less what it should be, in standard errors"},
                {"Variance", "", "Of one draw of the value; inf: by the spectral radius"},
                {"Variance of d/ds", "", "Of one draw of the derivative"}};
  const auto number = [](double x) { return std::isnan(x) ? "-" : format_number(x); };
  for (const Study& s : results.studies)
    for (const Measured& m : s.measured) {
      const bool finite = m.finite_variance;
      const std::string name =
          results.studies.size() == 1 ? m.estimator.name : s.problem.name + ": " + m.estimator.name;
      table.rows.push_back({name, number(m.products), number(m.value.bias()),
                            finite ? number(m.value.error) : "-", number(m.value.bound),
                            finite ? number(m.value.t()) : "-", finite ? number(m.value.variance) : "inf",
                            finite ? number(m.derivative.variance) : "inf"});
    }
  return table;
}

std::string summary_json(const Results& results) {
  Json json;
  json["environment"] = cli::object_of(results.environment);
  json["draws"] = results.options.draws;
  json["seed"] = results.options.seed;
  json["findings"] = findings(results);
  json["problems"] = Json::array();
  for (const Study& s : results.studies) json["problems"].push_back(study_json(s));
  return json.dump(1) + "\n";
}

}  // namespace banach::lab::logdet
