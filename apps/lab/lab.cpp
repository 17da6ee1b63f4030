#include <apps/lab/lab.hpp>

#include <cstdint>
#include <memory>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <apps/cli/environment.hpp>
#include <apps/cli/output.hpp>
#include <apps/cli/progress.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/lab/data.hpp>
#include <apps/lab/findings.hpp>
#include <apps/lab/linear.hpp>
#include <apps/lab/linear_page.hpp>
#include <apps/lab/logdet/command.hpp>
#include <apps/lab/options.hpp>
#include <apps/lab/page.hpp>
#include <apps/lab/qp/command.hpp>
#include <apps/lab/spectrum_command.hpp>
#include <apps/lab/train.hpp>
#include <apps/training/command.hpp>
#include <banach/engine/error.hpp>

namespace banach::lab {
namespace {

cli::Outcome tell(const Results& results) {
  std::vector<std::string> sentences = results.remarks;
  for (const std::string& text : warnings(results)) sentences.push_back(text);
  sentences.push_back(
      "Cosine, lowest, norm ratio and descent: beside the exact gradient, along each rule's own training.");
  cli::Outcome told = training::outcome(results);
  told.sentences = std::move(sentences);
  return told;
}

void train_rules(const Options& options) {
  parse_rules(options.rules.empty() ? std::vector<std::string>{"jfb"}
                                    : options.rules);  // complain before loading anything
  parse_solver(options.solver);
  const auto train_all = [&](const training::Place& place, Results& results) {
    const ChosenData data = choose_data(options);
    const TrainSettings settings = resolve(options, data.name, data.images.train.size());
    if (!data.notice.empty()) {
      results.notices.push_back(data.notice);
      cli::note(data.notice);
    }
    results.remarks = solver_notices(settings.rules, settings.solver);
    train(settings, data.images, place, results);
  };
  training::carry_out(options.common, "out/lab", &Results::rules, train_all, tell);
}

LinearResults with_progress(const LinearSettings& settings) {
  cli::Progress bar(static_cast<std::int64_t>(settings.rules.size()));
  return solve_linear_problem(settings, [&](std::size_t done, const std::string& now) {
    bar.update(static_cast<std::int64_t>(done), now);
  });
}

void solve_linear(const Options& options) {
  const std::string out = options.common.out.value_or("out/linear");
  const LinearSettings settings = resolve_linear(options);
  const cli::OutputFolder folder(out, {"report.html", "summary.json"});
  LinearResults results = with_progress(settings);
  results.environment = cli::environment();
  cli::conclude(
      folder, {.summary_json = summary_json(results), .page = make_page(results), .table = to_text(results)});
  if (!results.all_match()) throw Error("a rule does not match its closed form");
}

}  // namespace

cli::Subcommand add_lab(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("lab",
                         "Train an equilibrium classifier once for each backward rule and compare\n"
                         "their gradients: how close to the exact one, at what cost, for what accuracy");
  command->get_formatter()->column_width(24);
  const auto options = std::make_shared<Options>();
  add_options(*command, *options);
  const auto job = [options, command] {
    check_combinations(*command, *options);
    cli::use_threads(options->common.threads);
    if (options->problem)
      solve_linear(*options);
    else
      train_rules(*options);
  };
  return {command, job, {add_spectrum(*command), qp::add_qp(*command), logdet::add_logdet(*command)}};
}

}  // namespace banach::lab
