#include <apps/lab/logdet/command.hpp>

#include <limits>
#include <memory>

#include <CLI/CLI.hpp>

#include <apps/cli/check.hpp>
#include <apps/cli/common.hpp>
#include <apps/cli/environment.hpp>
#include <apps/cli/output.hpp>
#include <apps/cli/progress.hpp>
#include <apps/lab/known.hpp>
#include <apps/lab/logdet/page.hpp>

namespace banach::lab::logdet {
namespace {

struct LogdetOptions : KnownOptions {
  StudyOptions study;
};

void look(const LogdetOptions& o) {
  const std::vector<Problem> problems = chosen(known_problems(), o.problem);
  const cli::OutputFolder folder(o.out, {"report.html", "summary.json"});
  Results results{.environment = cli::environment(), .options = o.study};
  cli::Progress bar(static_cast<std::int64_t>(problems.size() * estimators().size()));
  std::int64_t done = 0;
  for (const Problem& problem : problems)
    results.studies.push_back(study(problem, o.study, [&](const std::string& estimator) {
      bar.update(++done, problem.name + ": " + estimator);
    }));
  cli::conclude(folder, outcome(results));
}

}  // namespace

cli::Subcommand add_logdet(CLI::App& lab) {
  CLI::App& command = cli::new_command(
      lab, "logdet",
      "Bias and variance of the estimators of log |det(I + J)|, on maps for\nwhich it is known");
  const auto o = std::make_shared<LogdetOptions>();
  o->out = "out/logdet";
  add_problem_option(command, *o, names_of(known_problems()));
  command.add_option("--draws", o->study.draws, "Draws of each estimator (default: 100000)")
      ->option_text("N")
      ->check(cli::whole_number(2, 100'000'000));
  command.add_option("--seed", o->study.seed, "Of all random numbers (default: 0)")
      ->option_text("N")
      ->check(cli::whole_number(0, std::numeric_limits<std::uint64_t>::max()));
  add_place_options(command, *o);
  return {&command, [o] {
            cli::use_threads(o->threads);
            look(*o);
          }};
}

}  // namespace banach::lab::logdet
