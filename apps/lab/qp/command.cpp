#include <apps/lab/qp/command.hpp>

#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <apps/cli/check.hpp>
#include <apps/cli/common.hpp>
#include <apps/cli/environment.hpp>
#include <apps/cli/output.hpp>
#include <apps/cli/progress.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/lab/qp/page.hpp>

namespace banach::lab::qp {
namespace {

struct QpOptions {
  std::string problem = "all", file, out = "out/qp";
  int threads = 0;
};

std::vector<std::string> problem_names() {
  std::vector<std::string> names{"all"};
  for (const Problem& problem : known_problems()) names.push_back(problem.name);
  return names;
}

std::vector<Problem> chosen(const QpOptions& o) {
  if (!o.file.empty()) return problems_of_file(o.file);
  std::vector<Problem> problems;
  for (const Problem& problem : known_problems())
    if (o.problem == "all" || o.problem == problem.name) problems.push_back(problem);
  return problems;
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
  cli::conclude(folder, {.summary_json = summary_json(results),
                         .page = make_page(results),
                         .table = cli::text_table(summary_table(results)),
                         .sentences = findings(results)});
}

}  // namespace

cli::Subcommand add_qp(CLI::App& lab) {
  CLI::App* command = lab.add_subcommand(
      "qp",
      "Draw quadratic programs in two variables and their derivatives, at regular\nand at degenerate points");
  command->get_formatter()->column_width(24);
  const auto o = std::make_shared<QpOptions>();
  std::string known;
  for (const std::string& name : problem_names()) known += (known.empty() ? "" : ", ") + name;
  CLI::Option* problem = command->add_option("--problem", o->problem, "Which one (default: all):\n" + known)
                             ->option_text("NAME")
                             ->check(cli::one_of(problem_names()));
  command
      ->add_option("--file", o->file,
                   "Your own instead: safetensors as of `banach qp`, of two variables,\nat most 12 problems")
      ->option_text("FILE")
      ->check(cli::path())
      ->excludes(problem);
  command->add_option("--out", o->out, "Folder for the results (default: out/qp)")
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

}  // namespace banach::lab::qp
