#include <apps/report/chart_html.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/report/assets.hpp>
#include <apps/report/drawing.hpp>
#include <apps/report/html.hpp>
#include <banach/engine/error.hpp>

namespace banach::report {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t table_limit = 200;  // rows a series in the table of numbers
constexpr int table_digits = 6;

/// Ten digits: more than a screen can show, and half the bytes. What is not finite is null.
Json number(double value) {
  if (!std::isfinite(value)) return nullptr;
  return round_to_digits(value, 10);
}

const std::string& style_name(const Series& series) {
  return series.looks_like.empty() ? series.name : series.looks_like;
}

std::vector<int> dash_of(const Series& series, const SeriesStyle& style) {
  if (series.dashed) return style.dotted ? std::vector<int>{9, 3, 2, 3} : std::vector<int>{7, 4};
  return style.dotted ? std::vector<int>{2, 3} : std::vector<int>{};
}

/// Bars of one series that take the colours of their categories.
bool in_category_colors(const Chart& chart) {
  return chart.kind == Chart::Kind::bar && chart.color_by_category && chart.series.size() == 1;
}

/// The names whose styles a chart shows.
std::vector<std::string> style_names(const Chart& chart) {
  if (in_category_colors(chart)) return chart.categories;
  std::vector<std::string> names;
  for (const Series& series : chart.series) names.push_back(style_name(series));
  return names;
}

bool is_cloud(const Series& series, const Chart& chart) {
  return series.mark == Series::Mark::points ||
         (series.mark == Series::Mark::automatic && chart.kind == Chart::Kind::scatter);
}

void check(const Chart& chart) {
  for (const Series& series : chart.series) {
    check_lengths(series);
    if (chart.kind == Chart::Kind::bar && series.y.size() != chart.categories.size()) {
      fail<ValueError>("report", fmt::format("bars must have one value for each category: '{}' has {} for {}",
                                             series.name, series.y.size(), chart.categories.size()));
    }
  }
}

// ---- the data that the script draws

struct LeftOut {
  std::size_t not_finite = 0, not_positive = 0, given = 0, thinned = 0;
};

Json line_json(const Series& series, const Chart& chart, LeftOut& left_out) {
  const Drawing drawing = draw(series, chart);
  left_out.not_finite += drawing.not_finite;
  left_out.not_positive += drawing.not_positive;
  left_out.given += drawing.given;
  left_out.thinned = std::max(left_out.thinned, drawing.thinned ? drawing.given : 0);
  Json data = Json::array(), band = Json::array();
  for (const Point& point : drawing.points) {
    data.push_back(Json::array({number(point.x), number(point.y)}));
    if (!series.lo.empty()) band.push_back(Json::array({number(point.lo), number(point.hi)}));
  }
  Json json{{"mode", is_cloud(series, chart) ? "points" : "line"}, {"data", std::move(data)}};
  json["band"] = series.lo.empty() ? Json(nullptr) : std::move(band);
  json["thinned"] = drawing.thinned;
  return json;
}

Json bar_json(const Series& series, const Chart& chart, LeftOut& left_out) {
  constexpr double largest = 1e300;  // as in drawing.cpp
  Json data = Json::array(), band = Json::array();
  for (std::size_t i = 0; i < series.y.size(); ++i) {
    const double value = series.y[i];
    const bool finite = std::abs(value) <= largest, positive = !chart.log_y || value > 0;
    left_out.not_finite += !finite;
    left_out.not_positive += finite && !positive;
    data.push_back(finite && positive ? number(value) : Json(nullptr));
    if (series.lo.empty()) continue;
    const bool whole = std::abs(series.lo[i]) <= largest && std::abs(series.hi[i]) <= largest &&
                       (!chart.log_y || series.lo[i] > 0);
    band.push_back(whole ? Json::array({number(series.lo[i]), number(series.hi[i])})
                         : Json::array({nullptr, nullptr}));
  }
  left_out.given += series.y.size();
  Json json{{"mode", "bar"}, {"data", std::move(data)}};
  json["band"] = series.lo.empty() ? Json(nullptr) : std::move(band);
  return json;
}

/// Whether all of them are whole numbers, which an axis shows without fractions between.
bool all_whole(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(),
                     [](double v) { return !std::isfinite(v) || v == std::floor(v); });
}

Json axis_json(const std::string& label, bool log, const std::optional<Range>& range, bool whole) {
  Json json{{"label", label}, {"log", log}, {"whole", whole && !range}};
  const bool usable =
      range && std::isfinite(range->min) && std::isfinite(range->max) && range->min < range->max;
  if (usable && !(log && range->min <= 0)) {
    json["min"] = range->min;
    json["max"] = range->max;
  }
  return json;
}

