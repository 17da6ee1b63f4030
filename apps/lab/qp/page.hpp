#pragma once
// What was found about the problems: as sentences, tables, a file and a page.

#include <apps/lab/options.hpp>
#include <apps/lab/qp/estimators.hpp>
#include <apps/lab/results.hpp>
#include <apps/report/page.hpp>

namespace banach::lab::qp {

struct Results {
  Entries environment{};
  std::vector<Study> studies{};
  std::vector<Estimates> estimates{};  ///< of those whose gradient is exact
};

/// What the numbers say.
std::vector<std::string> findings(const Results& results);
/// One row a problem.
cli::SummaryTable summary_table(const Results& results);
std::string summary_json(const Results& results);
report::Page make_page(const Results& results);

}  // namespace banach::lab::qp
