#include <apps/lab/logdet/command.hpp>

#include <limits>
#include <memory>

#include <CLI/CLI.hpp>

#include <apps/cli/check.hpp>
#include <apps/cli/common.hpp>
#include <apps/cli/environment.hpp>
#include <apps/cli/output.hpp>
#include <apps/cli/progress.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/lab/logdet/page.hpp>

namespace banach::lab::logdet {
namespace {

struct LogdetOptions {
  std::string problem = "all", out = "out/logdet";
  StudyOptions study;
  int threads = 0;
};

std::vector<std::string> problem_names() {
  std::vector<std::string> names{"all"};
  for (const Problem& problem : known_problems()) names.push_back(problem.name);
  return names;
}

void look(const LogdetOptions& o) {
  std::vector<Problem> problems;
  for (Problem& problem : known_problems())
    if (o.problem == "all" || o.problem == problem.name) problems.push_back(std::move(problem));
  const cli::OutputFolder folder(o.out, {"report.html", "summary.json"});
  Results results{.environment = cli::environment(), .options = o.study};
  cli::Progress bar(static_cast<std::int64_t>(problems.size() * estimators().size()));
  std::int64_t done = 0;
  for (const Problem& problem : problems)
    results.studies.push_back(study(problem, o.study, [&](const std::string& estimator) {
      bar.update(++done, problem.name + ": " + estimator);
    }));
  cli::conclude(folder, {.summary_json = summary_json(results),
                         .page = make_page(results),
                         .table = cli::text_table(summary_table(results)),
                         .sentences = findings(results)});
}

}  // namespace

cli::Subcommand add_logdet(CLI::App& lab) {
  CLI::App* command = lab.add_subcommand(
      "logdet", "Bias and variance of the estimators of log |det(I + J)|, on maps for\nwhich it is known");
  command->get_formatter()->column_width(24);
  const auto o = std::make_shared<LogdetOptions>();
  std::string known;
  for (const std::string& name : problem_names()) known += (known.empty() ? "" : ", ") + name;
  command->add_option("--problem", o->problem, "Which one (default: all):\n" + known)
      ->option_text("NAME")
      ->check(cli::one_of(problem_names()));
  command->add_option("--draws", o->study.draws, "Draws of each estimator (default: 100000)")
      ->option_text("N")
      ->check(cli::whole_number(2, 100'000'000));
  command->add_option("--seed", o->study.seed, "Of all random numbers (default: 0)")
      ->option_text("N")
      ->check(cli::whole_number(0, std::numeric_limits<std::uint64_t>::max()));
  command->add_option("--out", o->out, "Folder for the results (default: out/logdet)")
      ->option_text("DIR")
      ->check(cli::path());
  command->add_option("--threads", o->threads, "Threads, 0 for all cores (default)")
      ->option_text("N")
      ->check(cli::whole_number(0, 1024));
  return {command, [o] {
            cli::use_threads(o->threads);
            look(*o);
          }};
}

}  // namespace banach::lab::logdet
