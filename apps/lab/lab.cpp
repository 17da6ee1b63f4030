#include <apps/lab/lab.hpp>

#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <apps/cli/interrupt.hpp>
#include <apps/cli/output.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/lab/data.hpp>
#include <apps/lab/environment.hpp>
#include <apps/lab/findings.hpp>
#include <apps/lab/linear.hpp>
#include <apps/lab/linear_page.hpp>
#include <apps/lab/options.hpp>
#include <apps/lab/page.hpp>
#include <apps/lab/train.hpp>
#include <banach/engine/error.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/nn/file.hpp>

namespace banach::lab {
namespace {

void print_table(const Results& results) {
  const SummaryTable table = summary_table(results);
  std::vector<std::string> header;
  for (const SummaryTable::Head& head : table.head)
    header.push_back(head.unit.empty() ? head.name : fmt::format("{} ({})", head.name, head.unit));
  fmt::print("{}", cli::text_table(header, table.rows));
}

void train_rules(const Options& options) {
  const std::string out = options.common.out.value_or("out/lab");
  parse_rules(options.rules.empty() ? std::vector<std::string>{"jfb"}
                                    : options.rules);  // complain before loading anything
  parse_solver(options.solver);
  const cli::OutputFolder folder(out);
  const ChosenData data = choose_data(options);
  const TrainSettings settings = resolve(options, data.name, data.images.train.size());

  Results results;
  results.environment = environment();
  if (!data.notice.empty()) {
    results.notices.push_back(data.notice);
    std::fputs(("banach: " + data.notice + "\n").c_str(), stderr);
  }
  for (const Rule& rule : settings.rules)
    if (rule.needs_picard() && settings.solver != "picard")
      results.notices.push_back(
          fmt::format("{} solves by picard, not by {}: it differentiates through the iteration itself.",
                      rule.spec, settings.solver));
  const cli::Interrupt interrupt;
  const auto stop = [&] { return interrupt.requested(); };
  train(settings, data.images, folder.file("checkpoint.safetensors"), options.common.resume, stop, results);

  nn::write_atomically(folder.file("metrics.csv"), metrics_csv(results));
  nn::write_atomically(folder.file("summary.json"), summary_json(results));
  nn::write_atomically(folder.file("report.html"), report::render(make_page(results)));
  print_table(results);
  fmt::print("\n");
  for (const std::string& text : warnings(results)) fmt::print("{}\n", text);
  fmt::print(
      "Cosine, lowest, norm ratio and descent: beside the exact gradient, along each rule's own training.\n"
      "{0}/report.html, summary.json, metrics.csv, checkpoint.safetensors\n",
      out);
}

void solve_linear(const Options& options) {
  const std::string out = options.common.out.value_or("out/linear");
  if (options.common.resume)
    throw cli::UsageError("--resume: there is nothing to resume with --problem linear");
  const LinearSettings settings = resolve_linear(options);
  const cli::OutputFolder folder(out);
  LinearResults results = solve_linear_problem(settings);
  results.environment = environment();
  nn::write_atomically(folder.file("summary.json"), summary_json(results));
  nn::write_atomically(folder.file("report.html"), report::render(make_page(results)));
  fmt::print("{}\n{}/report.html, summary.json\n", to_text(results), out);
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
  const auto job = [options] {
    set_threads(options->common.threads);
    if (options->problem)
      solve_linear(*options);
    else
      train_rules(*options);
  };
  return {command, job};
}

}  // namespace banach::lab
