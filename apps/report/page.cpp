#include <apps/report/page.hpp>

#include <algorithm>
#include <cstddef>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include <apps/report/assets.hpp>
#include <apps/report/chart_html.hpp>
#include <apps/report/diagram.hpp>
#include <apps/report/html.hpp>

// The chart library, placed here by the build (see cmake/embed.cmake).
namespace banach::embedded {
extern const unsigned char chart_js[];
extern const std::size_t chart_js_size;
}  // namespace banach::embedded

namespace banach::report {
namespace {

std::string element(std::string_view tag, std::string_view css_class, const std::string& text) {
  if (text.empty()) return {};
  const std::string attribute = css_class.empty() ? "" : fmt::format(" class=\"{}\"", css_class);
  return fmt::format("<{}{}>{}</{}>\n", tag, attribute, escape_html(text), tag);
}

std::string heading(const std::string& text) { return element("h3", "", text); }

// ---- blocks

std::string html_of(const Text& text) {
  std::string html = "<div class=\"text\">";
  for (const std::string& paragraph : text.paragraphs) html += element("p", "", paragraph);
  return html + "</div>\n";
}

std::string html_of(const Callout& callout) {
  const bool warning = callout.tone == Callout::Tone::warning;
  const std::string_view tone = warning ? "warning" : callout.tone == Callout::Tone::good ? "good" : "note";
  const std::string title = callout.title.empty() ? (warning ? "Warning." : "Note.") : callout.title;
  return fmt::format("<aside class=\"panel callout {}\"><p><span class=\"word\">{}</span> {}</p></aside>\n",
                     tone, escape_html(title), escape_html(callout.text));
}

std::string html_of(const Settings& settings) {
  std::string html = fmt::format("<div class=\"panel{}\">{}<dl class=\"settings\">",
                                 settings.beside_figure ? " half" : "", heading(settings.title));
  for (const auto& [key, value] : settings.entries) {
    html += "<div><dt>" + escape_html(key) + "</dt><dd>" + escape_html(value) + "</dd></div>\n";
  }
  return html + "</dl></div>\n";
}

std::string html_of(const Code& code) {
  return "<div class=\"panel\">" + heading(code.title) + "<pre>" + escape_html(code.text) + "</pre></div>\n";
}

std::string_view align_class(const Table& table, std::size_t column) {
  using Align = Column::Align;
  const Align align = column < table.columns.size() ? table.columns[column].align : Align::automatic;
  if (align == Align::center) return " class=\"c\"";
  return align == Align::left || (align == Align::automatic && column == 0) ? " class=\"l\"" : "";
}

std::string table_head(const Table& table) {
  std::string html = "<thead><tr>";
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    const Column& column = table.columns[c];
    std::string name = escape_html(column.name);
    if (!column.tooltip.empty())
      name = "<abbr title=\"" + escape_html(column.tooltip) + "\">" + name + "</abbr>";
    if (!column.unit.empty()) name += " <span class=\"unit\">" + escape_html(column.unit) + "</span>";
    html += fmt::format("<th scope=\"col\"{}>{}</th>", align_class(table, c), name);
  }
  return html + "</tr></thead>\n";
}

std::string table_body(const Table& table) {
  const std::set<std::pair<std::size_t, std::size_t>> bold(table.emphasised.begin(), table.emphasised.end());
  std::string html = "<tbody>";
  for (std::size_t r = 0; r < table.rows.size(); ++r) {
    html += "<tr>";
    for (std::size_t c = 0; c < std::max(table.columns.size(), table.rows[r].size()); ++c) {
      std::string text = c < table.rows[r].size() ? escape_html(table.rows[r][c]) : "";
      if (bold.count({r, c}) > 0) text = "<strong>" + text + "</strong>";
      const std::string_view tag = c == 0 ? "th" : "td", scope = c == 0 ? " scope=\"row\"" : "";
      html += fmt::format("<{}{}{}>{}</{}>", tag, scope, align_class(table, c), text, tag);
    }
    html += "</tr>\n";
  }
  return html + "</tbody>";
}

std::string column_notes(const Table& table) {
  std::string html;
  for (const Column& column : table.columns) {
    if (column.tooltip.empty()) continue;
    html += "<dt>" + escape_html(column.name) + "</dt><dd>" + escape_html(column.tooltip) + "</dd>\n";
  }
  if (html.empty()) return html;
  return "<details class=\"note\"><summary>What the columns mean</summary><dl class=\"columns\">" + html +
         "</dl></details>\n";
}

std::string html_of(const Table& table) {
  const std::string name = escape_html(table.title.empty() ? "Table" : table.title);
  return "<div class=\"panel table\">" + heading(table.title) + element("p", "look", table.caption) +
         "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"" + name + "\"><table>" +
         table_head(table) + table_body(table) + "</table></div>\n" + column_notes(table) + "</div>\n";
}

/// Images too small to see are shown enlarged, by a whole factor and with sharp pixels.
std::string image(const Picture& picture) {
  constexpr int comfortable = 84, small = 100;
  const std::string& alt = picture.alt.empty() ? picture.title : picture.alt;
  if (!picture.svg.empty()) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(picture.svg.data());
    return fmt::format("<img src=\"{}\" alt=\"{}\" width=\"{}\">",
                       data_uri("image/svg+xml", {bytes, picture.svg.size()}), escape_html(alt),
                       picture.width);
  }
  const PngSize size = png_size(picture.png);
  int width = picture.width;
  if (width <= 0)
    width = size.width < small ? size.width * std::max(1, comfortable / std::max(1, size.width)) : size.width;
  return fmt::format("<img src=\"{}\" alt=\"{}\" width=\"{}\"{}>", data_uri("image/png", picture.png),
                     escape_html(alt), width, width > size.width ? " class=\"enlarged\"" : "");
}

