#include <apps/cli/text_table.hpp>

#include <algorithm>

#include <fmt/format.h>

namespace banach::cli {

std::string text_table(const std::vector<std::string>& header,
                       const std::vector<std::vector<std::string>>& rows) {
  // In characters, not bytes: UTF-8 continuation bytes take no place.
  const auto width = [](const std::string& text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  };
  std::vector<std::size_t> widths;
  for (const std::string& name : header) widths.push_back(width(name));
  for (const auto& row : rows)
    for (std::size_t i = 0; i < std::min(row.size(), widths.size()); ++i)
      widths[i] = std::max(widths[i], width(row[i]));

  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      const std::string cell = i < cells.size() ? cells[i] : "";
      const std::string space(widths[i] - width(cell), ' ');
      text += i == 0 ? cell + space : "  " + space + cell;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text + "\n";
  };
  std::string table = line(header);
  for (const auto& row : rows) table += line(row);
  return table;
}

std::string text_table(const SummaryTable& table) {
  std::vector<std::string> header;
  for (const auto& [name, unit, tooltip] : table.head)
    header.push_back(unit.empty() ? name : fmt::format("{} ({})", name, unit));
  return text_table(header, table.rows);
}

report::Table page_table(const SummaryTable& table, const std::string& title, const std::string& caption) {
  report::Table result{.title = title, .caption = caption, .rows = table.rows};
  for (const auto& [name, unit, tooltip] : table.head) result.columns.push_back({name, unit, tooltip});
  return result;
}

}  // namespace banach::cli
