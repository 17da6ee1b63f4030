#pragma once
// What was found about the estimators: as sentences, tables, a file and a page.

#include <apps/cli/run_notes.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/lab/logdet/study.hpp>
#include <apps/report/page.hpp>

namespace banach::lab::logdet {

struct Results {
  cli::Entries environment{};
  StudyOptions options{};
  std::vector<Study> studies{};
};

/// A number of which t statistics can be said: its mean should be known, and its variance be finite.
struct Tested {
  std::string problem{}, estimator{};
  bool derivative = false;
  double t = 0;
};
std::vector<Tested> tested(const Results& results);

/// What the numbers say, with their standard errors: of one problem, and of all, the t statistics first.
std::vector<std::string> findings(const Study& study);
std::vector<std::string> findings(const Results& results);
/// One row for each estimator on each problem.
cli::SummaryTable summary_table(const Results& results);
std::string summary_json(const Results& results);
report::Page make_page(const Results& results);

}  // namespace banach::lab::logdet
