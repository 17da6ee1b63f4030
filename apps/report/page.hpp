#pragma once
// Reports as one offline HTML page: plain data in, one string out. The page needs no network, reads well on a
// phone and on paper, in light and dark. Without JavaScript the charts' tables of numbers remain.
//
// All text is plain text: it is escaped. Numbers that are not finite become gaps, and the page says how many.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <apps/report/format.hpp>
#include <apps/report/png.hpp>

namespace banach::report {

/// One curve, cloud of points or set of bars. A name keeps its colour and marker over the whole page.
struct Series {
  // automatic: points in a scatter chart, where a line has no markers; else a line
  enum class Mark { automatic, line, points };

  std::string name{};
  std::vector<double> x{};  // empty: 0, 1, 2, ...; bars ignore it, y runs along the chart's categories
  std::vector<double> y{};
  std::vector<double> lo{}, hi{};  // both or none, as long as y: a band around a line, whiskers elsewhere
  bool dashed = false;
  Mark mark = Mark::automatic;
  std::string looks_like{};  // share the colour and marker of the series so named: 'A, test' beside 'A'
  std::optional<std::string> color{};  // #rgb, #rrggbb or a CSS colour name, instead of the palette's
};

/// A line across the chart at a known value, labelled in place, such as y = 1 'exact'.
struct ReferenceLine {
  enum class Axis { x, y };

  double value = 0;
  std::string label{};
  Axis axis = Axis::y;
};

struct Range {
  double min = 0, max = 1;
};

/// A chart of up to some fifteen series. Series longer than 400 points are thinned for drawing, unless told
/// otherwise; extremes stay. An axis without a range that shows whole numbers alone has no ticks between.
struct Chart {
  enum class Kind { line, scatter, bar };

  std::string title{};
  std::string look_for{};  // one sentence: what to look for
  std::string x_label{}, y_label{};
  bool log_x = false, log_y = false;  // values that are not positive become gaps, and are counted
  Kind kind = Kind::line;
  std::vector<Series> series{};
  std::vector<ReferenceLine> references{};
  std::optional<Range> x_range{}, y_range{};
  std::vector<std::string> categories{};  // bars: one label for each y; horizontal is better for long ones
  bool horizontal = false;         // bars run rightwards; y_label, log_y and y_range still mean the values
  bool color_by_category = false;  // bars of one series: each in the colour of the series named like it
  bool label_points = false;       // scatter: the name of each series beside its first point, where room is
  bool thin = true;                // false: every point is drawn, however many they are
  bool square = false;             // one unit is as long along x as along y
  std::string note{};              // small print under the chart, such as what the bands mean
  bool wide = false;               // the whole width of the page, not half
};

/// Shapes in a plane, one unit as long along x as along y (a square if ranges differ tenfold). No script.
struct Diagram {
  struct Point {
    double x = 0, y = 0;
  };
  struct Shape {
    // area: its corners; line: its corners; segments, arrow: from, to, from, to, ...; dot, ring, diamond,
    // label: its places
    enum class Kind { area, line, segments, arrow, dot, ring, diamond, label };

    Kind kind = Kind::line;
    std::vector<Point> points{};  // a shape with a point that is not finite is left out
    int hue = -1;                 // of the palette; -1: the colour of text, muted
    double width = 1.5;  // of lines and outlines, in pixels of a drawing 420 wide; of dots the radius
    double opacity = 1;
    bool dashed = false;
    std::string text{};  // of a label
    std::string name{};  // what the legend calls it; empty: nothing
  };

  std::string title{};
  std::string look_for{};
  std::string x_label{}, y_label{};
  Range x_range{}, y_range{};
  std::vector<Shape> shapes{};  // later ones cover earlier ones
  std::string note{};
};

struct Column {
  enum class Align { automatic, left, right, center };  // automatic: the first column left, the others right

  std::string name{};
  std::string unit{};
  std::string tooltip{};  // also listed under the table, for phones and paper
  Align align = Align::automatic;
};

struct Table {
  std::string title{};
  std::string caption{};
  std::vector<Column> columns{};
  std::vector<std::vector<std::string>> rows{};                   // short rows end in empty cells
  std::vector<std::pair<std::size_t, std::size_t>> emphasised{};  // (row, column) of cells set in bold
};

struct Picture {
  std::string title{};
  std::string caption{};
  std::string alt{};                // what it shows, for those who do not see it; empty: the title
  std::vector<std::uint8_t> png{};  // see encode_png
  std::string svg{};  // in place of png: a whole SVG document; shown as an image, it runs no scripts
  int width = 0;      // CSS pixels, needed for an SVG; 0: its own, small images enlarged by a whole factor
};

/// Small pictures side by side, each with its title and caption as label.
struct PictureGrid {
  std::string title{};
  std::string caption{};
  std::vector<Picture> pictures{};
};

struct Text {
  std::vector<std::string> paragraphs{};
};

/// A boxed remark: a finding, or a warning that must not be missed.
struct Callout {
  enum class Tone { note, good, warning };

  std::string title{};
  std::string text{};
  Tone tone = Tone::note;
};

/// Keys and values, in the order given.
struct Settings {
  std::string title{};
  std::vector<std::pair<std::string, std::string>> entries{};
  bool beside_figure = false;  // half as wide as the page, beside the chart or diagram before it
};

/// A listing in a fixed-width font, such as the command that made the page.
struct Code {
  std::string title{};
  std::string text{};
};

using Block = std::variant<Text, Callout, Settings, Chart, Diagram, Table, Picture, PictureGrid, Code>;

/// Neighbouring charts and diagrams of a section stand side by side where the page is wide enough.
struct Section {
  std::string title{};
  std::string intro{};
  std::vector<Block> blocks{};
};

struct KeyFigure {
  std::string label{};
  std::string value{};
  std::string note{};
};

struct Page {
  std::string kicker{};  // small line above the title, such as the command's name
  std::string title{};
  std::string subtitle{};
  std::vector<KeyFigure> key_figures{};     // three to five
  std::vector<std::string> series_order{};  // these names take the first colours; others as they appear
  std::vector<Section> sections{};
  std::string footer{};
};

/// The whole page as UTF-8 HTML. Throws ValueError if a series' x, y, lo and hi differ in length, if bars do
/// not fit their categories, if a picture is not a PNG, or if a diagram's ranges are empty.
std::string render(const Page& page);

}  // namespace banach::report
