#include <apps/report/format.hpp>
#include <apps/report/html.hpp>
#include <apps/report/page.hpp>
#include <apps/report/png.hpp>
#include <apps/report/svg.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <banach/engine/error.hpp>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <zlib.h>

namespace banach::embedded {
extern const unsigned char chart_js[];
extern const std::size_t chart_js_size;
}  // namespace banach::embedded

namespace {

using namespace banach::report;
using Json = nlohmann::json;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();

std::size_t count(std::string_view text, std::string_view word) {
  std::size_t found = 0;
  for (std::size_t at = text.find(word); at != text.npos; at = text.find(word, at + word.size())) ++found;
  return found;
}

bool contains(std::string_view text, std::string_view word) { return text.find(word) != text.npos; }

Page page_of(std::vector<Block> blocks) {
  Page page{.title = "Page"};
  page.sections.push_back({.title = "Section", .intro = {}, .blocks = std::move(blocks)});
  return page;
}

/// The page without the chart library.
std::string without_library(std::string html) {
  const std::string_view library(reinterpret_cast<const char*>(banach::embedded::chart_js),
                                 banach::embedded::chart_js_size);
  const std::size_t at = html.find(library);
  REQUIRE(at != html.npos);
  return html.erase(at, library.size());
}

/// The data of all charts, in the order of the page, read back as a browser would.
std::vector<Json> charts_of(const std::string& html) {
  const std::string open = "<script type=\"application/json\">", close = "</script>";
  std::vector<Json> charts;
  for (std::size_t at = html.find(open); at != html.npos; at = html.find(open, at)) {
    at += open.size();
    const std::size_t end = html.find(close, at);
    REQUIRE(end != html.npos);
    charts.push_back(Json::parse(html.substr(at, end - at)));
  }
  return charts;
}

Json chart_of(const Chart& chart) { return charts_of(render(page_of({chart}))).at(0); }

std::vector<double> ramp(std::size_t size) {
  std::vector<double> values(size);
  for (std::size_t i = 0; i < size; ++i) values[i] = static_cast<double>(i);
  return values;
}

std::vector<double> drawn_y(const Json& series) {
  std::vector<double> values;
  for (const Json& point : series["data"])
    values.push_back(point[1].is_null() ? not_a_number : point[1].get<double>());
  return values;
}

std::uint32_t u32(const std::vector<std::uint8_t>& bytes, std::size_t at) {
  return static_cast<std::uint32_t>(bytes.at(at) << 24 | bytes.at(at + 1) << 16 | bytes.at(at + 2) << 8 |
                                    bytes.at(at + 3));
}

/// Pixels of a PNG without row filters; checks every chunk's CRC on the way.
std::vector<std::uint8_t> decode(const std::vector<std::uint8_t>& png, std::size_t row_bytes,
                                 std::size_t height) {
  std::vector<std::uint8_t> packed;
  std::string types;
  for (std::size_t at = 8; at < png.size();) {
    const std::size_t length = u32(png, at);
    const std::string type(png.begin() + at + 4, png.begin() + at + 8);
    types += type;
    REQUIRE(crc32(0, png.data() + at + 4, static_cast<uInt>(length + 4)) == u32(png, at + 8 + length));
    if (type == "IDAT") packed.insert(packed.end(), png.begin() + at + 8, png.begin() + at + 8 + length);
    at += 12 + length;
  }
  REQUIRE(types == "IHDRIDATIEND");
  std::vector<std::uint8_t> rows((row_bytes + 1) * height), pixels;
  uLongf size = rows.size();
  REQUIRE(uncompress(rows.data(), &size, packed.data(), packed.size()) == Z_OK);
  REQUIRE(size == rows.size());
  for (std::size_t row = 0; row < height; ++row) {
    const auto start = rows.begin() + static_cast<std::ptrdiff_t>(row * (row_bytes + 1));
    REQUIRE(*start == 0);
    pixels.insert(pixels.end(), start + 1, start + 1 + static_cast<std::ptrdiff_t>(row_bytes));
  }
  return pixels;
}

/// A page that holds `text` wherever a caller can put text.
Page page_full_of(const std::string& text) {
  const std::vector<std::uint8_t> pixel{7};
  Page page{.kicker = text,
            .title = text,
            .subtitle = text,
            .key_figures = {{text, text, text}},
            .series_order = {text},
            .footer = text};
  Chart line{.title = text,
             .look_for = text,
             .x_label = text,
             .y_label = text,
             .series = {{.name = text, .y = {1, 2}}, {.name = "b", .x = {3, 4}, .y = {1, 2}}},
             .references = {{1, text}},
             .note = text};
  line.series[0].color = text;
  const Chart bars{.title = text,
                   .kind = Chart::Kind::bar,
                   .series = {{.name = text, .y = {1}}},
                   .categories = {text},
                   .color_by_category = true};
  const Picture picture{.title = text, .caption = text, .alt = text, .png = encode_png(pixel, 1, 1)};
  const Table table{.title = text,
                    .caption = text,
                    .columns = {{.name = text, .unit = text, .tooltip = text}},
                    .rows = {{text}}};
  page.sections.push_back({text,
                           text,
                           {Text{{text}}, Callout{text, text}, Settings{text, {{text, text}}}, line, bars,
                            table, picture, PictureGrid{text, text, {picture}}, Code{text, text}}});
  return page;
}

}  // namespace

