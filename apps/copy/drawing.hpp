#pragma once
// What models recall, drawn for the page.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <apps/copy/results.hpp>
#include <apps/report/page.hpp>

namespace banach::copy_task {

struct NamedRecall {
  std::string name;
  Recall recall;
};

/// One sequence: the symbols asked for and, below them, what each model said; the less likely it held the
/// right symbol, the paler the cell; crossed out where it said another one.
report::Picture draw_recalls(const std::string& title, const std::vector<std::int64_t>& asked,
                             const std::vector<NamedRecall>& recalls);

}  // namespace banach::copy_task