Json chart_json(const Chart& chart, const SeriesStyles& styles, LeftOut& left_out) {
  static constexpr std::array<std::string_view, 3> kinds{"line", "scatter", "bar"};
  const bool bars = chart.kind == Chart::Kind::bar;
  const auto whole = [&](auto... values) {
    return std::all_of(chart.series.begin(), chart.series.end(),
                       [&](const Series& s) { return (all_whole(s.*values) && ...); });
  };
  Json json{{"kind", kinds[static_cast<std::size_t>(chart.kind)]},
            {"x", axis_json(chart.x_label, chart.log_x && !bars, chart.x_range, whole(&Series::x))},
            {"y", axis_json(chart.y_label, chart.log_y, chart.y_range,
                            whole(&Series::y, &Series::lo, &Series::hi))},
            {"horizontal", chart.horizontal},
            {"labels", chart.label_points},
            {"square", chart.square},
            {"categories", chart.categories},
            {"references", Json::array()},
            {"series", Json::array()}};
  for (const ReferenceLine& line : chart.references) {
    const bool along_x = line.axis == ReferenceLine::Axis::x;
    const bool log = along_x ? chart.log_x : chart.log_y;
    if (!std::isfinite(line.value) || (log && line.value <= 0)) continue;
    json["references"].push_back(
        {{"axis", along_x ? "x" : "y"}, {"value", line.value}, {"label", line.label}});
  }
  for (const Series& series : chart.series) {
    const bool by_category = in_category_colors(chart);
    const SeriesStyle style = by_category ? SeriesStyle{} : styles.of(series);
    Json one = bars ? bar_json(series, chart, left_out) : line_json(series, chart, left_out);
    one["name"] = series.name;
    one["hue"] = style.hue;
    one["marker"] = markers[style.marker];
    one["dash"] = dash_of(series, style);
    if (series.color) one["color"] = safe_color(*series.color);
    if (by_category) {
      for (const std::string& category : chart.categories) one["hues"].push_back(styles.of(category).hue);
    }
    json["series"].push_back(std::move(one));
  }
  return json;
}

// ---- the legend

std::string marker_svg(std::string_view marker) {
  if (marker == "circle") return R"(<circle cx="14" cy="6" r="3"/>)";
  if (marker == "rect") return R"(<rect x="11" y="3" width="6" height="6" stroke-width="1"/>)";
  if (marker == "triangle") return R"(<path stroke-width="1" d="M14 2l4 7h-8z"/>)";
  if (marker == "rectRot") return R"(<path stroke-width="1" d="M14 2l4 4-4 4-4-4z"/>)";
  if (marker == "crossRot") return R"(<path d="M11 3l6 6M17 3l-6 6"/>)";
  if (marker == "star") return R"(<path d="M11 3l6 6M17 3l-6 6M14 1.5v9M9.5 6h9"/>)";
  return R"(<path d="M14 2v8M10 6h8"/>)";
}

std::string swatch(const Series& series, const Chart& chart, const SeriesStyle& style) {
  std::string color = series.color ? safe_color(*series.color) : std::string{};
  if (color.empty()) color = fmt::format("var(--c{})", style.hue);
  std::string inside;
  if (chart.kind == Chart::Kind::bar) {
    inside = R"(<rect x="8" y="0" width="12" height="12" stroke="none"/>)";
  } else {
    if (!is_cloud(series, chart)) {
      const std::vector<int> dash = dash_of(series, style);
      inside =
          fmt::format(R"(<path d="M0 6h28"{}/>)",
                      dash.empty() ? "" : fmt::format(R"( stroke-dasharray="{}")", fmt::join(dash, " ")));
    }
    if (is_cloud(series, chart) || chart.kind != Chart::Kind::scatter)
      inside += marker_svg(markers[style.marker]);
  }
  return fmt::format(R"(<svg viewBox="0 0 28 12" aria-hidden="true" style="--c:{}">{}</svg>)", color, inside);
}

std::string legend_html(const Chart& chart, const SeriesStyles& styles) {
  if (chart.series.size() < 2) return {};
  constexpr std::size_t many = 8;
  std::string html =
      fmt::format("<ul class=\"legend{}\" aria-label=\"Series\">", chart.series.size() > many ? " many" : "");
  for (const Series& series : chart.series) {
    html += fmt::format(
        R"(<li><button type="button" aria-pressed="true" title="Click: hide or show. Double click: show )"
        R"(this one alone.">{}{}</button></li>)",
        swatch(series, chart, styles.of(series)), escape_html(series.name));
  }
  return html + "</ul>\n";
}