TEST_CASE("numbers are formatted compactly", "[report]") {
  CHECK(format_number(0) == "0");
  CHECK(format_number(-0.0) == "0");
  CHECK(format_number(0.9) == "0.9");
  CHECK(format_number(0.98765) == "0.988");
  CHECK(format_number(12345) == "12345");
  CHECK(format_number(12345.6) == "12346");
  CHECK(format_number(-1234.56, 5) == "-1234.6");
  CHECK(format_number(1.234e-5) == "1.23e-05");
  CHECK(format_number(0.001) == "0.001");
  CHECK(format_number(0.00099999) == "0.001");
  CHECK(format_number(9.999, 3) == "10");
  CHECK(format_number(2.5e7) == "2.5e+07");
  CHECK(format_number(not_a_number) == "nan");
  CHECK(format_number(-inf) == "-inf");
  CHECK(format_number(std::numeric_limits<double>::max()) == "1.8e+308");
  CHECK(format_number(std::numeric_limits<double>::denorm_min(), 2) == "4.9e-324");
  CHECK(round_to_digits(0.123456789, 4) == 0.1235);
  CHECK(format_si(0.0123, "s") == "12.3 ms");
  CHECK(format_si(0.99996, "s") == "1 s");
  CHECK(format_si(1234567, "B/s") == "1.23 MB/s");
  CHECK(format_si(-4.2e-7, "s") == "-420 ns");
  CHECK(format_si(0.001, "s") == "1 ms");
  CHECK(format_si(1000, "g") == "1 kg");
  CHECK(format_si(0, "s") == "0 s");
  CHECK(format_si(not_a_number, "s") == "nan s");
  CHECK(format_si(1e-30, "s") == "1e-30 s");
  CHECK(format_bytes(512) == "512 B");
  CHECK(format_bytes(4.5 * 1024 * 1024) == "4.5 MiB");
  CHECK(format_bytes(1023.9) == "1 KiB");
  CHECK(format_bytes(256.0 * 1024) == "256 KiB");
  CHECK(format_duration(0.0042) == "4.2 ms");
  CHECK(format_duration(59.7) == "1 min 00 s");
  CHECK(format_duration(185) == "3 min 05 s");
  CHECK(format_duration(3720) == "1 h 02 min");
  CHECK(format_percent(0.8731) == "87.3 %");
  CHECK(format_percent(not_a_number) == "nan");
  CHECK(format_fixed(0.5, 3) == "0.500");
  CHECK(format_fixed(-not_a_number, 3) == "nan");
  CHECK(format_count(60000) == "60,000");
  CHECK(format_count(-1234567) == "-1,234,567");
  CHECK(format_count(-123) == "-123");
}

TEST_CASE("a PNG holds the pixels it was made of", "[report]") {
  const int channels = GENERATE(1, 3);
  const int width = GENERATE(1, 5, 28), height = GENERATE(1, 7);
  const std::size_t row = static_cast<std::size_t>(width * channels);
  std::vector<std::uint8_t> pixels(row * static_cast<std::size_t>(height));
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * i * 31 + 3);
  const auto png = encode_png(pixels, width, height, channels);
  CHECK(png_size(png).width == width);
  CHECK(png_size(png).height == height);
  CHECK(png.at(24) == 8);                        // bits
  CHECK(png.at(25) == (channels == 3 ? 2 : 0));  // colour type
  CHECK(decode(png, row, static_cast<std::size_t>(height)) == pixels);
}

