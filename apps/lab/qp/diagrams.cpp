#include <apps/lab/qp/diagrams.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/lab/qp/geometry.hpp>

namespace banach::lab::qp {
namespace {

using report::Diagram;
using Shape = Diagram::Shape;
using Kind = Shape::Kind;
using Point = Diagram::Point;

// Of the page's palette.
constexpr int blue = 0, vermilion = 1, green = 2, orange = 4, sky = 5, ink = 6;

Point point(const Vector& v) { return {v[0], v[1]}; }
Point plus(const Point& a, const Vector& v, double factor) {
  return {a.x + factor * v[0], a.y + factor * v[1]};
}
Vector between(const Point& from, const Point& to) { return {to.x - from.x, to.y - from.y}; }

/// The legend names a kind of shape once.
void add(Diagram& diagram, Shape shape) {
  if (shape.points.empty()) return;
  for (const Shape& other : diagram.shapes)
    if (other.name == shape.name) shape.name.clear();
  diagram.shapes.push_back(std::move(shape));
}

Diagram empty_diagram(const View& view) {
  const auto range = [&](std::size_t k) {
    return report::Range{view.center[k] - view.reach[k], view.center[k] + view.reach[k]};
  };
  return {.x_label = "x₁", .y_label = "x₂", .x_range = range(0), .y_range = range(1)};
}

void add_feasible_set(Diagram& diagram, const QpData& data, const View& view) {
  Points corners = feasible_set(data, view);
  if (corners.empty()) return;
  diagram.shapes.push_back(
      {.kind = Kind::area, .points = corners, .hue = sky, .opacity = 0.22, .name = "feasible set"});
  corners.push_back(corners.front());  // seen where it has no area
  diagram.shapes.push_back({.kind = Kind::line, .points = corners, .hue = sky, .width = 3, .opacity = 0.7});
}

/// A narrow band along the border, on the side that is not allowed.
Shape forbidden_band(const HalfPlane& plane, const Points& ends, const View& view) {
  const Vector across = view.arrow(plane.a);
  const double depth = 0.05 / view.strength(plane.a);
  return {.kind = Kind::area,
          .points = {ends[0], ends[1], plus(ends[1], across, depth), plus(ends[0], across, depth)},
          .opacity = 0.2,
          .name = "not allowed"};
}

/// Numbers beside the borders, where they are clear of one another and of what is `taken`.
void add_numbers(Diagram& diagram, const std::vector<HalfPlane>& planes, const View& view, Points taken) {
  for (std::size_t i = 0; i < planes.size(); ++i) {
    const Points ends = border(planes[i], view);
    if (ends.empty()) continue;
    Point best{};
    double most = -1;
    for (const double part : {0.1, 0.9, 0.18, 0.82, 0.26, 0.74, 0.34, 0.66}) {
      const Point on{ends[0].x + part * (ends[1].x - ends[0].x), ends[0].y + part * (ends[1].y - ends[0].y)};
      const Point at = plus(on, view.arrow(planes[i].a), 0.1 / view.strength(planes[i].a));
      double room = 0.25;  // more is no better
      for (const Point& other : taken) room = std::min(room, view.length(between(at, other)));
      for (const HalfPlane& plane : planes)
        room = std::min(room, 1.8 * std::abs(plane.at(at)) / view.strength(plane.a));
      const Vector off = between(point(view.center), at);
      for (std::size_t k = 0; k < 2; ++k)  // the walls
        room = std::min(room, 2.5 * (1 - std::abs(off[k]) / view.reach[k]));
      if (room > most * 1.001) most = room, best = at;
    }
    taken.push_back(best);
    diagram.shapes.push_back({.kind = Kind::label, .points = {best}, .text = std::to_string(i + 1)});
  }
}

void add_constraints(Diagram& diagram, const Study& s, const View& view) {
  const auto planes = rows(s.problem.data.G, s.problem.data.h);
  for (std::size_t i = 0; i < planes.size(); ++i) {
    const Points ends = border(planes[i], view);
    if (ends.empty()) continue;
    add(diagram, forbidden_band(planes[i], ends, view));
    if (s.active[i])
      add(diagram,
          {.points = ends, .hue = vermilion, .width = 3, .name = "active: the constraint has a multiplier"});
    else if (s.weak[i])
      add(diagram, {.points = ends,
                    .hue = orange,
                    .width = 3,
                    .dashed = true,
                    .name = "weakly active: neither multiplier nor slack"});
    else
      add(diagram, {.points = ends, .name = s.solved() ? "constraint, not active" : "constraint"});
  }
  for (const HalfPlane& plane : rows(s.problem.data.A, s.problem.data.b))
    if (const Points ends = border(plane, view); !ends.empty())
      add(diagram, {.points = ends, .hue = green, .width = 3, .name = "equality"});
}

void add_levels(Diagram& diagram, const Study& s) {
  const QpData& data = s.problem.data;
  double low = HUGE_VAL, high = -HUGE_VAL;
  const View& v = s.view;
  for (int i = -10; i <= 10; ++i)
    for (int j = -10; j <= 10; ++j) {
      const double f =
          objective(data, {v.center[0] + 0.1 * v.reach[0] * i, v.center[1] + 0.1 * v.reach[1] * j});
      low = std::min(low, f), high = std::max(high, f);
    }
  constexpr int count = 8;
  const bool bowl = s.report.status != QpStatus::non_convex && s.report.status != QpStatus::dual_infeasible;
  for (int k = 1; k < count; ++k) {
    const double part = double(k) / count;
    // Squares: evenly spaced where the objective is a bowl.
    const double level = low + (high - low) * (bowl ? part * part : part);
    add(diagram, {.kind = Kind::segments,
                  .points = level_curve(data, level, v),
                  .width = 1,
                  .opacity = 0.55,
                  .name = "levels of the objective"});
  }
  if (s.solved())
    add(diagram, {.kind = Kind::segments,
                  .points = level_curve(data, s.report.objective, v),
                  .hue = blue,
                  .width = 1.6,
                  .name = "the solution's level"});
}

/// lambda_i G_i and nu_j A_j, one after another from z; returns where the chain ends.
void add_chain(Diagram& diagram, const Study& s, double scale, const std::string& words) {
  Point at = point(s.z);
  const auto link = [&](const HalfPlane& plane, double multiplier, int hue, const std::string& name) {
    const Point next = plus(at, s.view.arrow(plane.a), scale * multiplier);
    if (s.view.length(between(at, next)) > 0.01)
      add(diagram, {.kind = Kind::arrow, .points = {at, next}, .hue = hue, .width = 2.6, .name = name});
    at = next;
  };
  const auto inequalities = rows(s.problem.data.G, s.problem.data.h),
             equalities = rows(s.problem.data.A, s.problem.data.b);
  for (std::size_t i = 0; i < inequalities.size(); ++i)
    link(inequalities[i], s.lambda[i], vermilion, "λᵢ Gᵢ" + words);
  for (std::size_t i = 0; i < equalities.size(); ++i) link(equalities[i], s.nu[i], green, "νⱼ Aⱼ" + words);
}

Vector downhill(const Study& s) {
  const Tensor &Q = s.problem.data.Q, &p = s.problem.data.p;
  const double skew = 0.5 * (Q.at(1) + Q.at(2));
  return {-(Q.at(0) * s.z[0] + skew * s.z[1] + p.at(0)), -(skew * s.z[0] + Q.at(3) * s.z[1] + p.at(1))};
}

void show_solution(Diagram& diagram, const Study& s) {
  const Vector pull = downhill(s);
  if (s.view.strength(pull) > 1e-9 * s.scales.objective) {
    const double scale = 0.45 / s.view.strength(pull);
    add(diagram, {.kind = Kind::arrow,
                  .points = {point(s.z), plus(point(s.z), s.view.arrow(pull), scale)},
                  .hue = blue,
                  .width = 8,
                  .opacity = 0.4,
                  .name = "-∇f, the pull of the objective"});
    add_chain(diagram, s, scale, ", what holds against it");
    diagram.look_for = "The chain of λᵢ Gᵢ ends where the pull ends: that is what makes z optimal.";
    if (!s.nu.empty()) diagram.look_for = "The multipliers' chain ends where the pull ends: z is optimal.";
  } else {
    const bool weak = std::find(s.weak.begin(), s.weak.end(), true) != s.weak.end();
    diagram.look_for = weak ? "No pull is left at the solution: the constraint touches it without holding it."
                            : "No pull is left at the solution, and no multiplier is needed.";
  }
  add(diagram, {.kind = Kind::dot, .points = {point(s.z)}, .hue = ink, .width = 5, .name = "solution z"});
}

void show_certificate(Diagram& diagram, const Study& s) {
  double longest = std::numeric_limits<double>::min();
  const auto measure = [&](const std::vector<HalfPlane>& planes, const std::vector<double>& weights) {
    for (std::size_t i = 0; i < planes.size(); ++i)
      longest = std::max(longest, std::abs(weights[i]) * s.view.strength(planes[i].a));
  };
  measure(rows(s.problem.data.G, s.problem.data.h), s.lambda);
  measure(rows(s.problem.data.A, s.problem.data.b), s.nu);
  add_chain(diagram, s, 0.6 / longest, ": they add up to 0");
  add(diagram, {.kind = Kind::dot,
                .points = {point(s.z)},
                .hue = ink,
                .width = 5,
                .name = "point of least violation"});
  diagram.look_for =
      "The arrows of the certificate close: the constraints, added with these weights, contradict "
      "themselves.";
}

void show_ray(Diagram& diagram, const Study& s) {
  const Point start = s.feasible ? point(*s.feasible) : point(s.view.center);
  add(diagram, {.kind = Kind::arrow,
                .points = {start, plus(start, s.z, 0.9 / s.view.length(s.z))},
                .hue = vermilion,
                .width = 3.5,
                .name = "ray along which the objective falls without end"});
  add(diagram, {.kind = Kind::dot,
                .points = {start},
                .hue = ink,
                .width = 5,
                .name = "a feasible point to start from"});
  diagram.look_for = "The ray stays in the feasible set however far it goes, and crosses ever lower levels.";
}

std::string set_words(const std::vector<bool>& active) {
  std::vector<std::size_t> members;
  for (std::size_t i = 0; i < active.size(); ++i)
    if (active[i]) members.push_back(i + 1);
  if (members.empty()) return "no constraint active";
  return fmt::format("{} active", fmt::join(members, ", "));
}

/// "0.1", or where that is not the same for all: "0.1 (p₁), 2e+03 (p₂)".
std::string each(const std::vector<const Derivative*>& all, double Derivative::*size) {
  std::vector<std::string> words;
  for (const Derivative* d : all) words.push_back(report::format_number(d->*size, 2));
  if (std::equal(words.begin() + 1, words.end(), words.begin())) return words[0];
  for (std::size_t i = 0; i < all.size(); ++i) words[i] += fmt::format(" ({})", with_subscript(all[i]->by));
  return fmt::format("{}", fmt::join(words, ", "));
}

/// A label at the first point of the path, on the side that the path does not take.
template <class Iterator>
void add_end(Diagram& diagram, Iterator first, Iterator last, const std::string& words, const View& view) {
  if (first->status != QpStatus::solved) return;
  const Vector z = first->z;
  Vector away{0, 1};
  for (Iterator p = first; p != last; ++p) {
    const Vector step{z[0] - p->z[0], z[1] - p->z[1]};
    const double length = view.length(step);
    if (!(length > 0.1)) continue;
    away = {step[0] / view.reach[0] / length, step[1] / view.reach[1] / length};
    break;
  }
  Vector at{};
  for (std::size_t k = 0; k < 2; ++k)
    at[k] = std::clamp(z[k] + 0.14 * view.reach[k] * away[k], view.center[k] - 0.85 * view.reach[k],
                       view.center[k] + 0.85 * view.reach[k]);
  diagram.shapes.push_back({.kind = Kind::label, .points = {point(at)}, .text = words});
}

}  // namespace

std::string with_subscript(const std::string& entry) {
  static constexpr const char* digits[] = {"₀", "₁", "₂", "₃", "₄", "₅", "₆", "₇", "₈", "₉"};
  std::string words;
  for (const char c : entry) words += c >= '0' && c <= '9' ? digits[c - '0'] : std::string(1, c);
  return words;
}

std::string number_words(double value, double unit) {
  return report::format_number(std::abs(value) < 1e-9 * unit ? 0.0 : value);
}

std::string pair_words(const Vector& v, const Vector& unit) {
  if (std::isnan(v[0]) || std::isnan(v[1])) return "no solution";
  return fmt::format("({}, {})", number_words(v[0], unit[0]), number_words(v[1], unit[1]));
}

Diagram problem_diagram(const Study& s) {
  Diagram diagram = empty_diagram(s.view);
  diagram.title = "The problem";
  add_feasible_set(diagram, s.problem.data, s.view);
  add_levels(diagram, s);
  add_constraints(diagram, s, s.view);
  Points taken;
  if (s.free_optimum && !(s.view.length(between(point(s.view.center), point(*s.free_optimum))) < 1.5)) {
    diagram.note =
        fmt::format("The free optimum, {}, lies outside. ", pair_words(*s.free_optimum, s.view.reach));
  } else if (s.free_optimum) {
    add(diagram, {.kind = Kind::diamond,
                  .points = {point(*s.free_optimum)},
                  .hue = blue,
                  .width = 2,
                  .name = "free optimum, without constraints"});
    taken.push_back(point(*s.free_optimum));
  }
  if (s.solved())
    show_solution(diagram, s);
  else if (s.report.status == QpStatus::primal_infeasible)
    show_certificate(diagram, s);
  else if (s.report.status == QpStatus::dual_infeasible)
    show_ray(diagram, s);
  else
    diagram.look_for = "There is nothing to show as a solution.";
  if (std::isfinite(s.z[0])) taken.push_back(point(s.z));
  add_numbers(diagram, rows(s.problem.data.G, s.problem.data.h), s.view, taken);
  if (!s.view.one_scale())
    diagram.note += fmt::format(
        "Each axis has a scale of its own: a length along x₁ stands for {} times as much as along x₂, and "
        "angles are not those of the plane.",
        report::format_number(s.view.reach[0] / s.view.reach[1], 2));
  return diagram;
}

Diagram derivative_diagram(const Study& s, char letter) {
  const View near = s.view.around(s.z, 0.36);
  Diagram diagram = empty_diagram(near);
  diagram.title = fmt::format("How z moves with {}", letter);
  diagram.look_for =
      "Arrow: the derivative reported. Rings: differences of solutions. Where there is a derivative, one "
      "ring "
      "sits at the tip, the other opposite.";
  add_feasible_set(diagram, s.problem.data, near);
  add_constraints(diagram, s, near);
  for (Shape& shape : diagram.shapes) {  // named beside; the colours are for the derivatives
    shape.name.clear();
    if (shape.hue != sky) shape.hue = -1;
  }
  Points taken{point(s.z)};
  std::vector<std::string> still;
  int hue = 0;
  std::vector<const Derivative*> shown;
  for (const Derivative& d : s.derivatives) {
    if (d.by[0] != letter) continue;
    shown.push_back(&d);
    const auto moves = [&](const Vector& v) { return d.apart(v, {}) > 1e-9; };  // false for NaN
    if (!moves(d.reported) && !moves(d.right) && !moves(d.left)) {
      still.push_back(with_subscript(d.by));
      continue;
    }
    const Point z = point(s.z), tip = plus(z, d.reported, d.reach);
    Points path;
    for (const Vector& v : d.moved) path.push_back(point(v));
    add(diagram, {.points = path, .hue = hue, .width = 7, .opacity = 0.25});
    add(diagram, {.kind = Kind::arrow,
                  .points = {z, tip},
                  .hue = hue,
                  .width = std::max(2.0, 4.5 - 1.2 * hue),
                  .name = fmt::format("dz/d{} = {}", with_subscript(d.by), pair_words(d.reported, d.unit))});
    add(diagram, {.kind = Kind::ring, .points = {plus(z, d.right, d.reach)}, .hue = hue, .width = 2});
    add(diagram,
        {.kind = Kind::ring, .points = {plus(z, d.left, -d.reach)}, .hue = hue, .width = 2, .dashed = true});
    taken.push_back(tip), taken.push_back(plus(z, d.left, -d.reach));
    ++hue;
  }
  add(diagram, {.kind = Kind::dot, .points = {point(s.z)}, .hue = ink, .width = 5});
  add_numbers(diagram, rows(s.problem.data.G, s.problem.data.h), near, taken);
  diagram.note = fmt::format(
      "Pale lines: the solutions themselves, the entry moved by up to {0} either way; arrows and rings show "
      "a step of that size. Ring: moved up; dashed ring: moved down (differences with a step of {1}).",
      each(shown, &Derivative::reach), each(shown, &Derivative::step));
  if (hue == 0) diagram.look_for = "Nothing moves: z stays where it is, whatever small change is made.";
  if (!still.empty())
    diagram.note += fmt::format(" Of {} derivative and differences are 0.", fmt::join(still, ", "));
  return diagram;
}

Diagram path_diagram(const Study& s) {
  Diagram diagram = empty_diagram(s.view);
  diagram.title = "The path of the solution";
  diagram.look_for =
      "Each colour is one active set (a dot: z stays there); the path turns or jumps where the set changes.";
  add_feasible_set(diagram, s.problem.data, s.view);
  for (const HalfPlane& plane : rows(s.problem.data.G, s.problem.data.h))
    if (const Points ends = border(plane, s.view); !ends.empty()) add(diagram, {.points = ends});
  std::vector<std::string> sets;
  for (auto first = s.path.begin(), last = first; first != s.path.end(); first = last) {
    Points run;  // of one active set
    while (last != s.path.end() && last->active == first->active && last->status == first->status)
      run.push_back(point((last++)->z));
    if (first->status != QpStatus::solved) continue;
    const std::string words = set_words(first->active);
    auto found = std::find(sets.begin(), sets.end(), words);
    if (found == sets.end()) found = sets.insert(found, words);
    const int hue = static_cast<int>(found - sets.begin());
    if (s.view.length(between(run.front(), run.back())) > 0.02)
      add(diagram, {.points = run, .hue = hue, .width = 6, .name = words});
    else
      add(diagram, {.kind = Kind::dot, .points = {run.front()}, .hue = hue, .width = 6, .name = words});
  }
  add_end(diagram, s.path.begin(), s.path.end(), "t = -1", s.view);
  add_end(diagram, s.path.rbegin(), s.path.rend(), "t = 1", s.view);
  diagram.note = s.problem.line->words + ".";
  return diagram;
}

}  // namespace banach::lab::qp
