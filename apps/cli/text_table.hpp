#pragma once

#include <string>
#include <vector>

namespace banach::cli {

/// Columns of text for a terminal: the first aligned left, the others right. Short rows end in empty cells.
std::string text_table(const std::vector<std::string>& header,
                       const std::vector<std::vector<std::string>>& rows);

}  // namespace banach::cli