TEST_CASE("images of a wrong size are refused", "[report]") {
  const std::vector<std::uint8_t> pixels(6);
  CHECK_THROWS_WITH(encode_png(pixels, 2, 2), Catch::Contains("= 4 bytes: 6"));
  CHECK_THROWS_AS(encode_png(pixels, 3, 1, 2), banach::ValueError);
  CHECK_THROWS_AS(encode_png({}, 0, 0), banach::ValueError);
  CHECK_THROWS_WITH(render(page_of({Picture{.png = pixels}})), Catch::Contains("must be a PNG"));
}

TEST_CASE("gray levels are clamped and rounded", "[report]") {
  const std::vector<float> values{-1, 0, 0.5, 1, 2, std::numeric_limits<float>::quiet_NaN()};
  CHECK(gray_levels(values) == std::vector<std::uint8_t>{0, 0, 128, 255, 255, 0});
  CHECK(gray_levels(values, 1, 1) == std::vector<std::uint8_t>(6, 0));
}

TEST_CASE("base64 follows RFC 4648, section 10", "[report]") {
  const auto encoded = [](std::string_view text) {
    const std::vector<std::uint8_t> bytes(text.begin(), text.end());
    return data_uri("a/b", bytes).substr(std::string_view("data:a/b;base64,").size());
  };
  CHECK(encoded("") == "");
  CHECK(encoded("f") == "Zg==");
  CHECK(encoded("fo") == "Zm8=");
  CHECK(encoded("foo") == "Zm9v");
  CHECK(encoded("foob") == "Zm9vYg==");
  CHECK(encoded("foobar") == "Zm9vYmFy");
}

TEST_CASE("hostile text neither becomes markup nor is lost", "[report]") {
  const std::string hostile = "</script><script>alert(1)</script><!-- \"quoted' & \xe2\x80\xa8 {}";
  const std::string html = render(page_full_of(hostile));
  const std::string own = without_library(html);
  CHECK_FALSE(contains(own, "<script>alert"));
  CHECK_FALSE(contains(own, "<!--"));
  CHECK(count(own, "\"quoted") == count(own, "\\\"quoted"));  // only in JSON, as \"
  // Two charts, the palette, the library and the page's own script.
  CHECK(count(own, "<script") == 5);
  CHECK(count(own, "</script>") == 5);
  const std::vector<Json> charts = charts_of(html);
  REQUIRE(charts.size() == 2);
  CHECK(charts[0]["series"][0]["name"] == hostile);
  CHECK(charts[0]["x"]["label"] == hostile);
  CHECK(charts[0]["references"][0]["label"] == hostile);
  CHECK(charts[0]["series"][0]["color"] == "");
  CHECK(charts[1]["categories"][0] == hostile);
}

TEST_CASE("bytes that are not UTF-8 do not break the page", "[report]") {
  std::string html;
  REQUIRE_NOTHROW(html = render(page_full_of("bad \xff\xc3 \x01 text")));
  CHECK(charts_of(html).size() == 2);
  CHECK_FALSE(contains(html.substr(0, 20000), "\x01"));
}

TEST_CASE("a page asks nothing of the network", "[report]") {
  const std::string own = without_library(render(page_full_of("plain")));
  CHECK_FALSE(contains(own, "http://"));
  CHECK_FALSE(contains(own, "https://"));
  CHECK_FALSE(contains(own, "@import"));
  CHECK_FALSE(contains(own, "url("));
  CHECK(count(own, "src=\"") == count(own, "src=\"data:image/png;base64,"));
  CHECK(count(own, "href=\"") == count(own, "href=\"#") + count(own, "href=\"data:"));
  CHECK(contains(own, "default-src 'none'"));
  CHECK(count(own, "<script src") == 0);
}

TEST_CASE("a page without charts leaves the chart library out", "[report]") {
  const std::string html = render(page_of({Text{{"words"}}}));
  CHECK(html.size() < 40000);
  CHECK_FALSE(contains(html, "<script"));
}

TEST_CASE("values that are not finite become counted gaps", "[report]") {
  const Chart chart{.title = "c", .series = {{.name = "a", .y = {1, not_a_number, inf, 2, -inf}}}};
  const std::string html = render(page_of({chart}));
  const Json data = charts_of(html).at(0)["series"][0]["data"];
  CHECK(data == Json::parse("[[0,1],[1,null],[3,2]]"));
  CHECK(contains(html, "3 of 5 values are not finite and are left out."));
  CHECK(contains(html, "<td>nan</td>"));  // the table still tells
  CHECK(contains(html, "<td>-inf</td>"));
}

