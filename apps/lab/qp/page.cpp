#include <apps/lab/qp/page.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/lab/qp/diagrams.hpp>
#include <apps/lab/qp/geometry.hpp>

namespace banach::lab::qp {
namespace {

using report::Chart;
using report::format_number;
using report::Series;

/// "x₁ + 0.3 x₂".
std::string left_side(const Vector& a) {
  std::string words;
  for (std::size_t k = 0; k < 2; ++k) {
    if (a[k] == 0.0) continue;
    words += words.empty() ? (a[k] < 0 ? "-" : "") : (a[k] < 0 ? " - " : " + ");
    if (std::abs(a[k]) != 1.0) words += format_number(std::abs(a[k])) + " ";
    words += k == 0 ? "x₁" : "x₂";
  }
  return words.empty() ? "0" : words;
}

report::Settings returned(const Study& s) {
  report::Settings settings{.title = "What the library returns", .beside_figure = true};
  const auto put = [&](const std::string& key, const std::string& value) {
    settings.entries.emplace_back(key, value);
  };
  const QpStatus status = s.report.status;
  const bool infeasible = status == QpStatus::primal_infeasible, ray = status == QpStatus::dual_infeasible;
  put("status", std::string(name(status)));
  put("steps of the interior point", std::to_string(s.report.steps));
  if (s.solved()) put("objective", format_number(s.report.objective));
  if (s.solved()) put("largest residual", format_number(s.report.largest(), 2));
  if (s.solved() || infeasible || ray)
    put(ray          ? "z, a direction"
        : infeasible ? "z, of least violation"
                     : "z",
        pair_words(s.z, ray ? Vector{} : s.view.reach));
  if (infeasible) put("largest violation there", format_number(s.report.primal));

  const QpData& data = s.problem.data;
  const bool weighted = s.solved() || infeasible;
  const auto inequalities = rows(data.G, data.h), equalities = rows(data.A, data.b);
  for (std::size_t i = 0; i < inequalities.size(); ++i) {
    std::string words = left_side(inequalities[i].a) + " ≤ " + format_number(inequalities[i].h);
    const double scale = s.scales.h[i];
    if (weighted) words += ": λ = " + number_words(s.lambda[i], s.solved() ? s.scales.objective / scale : 0);
    if (s.solved()) words += ", slack " + number_words(s.slack[i], scale);
    put(fmt::format("constraint {}", i + 1), words);
  }
  for (std::size_t i = 0; i < equalities.size(); ++i) {
    std::string words = left_side(equalities[i].a) + " = " + format_number(equalities[i].h);
    if (weighted)
      words += ": ν = " + number_words(s.nu[i], s.solved() ? s.scales.objective / s.scales.b[i] : 0);
    put(fmt::format("equality {}", i + 1), words);
  }
  for (std::size_t k = 0; k < 2 && s.solved(); ++k) {
    const GradientStatus& gradient = s.gradient[k];
    put(k == 0 ? "gradient of z₁" : "gradient of z₂", std::string(name(gradient.kind)));
    put("its adjoint",
        fmt::format("{}, residual {}", name(gradient.adjoint), format_number(gradient.adjoint_residual, 2)));
  }
  if (!s.solved()) put("gradient", fmt::format("{}: values are constants", name(s.gradient[0].kind)));
  return settings;
}

report::Table derivatives(const Study& s) {
  report::Table table{
      .title = "Derivatives in numbers",
      .caption =
          "Bold: a difference that is off by more than 1e-6, or does not exist. Off by: of what "
          "would move z through the drawing, for a change of the entry by its scale; relative to "
          "the derivative where that is larger.",
      .columns = {{.name = "By"},
                  {.name = "Reported"},
                  {.name = "Difference up"},
                  {.name = "Difference down"},
                  {.name = "Step"},
                  {.name = "Off by"}}};
  for (const Derivative& d : s.derivatives) {
    const auto far = [&](const Vector& v) { return !(d.apart(d.reported, v) <= agreement); };
    if (far(d.right)) table.emphasised.emplace_back(table.rows.size(), 2);
    if (far(d.left)) table.emphasised.emplace_back(table.rows.size(), 3);
    const double off = d.largest_difference();
    table.rows.push_back({with_subscript(d.by), pair_words(d.reported, d.unit), pair_words(d.right, d.unit),
                          pair_words(d.left, d.unit), format_number(d.step, 2),
                          std::isnan(off) ? "-" : format_number(off, 2)});
  }
  return table;
}

Chart along_path(const std::string& title, const std::string& look_for, const std::string& y_label) {
  return {.title = title,
          .look_for = look_for,
          .x_label = "t",
          .y_label = y_label,
          .kind = Chart::Kind::scatter,
          .x_range = report::Range{-1, 1}};
}

Series line(const std::string& name) { return {.name = name, .mark = Series::Mark::line}; }

void put(Series& series, double x, double y) { series.x.push_back(x), series.y.push_back(y); }

/// The variables that share a chart: both, unless their scales differ.
using Variables = std::vector<std::size_t>;
std::vector<Variables> by_scale(const Study& s) {
  return s.view.one_scale() ? std::vector<Variables>{{0, 1}} : std::vector<Variables>{{0}, {1}};
}
/// "z", or "z₁".
std::string variable_words(const Variables& variables) {
  return variables.size() > 1 ? "z" : variables[0] == 0 ? "z₁" : "z₂";
}

Chart solution_chart(const Study& s, const Variables& variables) {
  const std::string words = variable_words(variables);
  Chart chart = along_path(
      words + " along the path",
      "Straight pieces and corners: as long as one active set holds, z is linear in p and h.", words);
  for (const std::size_t k : variables) {
    Series series = line(k == 0 ? "z₁" : "z₂");
    for (const PathPoint& p : s.path) put(series, p.t, p.z[k]);
    chart.series.push_back(std::move(series));
  }
  return chart;
}

Chart multiplier_chart(const Study& s) {
  Chart chart = along_path("Multipliers along the path",
                           "A constraint joins or leaves the active set where its multiplier meets 0.", "λ");
  for (std::size_t i = 0; i < s.lambda.size(); ++i) {
    Series series = line(with_subscript("λ" + std::to_string(i + 1)));
    for (const PathPoint& p : s.path) put(series, p.t, i < p.lambda.size() ? p.lambda[i] : unknown);
    chart.series.push_back(std::move(series));
  }
  return chart;
}

Chart derivative_chart(const Study& s, const Variables& variables) {
  const std::string words = variable_words(variables);
  Chart chart =
      along_path(variables.size() > 1 ? "The derivative along the path"
                                      : "The derivative of " + words + " along the path",
                 "Points: what the adjoint reports. Lines: central differences. They part only where "
                 "the derivative is not called exact.",
                 "d" + words + "/dt");
  double largest = s.view.reach[variables[0]];  // that is drawn in any case
  for (const std::size_t k : variables) {
    const std::string z = k == 0 ? "dz₁/dt" : "dz₂/dt";
    Series reported{.name = z + ", reported", .looks_like = k == 0 ? "z₁" : "z₂"};
    Series difference = line(z + ", difference");
    difference.looks_like = reported.looks_like;
    for (const PathPoint& p : s.path) {
      put(reported, p.t, p.reported[k]);
      put(difference, p.t, p.difference[k]);
      if (p.gradient == GradientKind::exact) largest = std::max(largest, std::abs(p.reported[k]));
    }
    chart.series.push_back(std::move(difference));
    chart.series.push_back(std::move(reported));
  }
  bool jumps = false;
  std::vector<std::string> others;
  for (const PathPoint& p : s.path) {
    for (const std::size_t k : variables) jumps = jumps || std::abs(p.difference[k]) > 20 * largest;
    if (p.gradient != GradientKind::exact) {
      chart.references.push_back({p.t, "", report::ReferenceLine::Axis::x});
      others.push_back(fmt::format("{} ({})", format_number(p.t), name(p.gradient)));
    }
  }
  if (!others.empty())
    chart.note = fmt::format("Not called exact at t = {}: dashed lines. ", fmt::join(others, ", "));
  if (jumps) {  // the difference across a jump would hide all else
    const double reach = 1.3 * largest;
    chart.y_range = report::Range{-reach, reach};
    chart.note += fmt::format("A difference beyond {} is cut off: z jumps there.", format_number(reach));
  }
  return chart;
}

report::Section section(const Study& s) {
  report::Section section{.title = s.problem.title, .intro = s.problem.story};
  section.blocks = {problem_diagram(s), returned(s)};
  for (const char letter : {'p', 'h', 'b'})
    if (std::any_of(s.derivatives.begin(), s.derivatives.end(),
                    [&](const Derivative& d) { return d.by[0] == letter; }))
      section.blocks.push_back(derivative_diagram(s, letter));
  if (!s.derivatives.empty()) section.blocks.push_back(derivatives(s));
  if (!s.path.empty()) {
    section.blocks.push_back(path_diagram(s));
    for (const Variables& part : by_scale(s)) section.blocks.push_back(solution_chart(s, part));
    if (!s.lambda.empty()) section.blocks.push_back(multiplier_chart(s));
    for (const Variables& part : by_scale(s)) section.blocks.push_back(derivative_chart(s, part));
  }
  return section;
}

report::Table overview(const Results& results) {
  report::Table table = cli::page_table(summary_table(results), "All problems");
  table.columns[1].align = table.columns[2].align = report::Column::Align::center;
  return table;
}

Chart estimate_chart(const Estimates& estimates, bool of_error) {
  Chart chart{
      .title = fmt::format("{}: {}", estimates.problem, of_error ? "error" : "cosine"),
      .look_for = of_error
                      ? "How many steps must be differentiated until the error is small."
                      : "Whether a short estimate points the right way at least: 1 is the exact direction.",
      .x_label = "steps differentiated",
      .y_label = of_error ? "error / length of the gradient" : "cosine",
      .log_x = true,
      .log_y = of_error};
  if (of_error) chart.note = "Errors below 1e-12 are drawn there.";
  for (const std::string& rule : estimate_rules()) {
    Series series{.name = rule};
    for (const Estimate& e : estimates.all)
      if (const double value = of_error ? std::max(e.error, 1e-12) : e.cosine;
          e.rule == rule && std::isfinite(value))
        put(series, e.steps, value);
    chart.series.push_back(std::move(series));
  }
  return chart;
}

report::Section estimate_section(const Results& results) {
  report::Section section{
      .title = "Truncated gradients",
      .intro =
          "The same problems by ADMM, a fixed point of simple steps, of which only some are differentiated: "
          "jfb one, neumann and phantom so many terms at the solution, truncated the last steps before it, "
          "unrolled so many from the start. Beside them the exact derivative, all entries of dz/d(p, h) "
          "as one vector. With all the steps that the solve took, truncated is unrolled, whose derivative "
          "settles "
          "later than z itself."};
  for (const Estimates& estimates : results.estimates) {
    section.blocks.push_back(estimate_chart(estimates, true));
    section.blocks.push_back(estimate_chart(estimates, false));
  }
  return section;
}

std::string count_words(std::size_t part, std::size_t all) { return fmt::format("{} of {}", part, all); }

}  // namespace

report::Page make_page(const Results& results) {
  report::Page page{.kicker = "banach lab qp", .title = "The derivative of a quadratic program"};
  page.subtitle =
      "min ½ z'Qz + p'z subject to Gz ≤ h and Az = b, in two variables: where z has a derivative, where it "
      "has "
      "none, and what is reported then. Every status and number is what the library returns.";
  std::size_t solved = 0, called_exact = 0;
  double largest = 0.0;
  for (const Study& s : results.studies) {
    solved += s.solved(), called_exact += exact(s);
    if (exact(s))
      for (const Derivative& d : s.derivatives) largest = std::max(largest, d.largest_difference());
  }
  page.key_figures = {{"Solved", count_words(solved, results.studies.size()), "the others are named"},
                      {"Gradient exact", count_words(called_exact, solved), "the others say what they are"}};
  if (called_exact > 0)
    page.key_figures.push_back({"Exact gradients are off by", format_number(largest, 2),
                                "at most, from differences of solutions, relative"});
  page.sections.push_back(
      {.title = "What was found", .blocks = {report::Text{findings(results)}, overview(results)}});
  for (const Study& s : results.studies) page.sections.push_back(section(s));
  if (!results.estimates.empty()) page.sections.push_back(estimate_section(results));
  page.sections.push_back(
      {.title = "Environment",
       .blocks = {report::Settings{.title = "Environment", .entries = results.environment}}});
  page.footer = fmt::format(
      "Made by banach lab qp. Derivatives by one backward sweep of qp_solve for each of z₁ and z₂; "
      "differences of solutions with a step of {:g} of each entry's scale, that of the other terms of its "
      "equation; where there is a derivative and that step would change the active set, with a smaller one. "
      "All numbers stand in summary.json beside this page.",
      difference_step);
  return page;
}

}  // namespace banach::lab::qp