// ---- the table of numbers

std::string cell(double value) { return "<td>" + format_number(value, table_digits) + "</td>"; }

std::string value_cell(const Series& series, std::size_t i) {
  if (series.lo.empty()) return cell(series.y[i]);
  return fmt::format("<td>{} [{}, {}]</td>", format_number(series.y[i], table_digits),
                     format_number(series.lo[i], table_digits), format_number(series.hi[i], table_digits));
}

double x_at(const Series& series, std::size_t i) {
  return series.x.empty() ? static_cast<double>(i) : series.x[i];
}

/// At most table_limit of 0, ..., count - 1, evenly spread, with both ends.
std::vector<std::size_t> spread(std::size_t count) {
  std::vector<std::size_t> rows;
  const std::size_t shown = std::min(count, table_limit);
  for (std::size_t k = 0; k < shown; ++k) rows.push_back(shown == count ? k : k * (count - 1) / (shown - 1));
  return rows;
}

std::string head_cell(const std::string& text, std::string_view otherwise, std::string_view css_class = "") {
  return fmt::format(R"(<th scope="col"{}>{}</th>)", css_class, text.empty() ? otherwise : escape_html(text));
}

/// One row for each x (or category), one column for each series.
std::string shared_rows(const Chart& chart) {
  const bool bars = chart.kind == Chart::Kind::bar;
  std::string html = "<thead><tr>" + head_cell(chart.x_label, bars ? "" : "x", bars ? R"( class="l")" : "");
  for (const Series& series : chart.series) html += head_cell(series.name, escape_html(chart.y_label));
  html += "</tr></thead><tbody>";
  for (const std::size_t i : spread(chart.series.front().y.size())) {
    html += bars ? R"(<tr><th scope="row" class="l">)" + escape_html(chart.categories[i]) + "</th>"
                 : R"(<tr><th scope="row">)" + format_number(x_at(chart.series.front(), i), table_digits) +
                       "</th>";
    for (const Series& series : chart.series) html += value_cell(series, i);
    html += "</tr>\n";
  }
  return html + "</tbody>";
}

/// Series with their own x each: one under the other.
std::string separate_rows(const Chart& chart) {
  std::string html = "<thead><tr>" + head_cell({}, "Series", R"( class="l")") +
                     head_cell(chart.x_label, "x") + head_cell(chart.y_label, "y") + "</tr></thead><tbody>";
  for (const Series& series : chart.series) {
    for (const std::size_t i : spread(series.y.size())) {
      html += R"(<tr><th scope="row" class="l">)" + escape_html(series.name) + "</th>" +
              cell(x_at(series, i)) + value_cell(series, i) + "</tr>\n";
    }
  }
  return html + "</tbody>";
}

std::string numbers_html(const Chart& chart) {
  if (chart.series.empty()) return {};
  // NaN differs from itself: series with a NaN among their x simply get their own rows.
  const Series& first = chart.series.front();
  const bool shared = chart.kind == Chart::Kind::bar ||
                      std::all_of(chart.series.begin(), chart.series.end(), [&](const Series& series) {
                        return series.x == first.x && series.y.size() == first.y.size();
                      });
  std::size_t longest = 0;
  for (const Series& series : chart.series) longest = std::max(longest, series.y.size());
  std::string what = "The numbers";
  if (longest > table_limit) {
    what += fmt::format(" ({} of {} a series, evenly spread)", table_limit,
                        format_count(static_cast<std::int64_t>(longest)));
  }
  return fmt::format(
      "<details class=\"numbers\"><summary>{}</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"Numbers of the chart {}\"><table>{}</table></div></details>\n",
      what, escape_html(chart.title), shared ? shared_rows(chart) : separate_rows(chart));
}

// ---- words

std::string plural(std::size_t count, std::string_view singular, std::string_view several) {
  return fmt::format("{} {}", format_count(static_cast<std::int64_t>(count)),
                     count == 1 ? singular : several);
}

/// The note, and what of the data the drawing does not show.
std::string small_print(const Chart& chart, const LeftOut& left_out) {
  std::string words = escape_html(chart.note);
  const auto add = [&](const std::string& sentence) { words += (words.empty() ? "" : " ") + sentence; };
  const std::string of_all = " of " + plural(left_out.given, "value", "values");
  if (left_out.not_finite + left_out.not_positive == left_out.given) add("There is nothing to draw.");
  if (left_out.not_finite > 0) {
    add(format_count(static_cast<std::int64_t>(left_out.not_finite)) + of_all +
        (left_out.not_finite == 1 ? " is not finite and is left out." : " are not finite and are left out."));
  }
  if (left_out.not_positive > 0) {
    add(format_count(static_cast<std::int64_t>(left_out.not_positive)) + of_all +
        (left_out.not_positive == 1 ? " is not positive and has no place on a log axis."
                                    : " are not positive and have no place on a log axis."));
  }
  if (left_out.thinned > 0) {
    add(fmt::format(
        "Drawn from at most {} of up to {} points a series; the extremes of every stretch are kept.",
        drawn_limit, format_count(static_cast<std::int64_t>(left_out.thinned))));
  }
  return words.empty() ? words : "<p class=\"small\">" + words + "</p>\n";
}