TEST_CASE("the smallest and largest numbers do not disturb a page", "[report]") {
  const double tiny = std::numeric_limits<double>::denorm_min(), huge = std::numeric_limits<double>::max();
  const std::string html = render(page_of({Chart{.series = {{.name = "a", .y = {tiny, huge, -huge, 1}}}}}));
  CHECK(contains(html, "2 of 4 values are not finite"));  // beyond what a linear axis can be computed for
  CHECK(charts_of(html).at(0)["series"][0]["data"].size() == 3);
}

TEST_CASE("a point without x is left out altogether", "[report]") {
  const Chart chart{.series = {{.name = "a", .x = {0, not_a_number, 2}, .y = {1, 5, 2}}}};
  CHECK(chart_of(chart)["series"][0]["data"] == Json::parse("[[0,1],[2,2]]"));
}

TEST_CASE("a log axis drops and counts what is not positive", "[report]") {
  const Chart chart{
      .log_x = true, .log_y = true, .series = {{.name = "a", .x = {0, 1, 2, 3}, .y = {1, 1, -2, 3}}}};
  const std::string html = render(page_of({chart}));
  CHECK(charts_of(html).at(0)["series"][0]["data"] == Json::parse("[[1,1],[2,null],[3,3]]"));
  CHECK(contains(html, "2 of 4 values are not positive and have no place on a log axis."));
}

TEST_CASE("a band that reaches below zero is cut on a log axis", "[report]") {
  const Chart chart{.log_y = true, .series = {{.name = "a", .y = {1, 4}, .lo = {0.5, -1}, .hi = {2, 9}}}};
  CHECK(chart_of(chart)["series"][0]["band"] == Json::parse("[[0.5,2],[0.5,9]]"));
}

TEST_CASE("long series are thinned, their extremes and gaps kept", "[report]") {
  const std::size_t size = GENERATE(500, 5000, 100003);
  const bool log_x = GENERATE(false, true), with_gap = GENERATE(false, true);
  Series series{.name = "a", .x = ramp(size), .y = ramp(size)};
  for (double& x : series.x) x += 1;
  for (std::size_t i = 0; i < size; ++i) series.y[i] = std::sin(0.01 * static_cast<double>(i));
  series.y[size / 3] = 50;
  series.y[size / 2] = -50;
  if (with_gap)
    std::fill_n(series.y.begin() + static_cast<std::ptrdiff_t>(size / 5), size / 10, not_a_number);
  const Json json = chart_of({.log_x = log_x, .series = {series}})["series"][0];
  const std::vector<double> y = drawn_y(json);
  CHECK(json["thinned"] == true);
  CHECK(y.size() <= 400);
  CHECK(y.size() > 100);
  CHECK(std::find(y.begin(), y.end(), 50) != y.end());
  CHECK(std::find(y.begin(), y.end(), -50) != y.end());
  CHECK(std::any_of(y.begin(), y.end(), [](double v) { return std::isnan(v); }) == with_gap);
  CHECK(json["data"].front()[0] == 1);
  CHECK(json["data"].back()[0] == size);
  CHECK(std::is_sorted(json["data"].begin(), json["data"].end(),
                       [](const Json& a, const Json& b) { return a[0].get<double>() < b[0].get<double>(); }));
}

TEST_CASE("clouds are thinned evenly, their extremes kept", "[report]") {
  Series series{.name = "a", .x = ramp(5000), .y = ramp(5000)};
  for (std::size_t i = 0; i < 5000; ++i) series.x[i] = std::cos(static_cast<double>(i * i));
  series.x[1234] = -9;
  series.y[2345] = 9e4;
  const Json json = chart_of({.kind = Chart::Kind::scatter, .series = {series}})["series"][0];
  const std::vector<double> y = drawn_y(json);
  CHECK(json["mode"] == "points");
  CHECK(y.size() <= 400);
  CHECK(y.size() > 380);
  CHECK(std::find(y.begin(), y.end(), 1234) != y.end());
  CHECK(std::find(y.begin(), y.end(), 9e4) != y.end());
}

