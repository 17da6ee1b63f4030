#include <apps/report/diagram.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <apps/report/html.hpp>
#include <banach/engine/error.hpp>

namespace banach::report {
namespace {

using Shape = Diagram::Shape;
using Kind = Shape::Kind;
using Point = Diagram::Point;

constexpr double width = 420, right = 8, top = 8, bottom = 38;

/// Of ranges that differ by more than ten times one would be a strip: the drawing is a square then.
bool own_scales(const Diagram& d) {
  const double ratio = (d.y_range.max - d.y_range.min) / (d.x_range.max - d.x_range.min);
  return ratio > 10 || ratio < 0.1;
}

/// Round values, about five of them.
std::vector<double> ticks(const Range& range) {
  const double rough = (range.max - range.min) / 5, power = std::pow(10.0, std::floor(std::log10(rough)));
  const double parts = rough / power, step = power * (parts < 1.5   ? 1
                                                      : parts < 3.5 ? 2
                                                      : parts < 7.5 ? 5
                                                                    : 10);
  std::vector<double> values;
  for (double i = std::ceil(range.min / step); i * step <= range.max; ++i) values.push_back(i * step);
  return values;
}

/// Where the plot begins: beside its label and the longest number.
double left_of(const Diagram& d) {
  std::size_t longest = 0;
  for (const double value : ticks(d.y_range)) longest = std::max(longest, format_number(value).size());
  return longest > 5 ? 23 + 7.5 * static_cast<double>(longest) : 50;
}

/// From the plane to the drawing.
class Frame {
 public:
  explicit Frame(const Diagram& d)
      : d_(d),
        left_(left_of(d)),
        x_scale_(plot_width() / (d.x_range.max - d.x_range.min)),
        y_scale_(own_scales(d) ? plot_width() / (d.y_range.max - d.y_range.min) : x_scale_) {}
  double left() const { return left_; }
  double plot_width() const { return width - left_ - right; }
  double plot_height() const { return y_scale_ * (d_.y_range.max - d_.y_range.min); }
  double height() const { return top + plot_height() + bottom; }
  Point at(const Point& p) const {
    return {left_ + x_scale_ * (p.x - d_.x_range.min), top + y_scale_ * (d_.y_range.max - p.y)};
  }

 private:
  const Diagram& d_;
  double left_, x_scale_, y_scale_;
};

/// Near enough to the drawing, in pixels, for a browser's numbers; no NaN.
bool drawable(const Shape& shape, const Frame& frame) {
  return std::all_of(shape.points.begin(), shape.points.end(), [&](const Point& point) {
    const Point p = frame.at(point);
    return std::abs(p.x) <= 1e6 && std::abs(p.y) <= 1e6;
  });
}

std::string color(const Shape& shape) {
  return shape.hue < 0 ? "var(--muted)" : fmt::format("var(--c{})", shape.hue);
}

std::string line_style(const Shape& shape) {
  return fmt::format(R"( stroke="{}" stroke-width="{}" stroke-opacity="{}" stroke-linecap="round"{})",
                     color(shape), shape.width, shape.opacity,
                     shape.dashed ? R"( stroke-dasharray="5 4")" : "");
}

std::string corners(const Shape& shape, const Frame& frame) {
  std::string path;
  for (std::size_t i = 0; i < shape.points.size(); ++i) {
    const Point p = frame.at(shape.points[i]);
    const bool begins = i == 0 || (shape.kind == Kind::segments && i % 2 == 0);
    path += fmt::format("{}{:.1f} {:.1f}", begins ? "M" : "L", p.x, p.y);
  }
  return path;
}

/// A shaft and a head; no longer than a pixel: nothing.
std::string arrow(const Point& from, const Point& to, const Shape& shape) {
  const double dx = to.x - from.x, dy = to.y - from.y, length = std::hypot(dx, dy);
  if (length < 1) return {};
  const double head = std::min(5 + 2.2 * shape.width, 0.7 * length), ux = dx / length, uy = dy / length;
  const Point neck{to.x - head * ux, to.y - head * uy};
  const double half = 0.42 * head;
  return fmt::format(R"(<path fill="none" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"{}/>)", from.x, from.y, neck.x,
                     neck.y, line_style(shape)) +
         fmt::format(R"(<path fill="{}" fill-opacity="{}" d="M{:.1f} {:.1f}L{:.1f} {:.1f}L{:.1f} {:.1f}z"/>)",
                     color(shape), shape.opacity, to.x, to.y, neck.x - half * uy, neck.y + half * ux,
                     neck.x + half * uy, neck.y - half * ux);
}

/// A dot, ring, diamond or label; `size` scales the marks.
std::string place(const Point& p, const Shape& shape, double size = 1) {
  const double r = shape.kind == Kind::dot ? shape.width : shape.kind == Kind::ring ? 5.5 : 8 * size;
  switch (shape.kind) {
    case Kind::dot:
      return fmt::format(
          R"svg(<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="{}" stroke="var(--panel)" stroke-width="1.5"/>)svg",
          p.x, p.y, r, color(shape));
    case Kind::ring:
      return fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="none"{}/>)", p.x, p.y, r,
                         line_style(shape));
    case Kind::diamond:
      return fmt::format(R"(<path fill="none" d="M{:.1f} {:.1f}l{} {}l-{} {}l-{} -{}z"{}/>)", p.x, p.y - r, r,
                         r, r, r, r, r, line_style(shape));
    default:
      return fmt::format(R"(<text class="label" x="{:.1f}" y="{:.1f}">{}</text>)", p.x, p.y,
                         escape_html(shape.text));
  }
}

