#include <apps/sudoku/drawing.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <apps/report/svg.hpp>

namespace banach::sudoku {
namespace {

constexpr int cell_width = 24, board_width = 4 * cell_width, gap = 18, label_height = 20;

constexpr const char* style =
    "text{font-size:15px}.name{font-size:13px}.given{font-weight:700}.guess{fill:#0072b2}.wrong{fill:#b03000}"
    ".bad{fill:#f9dcd0}.cross{stroke-width:1.2}"
    ".thin{stroke:#c3c8ce}.thick{stroke:#59626d;stroke-width:1.8;fill:none}"
    "@media(prefers-color-scheme:dark){.guess{fill:#6db7ec}.wrong{fill:#f0924d}.bad{fill:#4a2718}"
    ".thin{stroke:#434b55}.thick{stroke:#9ba5b0}}";

std::string board_svg(const std::string& name, const Board& board, const Example& example, int x, int y) {
  std::string svg = fmt::format("<text class=\"name\" x=\"{}\" y=\"{}\">{}</text>", x + board_width / 2,
                                y + label_height / 2, name);
  y += label_height;
  std::string lines;
  for (int i = 1; i < 4; ++i) {
    const char* kind = i == 2 ? "thick" : "thin";
    lines += fmt::format("<path class=\"{0}\" d=\"M{1} {2}v{3}M{4} {5}h{3}\"/>", kind, x + i * cell_width, y,
                         board_width, x, y + i * cell_width);
  }
  for (std::size_t i = 0; i < board.size(); ++i) {
    if (board[i] == 0) continue;
    const int left = x + static_cast<int>(i % 4) * cell_width, top = y + static_cast<int>(i / 4) * cell_width;
    const bool wrong = board[i] != example.solution[i];
    if (wrong)
      svg += fmt::format("<rect class=\"bad\" x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{2}\"/>{3}", left,
                         top, cell_width, report::svg_cross(left, top, cell_width));
    svg += fmt::format("<text class=\"{}\" x=\"{}\" y=\"{}\">{}</text>",
                       wrong                   ? "wrong"
                       : example.puzzle[i] > 0 ? "given"
                                               : "guess",
                       left + cell_width / 2, top + cell_width / 2 + 1, board[i]);
  }
  return svg + lines +
         fmt::format("<rect class=\"thick\" x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{2}\"/>", x, y,
                     board_width);
}

int wrong_cells(const Board& board, const Example& example) {
  int wrong = 0;
  for (std::size_t i = 0; i < board.size(); ++i) wrong += board[i] == example.solution[i] ? 0 : 1;
  return wrong;
}

}  // namespace

report::Picture draw_boards(const std::string& title, const Example& example,
                            const std::vector<NamedBoard>& predictions) {
  const int rows = static_cast<int>(predictions.size()) / 2 + 1;  // two in a row, the puzzle first
  const int width = 2 * board_width + gap + 2, height = rows * (board_width + label_height + 4);
  std::string body = board_svg("given", example.puzzle, example, 1, 0);
  std::vector<std::pair<std::string, int>> counts;
  for (std::size_t i = 0; i < predictions.size(); ++i) {
    const int place = static_cast<int>(i) + 1;
    body += board_svg(predictions[i].name, predictions[i].board, example, 1 + place % 2 * (board_width + gap),
                      place / 2 * (board_width + label_height + 4));
    counts.emplace_back(predictions[i].name, wrong_cells(predictions[i].board, example));
  }
  return report::svg_picture(title, report::wrong_in_words(counts), body, width, height, style);
}

report::Picture draw_matrix(const std::string& title, const Tensor& matrix, double reach) {
  const auto rows = static_cast<int>(matrix.size(0)), columns = static_cast<int>(matrix.size(1));
  std::vector<std::uint8_t> pixels;
  for (std::int64_t i = 0; i < matrix.size(); ++i) {
    const double value = std::clamp(matrix.at(i) / reach, -1.0, 1.0);
    // From white to the palette's blue or vermillion.
    const double to[3] = {value < 0 ? 0.0 : 213.0, value < 0 ? 114.0 : 94.0, value < 0 ? 178.0 : 0.0};
    for (const double channel : to)
      pixels.push_back(static_cast<std::uint8_t>(std::lround(255.0 + std::abs(value) * (channel - 255.0))));
  }
  return {.title = title, .png = report::encode_png(pixels, columns, rows, 3), .width = 5 * columns};
}

}  // namespace banach::sudoku