/// What a screen reader says in place of the drawing.
std::string spoken(const Chart& chart) {
  static constexpr std::array<std::string_view, 3> kinds{"Line chart", "Scatter chart", "Bar chart"};
  std::string words = fmt::format("{}: {}.", kinds[static_cast<std::size_t>(chart.kind)], chart.title);
  if (!chart.y_label.empty()) words += " Vertical: " + chart.y_label + (chart.log_y ? ", logarithmic." : ".");
  if (!chart.x_label.empty())
    words += " Horizontal: " + chart.x_label + (chart.log_x ? ", logarithmic." : ".");
  for (std::size_t i = 0; i < chart.series.size(); ++i)
    words += (i == 0 ? " Series: " : ", ") + chart.series[i].name;
  return words + ". The numbers are in the table below.";
}

/// Horizontal bars need a height that grows with their number; a square is as high as it is wide.
std::string plot_style(const Chart& chart) {
  if (chart.square) return " style=\"aspect-ratio:1;height:auto\"";
  if (chart.kind != Chart::Kind::bar || !chart.horizontal) return {};
  const std::size_t bars = std::max<std::size_t>(1, chart.series.size());
  const std::size_t group = std::max<std::size_t>(34, 18 * bars + 8);
  return fmt::format(" style=\"--plot-height:max(17rem,{}px)\"", 80 + group * chart.categories.size());
}

}  // namespace

SeriesStyles::SeriesStyles(const Page& page) {
  std::vector<std::vector<std::string>> charts{page.series_order};
  for (const Section& section : page.sections) {
    for (const Block& block : section.blocks) {
      if (const Chart* chart = std::get_if<Chart>(&block)) charts.push_back(style_names(*chart));
    }
  }
  for (const auto& names : charts) {
    for (const std::string& name : names) add(name, charts);
  }
}

const SeriesStyle& SeriesStyles::of(const Series& series) const { return of(style_name(series)); }

/// The hue that fewest of the names met in some chart have, then that fewest names have at all.
void SeriesStyles::add(const std::string& name, const std::vector<std::vector<std::string>>& charts) {
  if (styles_.contains(name)) return;
  std::set<std::string> met;
  for (const auto& names : charts) {
    if (std::find(names.begin(), names.end(), name) != names.end()) met.insert(names.begin(), names.end());
  }
  std::array<std::pair<std::size_t, std::size_t>, palette.size()> uses{};  // among the names met, among all
  for (const auto& [other, style] : styles_) {
    uses[style.hue].first += met.count(other);
    ++uses[style.hue].second;
  }
  const std::size_t hue = static_cast<std::size_t>(std::min_element(uses.begin(), uses.end()) - uses.begin());
  styles_[name] = {hue, (hue + uses[hue].second) % markers.size(), uses[hue].first > 0};
}

std::string chart_html(const Chart& chart, const SeriesStyles& styles, const std::string& id,
                       bool half_width) {
  check(chart);
  LeftOut left_out;
  const Json json = chart_json(chart, styles, left_out);
  // ASCII only, and bytes that are not UTF-8 replaced: hostile text must neither end the script nor throw.
  const std::string data = json.dump(-1, ' ', true, Json::error_handler_t::replace);
  std::string html =
      fmt::format("<figure class=\"chart panel{}\" aria-labelledby=\"{}\">\n<h3 id=\"{}\">{}</h3>\n",
                  half_width ? " half" : "", id, id, escape_html(chart.title));
  if (!chart.look_for.empty())
    html += "<p class=\"look\"><b>Look for:</b> " + escape_html(chart.look_for) + "</p>\n";
  html += legend_html(chart, styles);
  html += fmt::format("<div class=\"plot\"{}><canvas role=\"img\" aria-label=\"{}\"></canvas></div>\n",
                      plot_style(chart), escape_html(spoken(chart)));
  html += small_print(chart, left_out);
  html += numbers_html(chart);
  return html + "<script type=\"application/json\">" + escape_json_for_script(data) +
         "</script>\n</figure>\n";
}

}  // namespace banach::report
