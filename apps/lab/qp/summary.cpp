#include <cmath>

#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/lab/qp/diagrams.hpp>
#include <apps/lab/qp/page.hpp>

namespace banach::lab::qp {
namespace {

using Json = nlohmann::ordered_json;

Json data_json(const QpData& data) {
  Json json;
  const auto put = [&](const char* name, const Tensor& t) {
    if (!t.defined()) return;
    json[name] = Json::array();
    for (std::int64_t i = 0; i < t.size(); ++i) json[name].push_back(t.at(i));
  };
  put("Q", data.Q), put("p", data.p), put("G", data.G), put("h", data.h), put("A", data.A), put("b", data.b);
  return json;
}

Json gradient_json(const GradientStatus& status) {
  return {{"kind", name(status.kind)},
          {"forward", name(status.forward)},
          {"adjoint", name(status.adjoint)},
          {"adjoint_residual", status.adjoint_residual}};
}

Json derivative_json(const Derivative& d) {
  return {{"by", d.by},
          {"reported", d.reported},
          {"right", d.right},
          {"left", d.left},
          {"step", d.step},
          {"unit", d.unit},
          {"largest_difference", d.largest_difference()}};
}

Json path_json(const PathPoint& p) {
  return {{"t", p.t},           {"status", name(p.status)}, {"gradient", name(p.gradient)}, {"z", p.z},
          {"lambda", p.lambda}, {"reported", p.reported},   {"difference", p.difference}};
}

Json study_json(const Study& s) {
  Json json{{"name", s.problem.name},
            {"title", s.problem.title},
            {"data", data_json(s.problem.data)},
            {"status", name(s.report.status)},
            {"steps", s.report.steps},
            {"objective", s.report.objective},
            {"residuals", {{"primal", s.report.primal}, {"dual", s.report.dual}, {"gap", s.report.gap}}},
            {"z", s.z},
            {"nu", s.nu},
            {"lambda", s.lambda},
            {"slack", s.slack},
            {"active", s.active},
            {"weakly_active", s.weak},
            {"free_optimum", s.free_optimum ? Json(*s.free_optimum) : Json(nullptr)},
            {"gradient", {{"z1", gradient_json(s.gradient[0])}, {"z2", gradient_json(s.gradient[1])}}},
            {"derivatives", Json::array()},
            {"path", Json::array()}};
  for (const Derivative& d : s.derivatives) json["derivatives"].push_back(derivative_json(d));
  for (const PathPoint& p : s.path) json["path"].push_back(path_json(p));
  return json;
}

Json estimates_json(const Estimates& estimates) {
  Json json{{"problem", estimates.problem},
            {"forward_steps", estimates.forward_steps},
            {"rate", estimates.rate},
            {"converged", estimates.converged},
            {"estimates", Json::array()}};
  for (const Estimate& e : estimates.all)
    json["estimates"].push_back(
        {{"rule", e.rule}, {"steps", e.steps}, {"error", e.error}, {"cosine", e.cosine}});
  return json;
}

/// The constraints of which `marked` is true, from 1.
std::string members(const std::vector<bool>& marked) {
  std::string words;
  for (std::size_t i = 0; i < marked.size(); ++i)
    if (marked[i]) words += (words.empty() ? "" : ", ") + std::to_string(i + 1);
  return words.empty() ? "-" : words;
}

}  // namespace

cli::SummaryTable summary_table(const Results& results) {
  cli::SummaryTable table;
  table.head = {
      {"Problem", "", ""},
      {"Status", "", "How the problem ended"},
      {"Gradient", "", "What kind of derivative dz is; of z1 and z2, where they differ"},
      {"z", "", "The solution"},
      {"Active", "", "Constraints with a multiplier, from 1"},
      {"Weakly", "", "Constraints with neither multiplier nor slack"},
      {"Off", "",
       "Largest distance of what is reported from a difference of solutions to either side, in parts "
       "of the drawing; only of entries that have both"}};
  for (const Study& s : results.studies) {
    double largest = s.solved() ? 0.0 : NAN;
    for (const Derivative& d : s.derivatives)
      if (const double off = d.largest_difference(); off > largest) largest = off;
    table.rows.push_back({s.problem.name, std::string(name(s.report.status)), gradient_words(s),
                          s.solved() ? pair_words(s.z, s.view.reach) : "-", members(s.active),
                          members(s.weak), std::isnan(largest) ? "-" : report::format_number(largest, 2)});
  }
  return table;
}

std::string summary_json(const Results& results) {
  Json json;
  json["environment"] = cli::object_of(results.environment);
  json["relative_difference_step"] = difference_step;
  json["findings"] = findings(results);
  json["problems"] = Json::array();
  for (const Study& s : results.studies) json["problems"].push_back(study_json(s));
  json["estimates"] = Json::array();
  for (const Estimates& e : results.estimates) json["estimates"].push_back(estimates_json(e));
  return json.dump(1) + "\n";
}

}  // namespace banach::lab::qp