TEST_CASE("short series are drawn as they are", "[report]") {
  const Json json = chart_of({.series = {{.name = "a", .y = ramp(400)}}})["series"][0];
  CHECK(json["thinned"] == false);
  CHECK(drawn_y(json) == ramp(400));
  CHECK(drawn_y(chart_of({.series = {{.name = "a", .y = ramp(900)}}, .thin = false})["series"][0]) ==
        ramp(900));
}

TEST_CASE("a name has one style over the whole page", "[report]") {
  const auto named = [](const std::string& name) { return Series{.name = name, .y = {1}}; };
  Page page = page_of({Chart{.series = {named("b"), named("a")}}, Chart{.series = {named("a"), named("c")}},
                       Chart{.kind = Chart::Kind::bar,
                             .series = {named("time")},
                             .categories = {"c"},
                             .color_by_category = true}});
  Series test{.name = "a, test", .y = {1}, .dashed = true, .looks_like = "a"};
  page.sections[0].blocks.push_back(Chart{.series = {test}});
  const std::vector<Json> charts = charts_of(render(page));
  const auto style = [](const Json& series) { return std::pair(series["hue"], series["marker"]); };
  CHECK(style(charts[0]["series"][1]) == style(charts[1]["series"][0]));
  CHECK(style(charts[0]["series"][1]) == style(charts[3]["series"][0]));
  CHECK(charts[3]["series"][0]["dash"].size() > 0);
  CHECK(charts[2]["series"][0]["hues"][0] == charts[1]["series"][1]["hue"]);
  CHECK(charts[0]["series"][0]["hue"] == 0);
  page.series_order = {"c", "a"};
  const std::vector<Json> ordered = charts_of(render(page));
  CHECK(ordered[1]["series"][1]["hue"] == 0);
  CHECK(ordered[1]["series"][0]["hue"] == 1);
}

TEST_CASE("series that meet in a chart can be told apart", "[report]") {
  Chart chart, other;
  for (int i = 0; i < 12; ++i) chart.series.push_back({.name = "s" + std::to_string(i), .y = {1}});
  for (int i = 0; i < 3; ++i) other.series.push_back({.name = "t" + std::to_string(i), .y = {1}});
  const std::vector<Json> charts = charts_of(render(page_of({chart, other})));
  std::vector<std::string> looks;
  for (const Json& series : charts[0]["series"])
    looks.push_back(series["hue"].dump() + series["marker"].dump());
  std::sort(looks.begin(), looks.end());
  CHECK(std::unique(looks.begin(), looks.end()) == looks.end());
  CHECK(charts[0]["series"][6]["dash"].empty());
  CHECK_FALSE(charts[0]["series"][7]["dash"].empty());  // a hue that it shares within the chart
  for (const Json& series : charts[1]["series"]) CHECK(series["dash"].empty());
}

TEST_CASE("every chart has its numbers as a table", "[report]") {
  SECTION("series with the same x share their rows") {
    const Chart chart{
        .title = "c",
        .x_label = "step",
        .series = {{.name = "a", .x = {1, 2}, .y = {0.125, 7}}, {.name = "b", .x = {1, 2}, .y = {3, 4.5}}}};
    const std::string html = render(page_of({chart}));
    CHECK(contains(html, "<th scope=\"row\">1</th><td>0.125</td><td>3</td>"));
    CHECK(contains(html, "<th scope=\"row\">2</th><td>7</td><td>4.5</td>"));
  }
  SECTION("others have rows of their own") {
    const Chart chart{
        .series = {{.name = "a", .x = {1, 2}, .y = {0.125, 7}}, {.name = "b", .x = {5}, .y = {3}}}};
    const std::string html = render(page_of({chart}));
    CHECK(contains(html, ">a</th><td>2</td><td>7</td>"));
    CHECK(contains(html, ">b</th><td>5</td><td>3</td>"));
  }
  SECTION("bars have a row for each category, and ends where given") {
    const Chart chart{
        .kind = Chart::Kind::bar,
        .series = {{.name = "a", .y = {2, not_a_number}, .lo = {1, not_a_number}, .hi = {3, not_a_number}}},
        .categories = {"u", "v"}};
    const std::string html = render(page_of({chart}));
    CHECK(contains(html, ">u</th><td>2 [1, 3]</td>"));
    CHECK(contains(html, ">v</th><td>nan [nan, nan]</td>"));
    CHECK(charts_of(html)[0]["series"][0]["data"] == Json::parse("[2,null]"));
  }
  SECTION("long series are shown in part, both ends among it") {
    const std::string html = render(page_of({Chart{.series = {{.name = "a", .y = ramp(1000)}}}}));
    CHECK(contains(html, "200 of 1,000 a series"));
    CHECK(count(html, "<tr>") == 201);
    CHECK(contains(html, "<th scope=\"row\">0</th>"));
    CHECK(contains(html, "<th scope=\"row\">999</th>"));
  }
}

