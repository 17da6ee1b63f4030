#include <apps/denoise/results.hpp>

#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/denoise/models.hpp>
#include <apps/denoise/signals.hpp>
#include <apps/report/format.hpp>

namespace banach::denoise {

using Json = nlohmann::ordered_json;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Epoch, epoch, train_error, test_error, seconds)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MethodResult, name, parameters, epochs, test_seconds, solve_statuses,
                                   gradient_kinds, test_statuses, failure, shown)

const MethodResult* Results::find(const std::string& name) const {
  for (const MethodResult& method : methods)
    if (method.name == name && !method.epochs.empty()) return &method;
  return nullptr;
}

std::string to_text(const MethodResult& result) { return nlohmann::json(result).dump(); }

MethodResult from_text(const std::string& text) {
  MethodResult result;
  cli::read_results(text, [&](const nlohmann::json& json) { json.get_to(result); });
  return result;
}

std::string metrics_csv(const Results& results) {
  std::string csv = "method,epoch,train_error,test_error,train_seconds\n";
  for (const MethodResult& method : results.methods)
    for (const Epoch& e : method.epochs)
      csv += fmt::format("{},{},{},{},{}\n", method.name, e.epoch,
                         e.epoch == 0 ? "" : fmt::format("{}", e.train_error), e.test_error, e.seconds);
  return csv;
}

double gain(const Results& results, const std::string& method) {
  const MethodResult *one = results.find(method), *tv = results.find("tv");
  return one && tv ? 1.0 - one->error() / tv->error() : std::numeric_limits<double>::quiet_NaN();
}

std::string summary_json(const Results& results) {
  Json json;
  json["settings"] = cli::object_of(results.settings);
  json["environment"] = cli::object_of(results.environment);
  json["notices"] = warnings(results);
  json["test_signals"] = results.test_signals;
  json["error_of_noisy_signals"] = results.noisy_error;
  json["error_with_known_breakpoints"] = results.known_breakpoints_error;
  json["lambda"] = results.lambda;
  json["lambda_candidates"] = Json::array();
  for (const Candidate& c : results.candidates)
    json["lambda_candidates"].push_back({{"lambda", c.lambda}, {"validation_error", c.error}});
  json["methods"] = Json::array();
  for (const MethodResult& method : results.methods) {
    const double over = gain(results, method.name);
    json["methods"].push_back({{"method", method.name},
                               {"description", description(method.name)},
                               {"test_error", method.error()},
                               {"better_than_tv", over},
                               {"error_in_paper", error_in_paper(method.name)},
                               {"parameters", method.parameters},
                               {"train_seconds", method.seconds()},
                               {"test_seconds_a_signal", method.test_seconds},
                               {"solve_statuses", method.solve_statuses},
                               {"gradient_kinds", method.gradient_kinds},
                               {"test_solve_statuses", method.test_statuses},
                               {"failure", method.failure},
                               {"epochs", nlohmann::json(method.epochs)}});
  }
  return json.dump(2) + "\n";
}

cli::SummaryTable summary_table(const Results& results) {
  cli::SummaryTable table;
  table.head = {{"method", "", "as given to --methods"},
                {"test error", "", "mean squared error on the test signals, at the end of training"},
                {"beside tv", "", "how much smaller the error is than total variation's"},
                {"in the paper", "", "the test error in Amos and Kolter 2017, on signals of their own"},
                {"parameters", "", "trained ones"},
                {"training", "s", "of all steps, tests not counted"},
                {"a signal", "ms", "to denoise it, in batches, when tested"}};
  for (const MethodResult& method : results.methods) {
    const double over = gain(results, method.name), paper = error_in_paper(method.name);
    table.rows.push_back(
        {method.name, report::format_fixed(method.error(), 2),
         method.name == "tv" || std::isnan(over) ? "" : fmt::format("{:+.1f} %", -100.0 * over),
         std::isnan(paper) ? "" : report::format_fixed(paper, 1), report::format_count(method.parameters),
         report::format_fixed(method.seconds(), 1), report::format_fixed(1e3 * method.test_seconds, 3)});
  }
  return table;
}

}  // namespace banach::denoise