std::string html_of(const Picture& picture) {
  return "<figure class=\"panel picture\">" + heading(picture.title) + image(picture) +
         (picture.caption.empty()
              ? ""
              : "<figcaption class=\"small\">" + escape_html(picture.caption) + "</figcaption>") +
         "</figure>\n";
}

std::string html_of(const PictureGrid& grid) {
  std::string html = "<div class=\"panel\">" + heading(grid.title) + element("p", "look", grid.caption) +
                     "<div class=\"pictures\">";
  for (const Picture& picture : grid.pictures) {
    html += "<figure>" + image(picture) + "<figcaption>" + escape_html(picture.title) +
            (picture.caption.empty() ? "" : "<span>" + escape_html(picture.caption) + "</span>") +
            "</figcaption></figure>\n";
  }
  return html + "</div></div>\n";
}

// ---- the page

/// Two neighbouring figures share a row; one that is wide, or left over at the end of a run, has it alone.
std::vector<bool> half_width_figures(const std::vector<Block>& blocks) {
  const auto narrow = [&](std::size_t i) {
    if (i >= blocks.size()) return false;
    if (const auto* chart = std::get_if<Chart>(&blocks[i])) return !chart->wide;
    if (const auto* settings = std::get_if<Settings>(&blocks[i])) return settings->beside_figure;
    return std::holds_alternative<Diagram>(blocks[i]);
  };
  std::vector<bool> half(blocks.size(), false);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (!narrow(i) || !narrow(i + 1)) continue;
    half[i] = half[i + 1] = true;
    ++i;
  }
  return half;
}

std::string section_html(const Section& section, const SeriesStyles& styles, const std::string& id,
                         int& chart_count) {
  std::string html = fmt::format("<section id=\"{}\">\n", id);
  html += element("h2", "", section.title) + element("p", "", section.intro) + "<div class=\"blocks\">\n";
  const std::vector<bool> half = half_width_figures(section.blocks);
  for (std::size_t i = 0; i < section.blocks.size(); ++i) {
    if (const Chart* chart = std::get_if<Chart>(&section.blocks[i])) {
      html += chart_html(*chart, styles, fmt::format("chart-{}", ++chart_count), half[i]);
      continue;
    }
    if (const Diagram* diagram = std::get_if<Diagram>(&section.blocks[i])) {
      html += diagram_html(*diagram, half[i]);
      continue;
    }
    html += std::visit(
        [](const auto& block) -> std::string {
          using Kind = std::decay_t<decltype(block)>;
          if constexpr (std::is_same_v<Kind, Chart> || std::is_same_v<Kind, Diagram>) {
            return {};  // done above
          } else {
            return html_of(block);
          }
        },
        section.blocks[i]);
  }
  return html + "</div>\n</section>\n";
}

