#pragma once

#include <string>
#include <vector>

#include <apps/report/page.hpp>

namespace banach::cli {

/// Columns of text for a terminal: the first aligned left, the others right. Short rows end in empty cells.
std::string text_table(const std::vector<std::string>& header,
                       const std::vector<std::vector<std::string>>& rows);

/// The main numbers of a run, as printed at its end and shown on its page.
struct SummaryTable {
  struct Head {
    std::string name{}, unit{}, tooltip{};
  };
  std::vector<Head> head;
  std::vector<std::vector<std::string>> rows;
};
/// Names with their units in brackets; no tooltips.
std::string text_table(const SummaryTable& table);
/// For the page, which has the tooltips too.
report::Table page_table(const SummaryTable& table, const std::string& title,
                         const std::string& caption = "");

}  // namespace banach::cli
