#include <apps/lab/qp/study.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include <banach/engine/grad.hpp>
#include <banach/engine/tape.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/qp.hpp>
#include <banach/ops/reduce.hpp>

namespace banach::lab::qp {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
std::vector<double> values(const Tensor& t) {
  std::vector<double> result;
  for (std::int64_t i = 0; i < t.size(); ++i) result.push_back(t.at(i));
  return result;
}

Vector pair(const Tensor& t) { return {t.at(0), t.at(1)}; }

/// t + step * direction.
Tensor along(const Tensor& t, const Tensor& direction, double step) {
  if (!direction.defined()) return t;
  return (Var(t) + step * Var(direction)).value();
}

Tensor unit(std::int64_t size, std::int64_t i) {
  Tensor e = Tensor::zeros({size}, DType::f64);
  e.mutable_data<double>()[i] = 1.0;
  return e;
}

/// A direction in the space of p, h and b.
struct Direction {
  Tensor p{}, h{}, b{};
};

QpData moved(const QpData& data, const Direction& d, double step) {
  QpData result = data;
  result.p = along(data.p, d.p, step);
  result.h = along(data.h, d.h, step);
  result.b = along(data.b, d.b, step);
  return result;
}

std::vector<bool> active_set(const QpSolution& solved) {
  std::vector<bool> active;
  for (const double entry : values(solved.derivative->active())) active.push_back(entry > 0.5);
  return active;
}

/// The solution, if there is one.
struct Solution {
  Vector z{nan, nan};
  std::optional<std::vector<bool>> active{};
};
Solution solution(const QpData& data) {
  const QpSolution s = solve_qp(data, {.derivative = true});
  if (!s.report.solved()) return {};
  return {pair(s.z), active_set(s)};
}

Vector difference(const Vector& to, const Vector& from, double step) {
  return {(to[0] - from[0]) / step, (to[1] - from[1]) / step};
}

/// The solutions beside one, `step` up and down; of a smaller step where the active set is to be kept.
struct Beside {
  double step = 0;
  Solution up{}, down{};
};
Beside beside(const QpData& data, const Direction& direction, double step,
              const std::optional<std::vector<bool>>& keep) {
  Beside result;
  for (const double part : {1.0, 0.1, 0.01, 0.001}) {
    const double size = part * step;
    result = {size, solution(moved(data, direction, size)), solution(moved(data, direction, -size))};
    if (!keep || (result.up.active == keep && result.down.active == keep)) break;
  }
  return result;
}

/// Solution and the rows of dz/d(p, h, b), by one backward sweep for z1 and one for z2.
struct Differentiated {
  QpSolved solved{};
  std::array<GradientStatus, 2> status{};
  std::array<Vars, 2> rows{};  ///< cotangents of p, h and b; those that there are
};

Differentiated differentiate(const QpData& data) {
  const Tape tape;
  const auto input = [](const Tensor& t) { return t.defined() ? leaf(t) : Var(); };
  const Var p = input(data.p), h = input(data.h), b = input(data.b);
  const auto constant = [](const Tensor& t) { return t.defined() ? Var(t) : Var(); };
  Differentiated result;
  result.solved = qp_solve({constant(data.Q), p, constant(data.G), h, constant(data.A), b});
  Vars wrt;
  for (const Var& x : {p, h, b})
    if (x.defined()) wrt.push_back(x);
  for (std::int64_t k = 0; k < 2; ++k) {
    const auto row = static_cast<std::size_t>(k);
    result.rows[row] = grad(sum(result.solved.z * Var(unit(2, k))), wrt);
    result.status[row] = result.solved.adjoint.last().samples[0];
  }
  return result;
}

/// dz in the direction, by the rows.
Vector reported(const Differentiated& d, const QpData& data, const Direction& direction) {
  Vector result{};
  for (std::size_t k = 0; k < 2; ++k) {
    std::size_t i = 0;
    const auto add = [&](const Tensor& parameter, const Tensor& change) {
      if (!parameter.defined()) return;
      const Tensor row = d.rows[k][i++].value();
      for (std::int64_t j = 0; change.defined() && j < row.size(); ++j) result[k] += row.at(j) * change.at(j);
    };
    add(data.p, direction.p), add(data.h, direction.h), add(data.b, direction.b);
  }
  return result;
}

View view_of(const Study& s) {
  if (s.problem.reach) return {s.problem.center, {*s.problem.reach, *s.problem.reach}};
  std::vector<Vector> seen;
  if (s.feasible) seen.push_back(*s.feasible);
  if (s.report.status != QpStatus::dual_infeasible) seen.push_back(s.z);  // else it is a direction
  return fitting(s.problem.data, seen, s.free_optimum);
}

/// The derivatives by the entries of one parameter, each moved by the same part of its scale: what is longest
/// takes a quarter of the view.
void add_derivatives(const std::string& letter, const Tensor& parameter, Tensor Direction::*part,
                     const std::vector<double>& scales, const Differentiated& d, Study& s) {
  if (!parameter.defined()) return;
  const QpData& data = s.problem.data;
  const std::size_t first = s.derivatives.size();
  double longest = 0.0, longest_difference = 0.0;
  for (std::int64_t i = 0; i < parameter.size(); ++i) {
    Direction direction;
    direction.*part = unit(parameter.size(), i);
    const double scale = scales[static_cast<std::size_t>(i)];
    Derivative one{.by = fmt::format("{}{}", letter, i + 1),
                   .reported = reported(d, data, direction),
                   .unit = {s.view.reach[0] / scale, s.view.reach[1] / scale}};
    const Beside near =
        beside(data, direction, difference_step * scale, exact(s) ? std::optional(s.active) : std::nullopt);
    one.step = near.step;
    one.right = difference(near.up.z, s.z, near.step);
    one.left = difference(s.z, near.down.z, near.step);
    longest = std::max(longest, scale * s.view.length(one.reported));
    for (const Vector& v : {one.right, one.left})
      if (scale * s.view.length(v) > longest_difference) longest_difference = scale * s.view.length(v);
    s.derivatives.push_back(std::move(one));
  }
  // Differences too, but for those across a jump.
  if (longest_difference < 10 * std::max(longest, 1.0)) longest = std::max(longest, longest_difference);
  const double most = 0.25 / (longest > 1e-6 ? longest : 1.0);
  constexpr int places = 30;  // on either side
  for (std::size_t k = first; k < s.derivatives.size(); ++k) {
    Direction direction;
    direction.*part = unit(parameter.size(), static_cast<std::int64_t>(k - first));
    const double reach = s.derivatives[k].reach = most * scales[k - first];
    for (int i = -places; i <= places; ++i)
      if (const Solution at = solution(moved(data, direction, reach * i / places)); at.active)
        s.derivatives[k].moved.push_back(at.z);
  }
}

/// The constraints that hold the solution, and those that merely touch it.
void tell_active(const QpData& data, Study& s) {
  const QpSolution solved = solve_qp(data, {.derivative = true});
  s.active = s.solved() ? active_set(solved) : std::vector<bool>(s.lambda.size(), false);
  s.weak.assign(s.lambda.size(), false);
  std::vector<std::pair<double, std::size_t>> free;  // by their slack, to a row's scale
  for (std::size_t i = 0; i < s.lambda.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    const double scale = std::max(std::abs(data.G.at(2 * row)), std::abs(data.G.at(2 * row + 1)));
    if (!s.active[i]) free.emplace_back(std::abs(s.slack[i]) / (scale > 0.0 ? scale : 1.0), i);
  }
  if (!s.solved()) return;
  // How many are weak is the solver's to say; they are those of least slack.
  std::sort(free.begin(), free.end());
  for (int k = 0; k < solved.derivative->problems()[0].weak; ++k)
    s.weak[free[static_cast<std::size_t>(k)].second] = true;
}

GradientKind worse(const std::array<GradientStatus, 2>& status) {
  for (const GradientKind kind :
       {GradientKind::approximate, GradientKind::non_differentiable, GradientKind::least_squares})
    if (status[0].kind == kind || status[1].kind == kind) return kind;
  return status[0].kind;
}

/// Of a problem that nobody has looked at: p1 by its own scale.
Line own_line(const Scales& scales) {
  return {.words = fmt::format("p₁ moves by up to {:.3g} either way", scales.p[0]),
          .p = Tensor::from<double>(Vector{scales.p[0], 0}, {2})};
}

PathPoint path_point(const QpData& data, const Direction& direction, double t) {
  const QpData here = moved(data, direction, t);
  const Differentiated d = differentiate(here);
  PathPoint point{.t = t, .status = d.solved.report.samples[0].status, .gradient = worse(d.status)};
  if (point.status != QpStatus::solved) {
    point.z = point.reported = point.difference = {nan, nan};
    return point;
  }
  point.z = pair(d.solved.z.value());
  point.lambda = values(d.solved.lambda.value());
  const auto active = solution(here).active;
  point.active = active.value_or(std::vector<bool>(point.lambda.size(), false));
  point.reported = reported(d, here, direction);
  const Beside near =
      beside(here, direction, difference_step, point.gradient == GradientKind::exact ? active : std::nullopt);
  point.difference = difference(near.up.z, near.down.z, 2 * near.step);
  return point;
}

}  // namespace

