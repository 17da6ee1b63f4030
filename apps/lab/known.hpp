#pragma once
// What the commands of the lab that look at problems of known answers have in common: which of them, where
// to, by how many threads, and the end.

#include <string>
#include <utility>
#include <vector>

#include <apps/cli/output.hpp>
#include <apps/cli/text_table.hpp>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace banach::lab {

struct KnownOptions {
  std::string problem = "all", out;
  int threads = 0;
};

/// Declares --problem: one of those that have these names, or all.
CLI::Option* add_problem_option(CLI::App& command, KnownOptions& options, std::vector<std::string> names);
/// Declares --out, with the options' own as its default, and --threads.
void add_place_options(CLI::App& command, KnownOptions& options);

template <class Problem>
std::vector<std::string> names_of(const std::vector<Problem>& problems) {
  std::vector<std::string> names;
  for (const Problem& problem : problems) names.push_back(problem.name);
  return names;
}

/// The one of this name, or all.
template <class Problem>
std::vector<Problem> chosen(std::vector<Problem> known, const std::string& name) {
  std::vector<Problem> problems;
  for (Problem& problem : known)
    if (name == "all" || name == problem.name) problems.push_back(std::move(problem));
  return problems;
}

/// What was found, by the functions that each command has for its Results.
template <class Results>
cli::Outcome outcome(const Results& results) {
  return {.summary_json = summary_json(results),
          .page = make_page(results),
          .table = cli::text_table(summary_table(results)),
          .sentences = findings(results)};
}

}  // namespace banach::lab
