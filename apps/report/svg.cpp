#include <apps/report/svg.hpp>

#include <fmt/format.h>

namespace banach::report {

Picture svg_picture(const std::string& title, const std::string& caption, const std::string& body, int width,
                    int height, const std::string& style) {
  constexpr const char* common =
      "text{font:13px system-ui,-apple-system,sans-serif;text-anchor:middle;dominant-baseline:central;"
      "fill:#1b1f24}.name{fill:#59626d}.cross{stroke:#b03000;stroke-width:1.6}"
      "@media(prefers-color-scheme:dark){text{fill:#e4e7ea}.name{fill:#9ba5b0}.cross{stroke:#f0924d}}";
  return {.title = title,
          .caption = caption,
          .alt = title + ": " + caption,
          .svg = fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\">"
                             "<style>{}{}</style>{}</svg>",
                             width, height, common, style, body),
          .width = width};
}

std::string svg_cross(int left, int top, int size) {
  return fmt::format("<path class=\"cross\" d=\"M{} {}l{} -{}\"/>", left + 3, top + size - 3, size - 6,
                     size - 6);
}

std::string wrong_in_words(const std::vector<std::pair<std::string, int>>& counts) {
  std::string text;
  for (const auto& [name, count] : counts)
    text += fmt::format("{}{} {}", text.empty() ? "wrong: " : ", ", name, count);
  return text;
}

}  // namespace banach::report