TEST_CASE("charts and pictures are described for those who do not see them", "[report]") {
  const std::vector<std::uint8_t> pixel{7};
  const Chart chart{.title = "Loss",
                    .x_label = "step",
                    .y_label = "nats",
                    .log_y = true,
                    .series = {{.name = "a", .y = {1}}}};
  const std::string html = render(page_of({chart, Picture{.title = "boot", .png = encode_png(pixel, 1, 1)}}));
  CHECK(contains(html,
                 "aria-label=\"Line chart: Loss. Vertical: nats, logarithmic. Horizontal: step. Series: a."));
  CHECK(contains(html, "alt=\"boot\""));
  CHECK(contains(html, "<noscript>"));
}

TEST_CASE("a chart without anything to draw says so", "[report]") {
  CHECK(contains(render(page_of({Chart{.title = "c"}})), "There is nothing to draw."));
  CHECK(contains(render(page_of({Chart{.series = {{.name = "a", .y = {not_a_number}}}}})),
                 "There is nothing to draw."));
}

TEST_CASE("a table keeps ragged rows, bold cells and column notes", "[report]") {
  const Table table{.columns = {{.name = "rule"}, {.name = "time", .unit = "ms", .tooltip = "mean of 10"}},
                    .rows = {{"exact", "4"}, {"short"}},
                    .emphasised = {{0, 1}}};
  const std::string html = render(page_of({table}));
  CHECK(contains(html, "<th scope=\"row\" class=\"l\">exact</th><td><strong>4</strong></td>"));
  CHECK(contains(html, ">short</th><td></td></tr>"));
  CHECK(contains(html, "<dt>time</dt><dd>mean of 10</dd>"));
}

TEST_CASE("sections have distinct anchors", "[report]") {
  Page page{.title = "p"};
  for (const char* title : {"Time & memory", "Time & memory", "palette", "chart 1", "\xe2\x82\xac"})
    page.sections.push_back({title, {}, {}});
  page.sections[0].blocks.push_back(Chart{});
  const std::string html = render(page);
  for (const char* id :
       {"time-memory", "part-time-memory-2", "part-palette-2", "part-chart-1-2", "section", "chart-1"}) {
    CHECK(count(html, "id=\"" + std::string(id) + "\"") == 1);
  }
}

TEST_CASE("data that do not fit together are refused by name", "[report]") {
  const auto drawn = [](Chart chart) { return render(page_of({std::move(chart)})); };
  CHECK_THROWS_WITH(drawn({.series = {{.name = "s", .x = {1}, .y = {1, 2}}}}),
                    Catch::Contains("'s' has 1 x"));
  CHECK_THROWS_AS(drawn({.series = {{.name = "s", .y = {1, 2}, .lo = {0, 1}}}}), banach::ValueError);
  CHECK_THROWS_WITH(
      drawn({.kind = Chart::Kind::bar, .series = {{.name = "s", .y = {1, 2}}}, .categories = {"a"}}),
      Catch::Contains("'s' has 2 for 1"));
}

TEST_CASE("ranges and reference lines that a chart cannot show are ignored", "[report]") {
  const Chart chart{
      .log_y = true,
      .references = {{1, "exact"}, {0, "zero"}, {not_a_number, "none"}, {-1, "left", ReferenceLine::Axis::x}},
      .x_range = Range{2, 1},
      .y_range = Range{0, 1}};
  const Json json = chart_of(chart);
  CHECK(json["references"].size() == 2);
  CHECK_FALSE(json["x"].contains("min"));
  CHECK_FALSE(json["y"].contains("min"));
  CHECK(chart_of({.y_range = Range{0, 1}})["y"]["max"] == 1);
}

