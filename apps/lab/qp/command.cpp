#include <apps/lab/qp/command.hpp>

#include <memory>

#include <CLI/CLI.hpp>

#include <apps/cli/check.hpp>
#include <apps/cli/common.hpp>
#include <apps/cli/environment.hpp>
#include <apps/cli/output.hpp>
#include <apps/cli/progress.hpp>
#include <apps/lab/known.hpp>
#include <apps/lab/qp/page.hpp>

namespace banach::lab::qp {
namespace {

struct QpOptions : KnownOptions {
  std::string file;
};

std::vector<Problem> chosen(const QpOptions& o) {
  return o.file.empty() ? lab::chosen(known_problems(), o.problem) : problems_of_file(o.file);
}

void look(const QpOptions& o) {
  const std::vector<Problem> problems = chosen(o);
  const cli::OutputFolder folder(o.out, {"report.html", "summary.json"});
  Results results{.environment = cli::environment()};
  cli::Progress bar(static_cast<std::int64_t>(problems.size()));
  for (const Problem& problem : problems) {
    results.studies.push_back(study(problem));
    if (exact(results.studies.back())) results.estimates.push_back(estimates(problem));
    bar.update(static_cast<std::int64_t>(results.studies.size()), problem.name);
  }
  cli::conclude(folder, outcome(results));
}

}  // namespace

cli::Subcommand add_qp(CLI::App& lab) {
  CLI::App& command = cli::new_command(
      lab, "qp",
      "Draw quadratic programs in two variables and their derivatives, at regular\nand at degenerate points");
  const auto o = std::make_shared<QpOptions>();
  o->out = "out/qp";
  CLI::Option* problem = add_problem_option(command, *o, names_of(known_problems()));
  command
      .add_option("--file", o->file,
                  "Your own instead: safetensors as of `banach qp`, of two variables,\nat most 12 problems")
      ->option_text("FILE")
      ->check(cli::path())
      ->excludes(problem);
  add_place_options(command, *o);
  return {&command, [o] {
            cli::use_threads(o->threads);
            look(*o);
          }};
}

}  // namespace banach::lab::qp