std::string shape_svg(const Shape& shape, const Frame& frame) {
  if (shape.points.empty() || !drawable(shape, frame)) return {};
  std::string svg;
  switch (shape.kind) {
    case Kind::area:
      return fmt::format(R"(<path d="{}z" fill="{}" fill-opacity="{}"/>)", corners(shape, frame),
                         color(shape), shape.opacity) +
             "\n";
    case Kind::line:
    case Kind::segments:
      return fmt::format(R"(<path fill="none" d="{}"{}/>)", corners(shape, frame), line_style(shape)) + "\n";
    case Kind::arrow:
      for (std::size_t i = 0; i + 1 < shape.points.size(); i += 2)
        svg += arrow(frame.at(shape.points[i]), frame.at(shape.points[i + 1]), shape);
      return svg + "\n";
    default:
      for (const Point& p : shape.points) svg += place(frame.at(p), shape);
      return svg + "\n";
  }
}

std::string swatch(Shape shape) {
  std::string inside;
  if (shape.kind == Kind::area)
    inside = fmt::format(R"(<rect x="4" width="20" height="12" stroke="none" fill-opacity="{}"/>)",
                         std::min(1.0, 1.6 * shape.opacity));
  else if (shape.kind == Kind::line || shape.kind == Kind::segments)
    inside = fmt::format(R"(<path fill="none" d="M1 6h26"{}/>)", line_style(shape));
  else if (shape.kind == Kind::arrow)
    inside = arrow({1, 6}, {27, 6}, shape);
  else
    inside = place({14, 6}, shape, 0.65);
  return fmt::format(R"(<svg viewBox="0 0 28 12" aria-hidden="true" style="--c:{}">{}</svg>)", color(shape),
                     inside);
}

std::string legend(const Diagram& diagram) {
  std::string entries;
  for (const Shape& shape : diagram.shapes)
    if (!shape.name.empty())
      entries +=
          fmt::format("<li><span class=\"entry\">{}{}</span></li>", swatch(shape), escape_html(shape.name));
  return entries.empty() ? entries : "<ul class=\"legend\" aria-label=\"Shapes\">" + entries + "</ul>\n";
}

std::string axes(const Diagram& diagram, const Frame& frame) {
  const double base = top + frame.plot_height(), left = frame.left();
  std::string svg;
  const auto line = [&](double x1, double y1, double x2, double y2) {
    svg += fmt::format(R"(<path class="grid" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>)", x1, y1, x2, y2);
  };
  const auto text = [&](double x, double y, const char* anchor, const std::string& words) {
    svg += fmt::format(R"(<text class="ticks" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>)", x, y,
                       anchor, escape_html(words));
  };
  for (const double value : ticks(diagram.x_range)) {
    const double x = frame.at({value, 0}).x;
    line(x, top, x, base);
    text(x, base + 15, "middle", format_number(value));
  }
  for (const double value : ticks(diagram.y_range)) {
    const double y = frame.at({0, value}).y;
    line(left, y, left + frame.plot_width(), y);
    text(left - 5, y + 4, "end", format_number(value));
  }
  text(left + frame.plot_width() / 2, base + 31, "middle", diagram.x_label);
  svg += fmt::format(
      R"svg(<text class="ticks" transform="translate(11 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>)svg",
      top + frame.plot_height() / 2, escape_html(diagram.y_label));
  return svg + "\n";
}

std::string spoken(const Diagram& diagram) {
  std::string words = "Drawing: " + diagram.title + ".";
  for (const Shape& shape : diagram.shapes)
    if (!shape.name.empty()) words += " " + shape.name + ".";
  return words;
}

void check(const Range& range) {
  if (!(std::isfinite(range.min) && std::isfinite(range.max) && range.min < range.max))
    fail<ValueError>("report", fmt::format("a diagram's range must be finite and not empty: {} to {}",
                                           range.min, range.max));
}

}  // namespace

std::string diagram_html(const Diagram& diagram, bool half_width) {
  check(diagram.x_range);
  check(diagram.y_range);
  const Frame frame(diagram);
  std::string html = fmt::format("<figure class=\"diagram panel{}\">\n<h3>{}</h3>\n",
                                 half_width ? " half" : "", escape_html(diagram.title));
  if (!diagram.look_for.empty())
    html += "<p class=\"look\"><b>Look for:</b> " + escape_html(diagram.look_for) + "</p>\n";
  html += legend(diagram);
  html += fmt::format(R"(<svg viewBox="0 0 {} {:.1f}" role="img" aria-label="{}">)", width, frame.height(),
                      escape_html(spoken(diagram)));
  html += axes(diagram, frame);
  // An inner svg cuts off what leaves the plot.
  html += fmt::format(R"(<svg x="{0}" y="{1}" width="{2:.1f}" height="{3:.1f}" )"
                      R"(viewBox="{0} {1} {2:.1f} {3:.1f}">)",
                      frame.left(), top, frame.plot_width(), frame.plot_height());
  for (const Shape& shape : diagram.shapes) html += shape_svg(shape, frame);
  html += "</svg></svg>\n";
  if (!diagram.note.empty()) html += "<p class=\"small\">" + escape_html(diagram.note) + "</p>\n";
  return html + "</figure>\n";
}

}  // namespace banach::report