TEST_CASE("an axis of counts has no ticks between, unless its range is given") {
  const auto whole = [](const Chart& chart) {
    const Json json = chart_of(chart);
    return std::pair(json["x"]["whole"].get<bool>(), json["y"]["whole"].get<bool>());
  };
  Chart chart{.series = {{.name = "a", .x = {1, 2}, .y = {12, inf}}, {.name = "b", .y = {0.5, 1}}}};
  CHECK(whole(chart) == std::pair(true, false));
  chart.series[1].y = {3, 1};
  CHECK(whole(chart) == std::pair(true, true));
  chart.series[1].lo = chart.series[1].hi = {1.5, 1};
  CHECK(whole(chart) == std::pair(true, false));
  chart.x_range = Range{0, 1};
  CHECK(whole(chart) == std::pair(false, false));
}

TEST_CASE("a picture of cells counts what is wrong") {
  CHECK(wrong_in_words({{"trellis", 0}, {"lstm", 2}}) == "wrong: trellis 0, lstm 2");
  const Picture picture = svg_picture("board 1", "wrong: a 1", svg_cross(10, 20, 26), 40, 50, ".mine{}");
  CHECK(picture.alt == "board 1: wrong: a 1");
  CHECK(picture.width == 40);
  CHECK(contains(picture.svg, "viewBox=\"0 0 40 50\""));
  CHECK(contains(picture.svg, ".mine{}</style><path class=\"cross\" d=\"M13 43l20 -20\"/>"));
}

TEST_CASE("a chart may be a square, name its points, and have a legend for many series") {
  Chart chart{.title = "Front", .kind = Chart::Kind::scatter, .label_points = true, .square = true};
  for (int i = 0; i < 9; ++i)
    chart.series.push_back(
        {.name = std::string(1, static_cast<char>('a' + i)), .x = {1.0 * i}, .y = {2.0 * i}});
  chart.series.push_back({.name = "stair", .x = {0, 1}, .y = {0, 1}, .mark = Series::Mark::line});
  const std::string html = render(page_of({chart}));
  const Json json = chart_of(chart);
  CHECK(json["labels"] == true);
  CHECK(json["square"] == true);
  CHECK(json["series"].back()["mode"] == "line");
  CHECK(html.find("aspect-ratio:1") != html.npos);
  CHECK(html.find("class=\"legend many\"") != html.npos);
}

TEST_CASE("a diagram is drawn where its points lie, without what is not finite") {
  using Shape = Diagram::Shape;
  using Kind = Shape::Kind;
  Diagram diagram{.title = "A <plane>", .x_range = {0, 1}, .y_range = {0, 2}};
  diagram.shapes = {{.kind = Kind::dot, .points = {{0, 0}, {1, 2}}, .hue = 1, .name = "corners & more"},
                    {.kind = Kind::arrow, .points = {{0, 0}, {1, 1}}},
                    {.kind = Kind::line, .points = {{0, 0}, {not_a_number, 1}}},
                    {.kind = Kind::label, .points = {{0.5, 0.5}}, .text = "<here>"}};
  const std::string html = render(page_of({diagram, diagram}));
  CHECK(contains(html, "A &lt;plane&gt;"));
  CHECK(contains(html, "corners &amp; more"));
  CHECK(contains(html, "&lt;here&gt;"));
  CHECK_FALSE(contains(html.substr(html.find("<figure")), "nan"));
  CHECK(count(html, "diagram panel half") == 2);
  // 362 wide, and twice as high: one unit is as long along y.
  CHECK(contains(html, R"(cx="50.0" cy="732.0")"));
  CHECK(contains(html, R"(cx="412.0" cy="8.0")"));
  CHECK(count(html, "<circle") == 6);  // two dots, and one in the legend; two diagrams
  // In large units too; but nothing so far away that a browser's numbers fail.
  const Diagram large{
      .title = "large",
      .x_range = {0, 1e9},
      .y_range = {0, 1e9},
      .shapes = {{.kind = Kind::dot, .points = {{5e8, 1e9}}}, {.kind = Kind::dot, .points = {{1e18, 0}}}}};
  const std::string drawn = render(page_of({large}));
  CHECK(count(drawn, "<circle") == 1);
  CHECK(contains(drawn, R"(cx="231.0" cy="8.0")"));
  // No strip: axes so different have scales of their own.
  diagram.shapes[0].points = {{0, 0}, {1, 2000}};
  diagram.y_range = {0, 2000};
  const std::string square = render(page_of({diagram}));
  CHECK(contains(square, R"(cx="50.0" cy="370.0")"));
  CHECK(contains(square, R"(cx="412.0" cy="8.0")"));
  diagram.y_range = {1, 1};
  CHECK_THROWS_AS(render(page_of({diagram})), banach::ValueError);
}