double Derivative::largest_difference() const {
  const double up = apart(reported, right), down = apart(reported, left);
  return std::isnan(up) || std::isnan(down) ? nan : std::max(up, down);
}

Study study(const Problem& problem) {
  const QpData& data = problem.data;
  const Differentiated d = differentiate(data);
  Study s{.problem = problem,
          .report = d.solved.report.samples[0],
          .z = pair(d.solved.z.value()),
          .nu = values(d.solved.nu.value()),
          .lambda = values(d.solved.lambda.value()),
          .slack = values(d.solved.slack.value()),
          .gradient = d.status};
  tell_active(data, s);
  const QpSolution free = solve_qp({.Q = data.Q, .p = data.p}, {.derivative = true});
  if (free.report.solved() && !free.derivative->problems()[0].singular) s.free_optimum = pair(free.z);
  const Solution feasible =
      solution({.Q = Tensor::eye(2, DType::f64),
                .p = Tensor::from<double>(Vector{-problem.center[0], -problem.center[1]}, {2}),
                .G = data.G,
                .h = data.h,
                .A = data.A,
                .b = data.b});
  if (feasible.active) s.feasible = feasible.z;
  s.view = view_of(s);
  s.scales = scales(data, s.view);
  if (!s.solved()) return s;
  add_derivatives("p", data.p, &Direction::p, s.scales.p, d, s);
  add_derivatives("h", data.h, &Direction::h, s.scales.h, d, s);
  add_derivatives("b", data.b, &Direction::b, s.scales.b, d, s);
  if (!problem.reach) s.problem.line = own_line(s.scales);
  constexpr int places = 40;  // on either side of 0
  if (const auto& line = s.problem.line)
    for (int i = -places; i <= places; ++i)
      s.path.push_back(path_point(data, {.p = line->p, .h = line->h}, double(i) / places));
  return s;
}

std::string gradient_words(const Study& s) {
  if (!s.solved()) return "none";
  const std::string_view first = name(s.gradient[0].kind), second = name(s.gradient[1].kind);
  return first == second ? std::string(first) : fmt::format("{} (z1), {} (z2)", first, second);
}

bool exact(const Study& s) {
  return s.solved() && s.gradient[0].kind == GradientKind::exact && s.gradient[1].kind == GradientKind::exact;
}

}  // namespace banach::lab::qp