/// An anchor for each section, made of its title, none twice.
std::vector<std::string> section_ids(const Page& page) {
  std::vector<std::string> ids;
  for (const Section& section : page.sections) {
    const std::string base = slug(section.title);
    std::string id = base;
    // Charts own `chart-1`, ... and the page `palette`.
    const auto taken = [&](const std::string& candidate) {
      return candidate == "palette" || candidate.starts_with("chart-") ||
             std::find(ids.begin(), ids.end(), candidate) != ids.end();
    };
    for (int n = 2; taken(id); ++n) id = fmt::format("part-{}-{}", base, n);
    ids.push_back(id);
  }
  return ids;
}

std::string header_html(const Page& page, const std::vector<std::string>& ids) {
  std::string html = "<header>\n" + element("p", "kicker", page.kicker) + element("h1", "", page.title) +
                     element("p", "subtitle", page.subtitle);
  if (!page.key_figures.empty()) {
    html += "<dl class=\"figures\">\n";
    for (const KeyFigure& figure : page.key_figures) {
      html += "<div>" + element("dt", "", figure.label) + element("dd", "value", figure.value) +
              element("dd", "note", figure.note) + "</div>\n";
    }
    html += "</dl>\n";
  }
  if (ids.size() > 1) {
    html += "<nav aria-label=\"Contents\"><ol>\n";
    for (std::size_t i = 0; i < ids.size(); ++i) {
      html += fmt::format("<li><a href=\"#{}\">{}</a></li>\n", ids[i], escape_html(page.sections[i].title));
    }
    html += "</ol></nav>\n";
  }
  return html + "</header>\n";
}

std::string palette_css() {
  std::string light, dark;
  for (std::size_t i = 0; i < palette.size(); ++i) {
    light += fmt::format("--c{}:{};", i, palette[i].light);
    dark += fmt::format("--c{}:{};", i, palette[i].dark);
  }
  return fmt::format(":root{{{}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{}}}}}\n", light,
                     dark);
}

std::string palette_json() {
  std::string json;
  for (const Hue& hue : palette) {
    json +=
        fmt::format("{}{{\"light\":\"{}\",\"dark\":\"{}\"}}", json.empty() ? "" : ",", hue.light, hue.dark);
  }
  return "[" + json + "]";
}

/// The policy makes the browser itself refuse any request, whatever the text of the report holds.
std::string head_html(const Page& page) {
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
         "style-src "
         "'unsafe-inline'; script-src 'unsafe-inline'\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<link rel=\"icon\" "
         "href=\"data:,\">\n" +
         element("title", "", page.title) + "<style>" + palette_css() + std::string(page_css) +
         "</style>\n<noscript><style>.plot { display: none; }</style></noscript>\n</head>\n";
}

std::string scripts_html() {
  const std::string_view library(reinterpret_cast<const char*>(embedded::chart_js), embedded::chart_js_size);
  std::string html =
      "<script type=\"application/json\" id=\"palette\">" + palette_json() + "</script>\n<script>";
  html += library;
  return html + "</script>\n<script>" + std::string(page_js) + "</script>\n";
}

}  // namespace

std::string render(const Page& page) {
  const SeriesStyles styles(page);
  const std::vector<std::string> ids = section_ids(page);
  std::string body;
  int chart_count = 0;
  for (std::size_t i = 0; i < page.sections.size(); ++i) {
    body += section_html(page.sections[i], styles, ids[i], chart_count);
  }
  std::string html = head_html(page) + "<body>\n" + header_html(page, ids) + "<main>\n";
  if (chart_count > 0) {
    html +=
        "<noscript><p>Charts are drawn by a script in this page, which does not run here. Every chart's "
        "numbers stand in "
        "the table under it.</p></noscript>\n";
  }
  html += body + "</main>\n";
  if (!page.footer.empty()) html += "<footer>" + element("p", "", page.footer) + "</footer>\n";
  if (chart_count > 0) html += scripts_html();
  return html + "</body>\n</html>\n";
}

}  // namespace banach::report
