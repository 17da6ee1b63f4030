#include <apps/copy/drawing.hpp>

#include <fmt/format.h>

#include <apps/copy/task.hpp>
#include <apps/report/svg.hpp>

namespace banach::copy_task {
namespace {

constexpr int cell = 26, name_width = 86, row_height = 32;

// Eight colours that differ in lightness too.
constexpr const char* colors[symbols] = {"#0072b2", "#e69f00", "#009e73", "#cc79a7",
                                         "#d55e00", "#56b4e9", "#8a6d3b", "#7b5ea7"};

constexpr const char* style =
    ".name{text-anchor:start}.box{fill:none;stroke:#c3c8ce}"
    "@media(prefers-color-scheme:dark){.box{stroke:#434b55}}";

std::string name_of(std::int64_t symbol) {
  return symbol < symbols ? std::string(1, static_cast<char>('A' + symbol)) : symbol == blank ? "_" : "?";
}

std::string cell_svg(int column, int top, std::int64_t symbol, double strength, bool wrong) {
  const int left = name_width + column * cell, middle = top + cell / 2;
  std::string svg;
  if (symbol < symbols)
    svg += fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" fill-opacity=\"{:.2f}\"/>", left, top,
        cell, cell, colors[symbol], 0.75 * strength);
  svg +=
      fmt::format("<rect class=\"box\" x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{2}\"/>", left, top, cell);
  svg += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>", left + cell / 2, middle, name_of(symbol));
  if (wrong) svg += report::svg_cross(left, top, cell);
  return svg;
}

}  // namespace

report::Picture draw_recalls(const std::string& title, const std::vector<std::int64_t>& asked,
                             const std::vector<NamedRecall>& recalls) {
  std::string body;
  std::vector<std::pair<std::string, int>> counts;
  const auto row = [&](int index, const std::string& name) {
    const int top = 1 + index * row_height;
    body += fmt::format("<text class=\"name\" x=\"0\" y=\"{}\">{}</text>", top + cell / 2, name);
    return top;
  };
  const int first = row(0, "given");
  for (std::size_t k = 0; k < asked.size(); ++k)
    body += cell_svg(static_cast<int>(k), first, asked[k], 1.0, false);
  for (std::size_t i = 0; i < recalls.size(); ++i) {
    const auto& [name, recall] = recalls[i];
    const int top = row(static_cast<int>(i) + 1, name);
    int wrong = 0;
    for (std::size_t k = 0; k < asked.size(); ++k) {
      const bool differs = recall.symbols[k] != asked[k];
      wrong += differs;
      body += cell_svg(static_cast<int>(k), top, recall.symbols[k], recall.probability[k], differs);
    }
    counts.emplace_back(name, wrong);
  }
  const int width = name_width + static_cast<int>(remembered) * cell + 2,
            height = (static_cast<int>(recalls.size()) + 1) * row_height;
  return report::svg_picture(title, report::wrong_in_words(counts), body, width, height, style);
}

}  // namespace banach::copy_task
