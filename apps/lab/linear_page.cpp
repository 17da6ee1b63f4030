#include <apps/lab/linear_page.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <apps/report/format.hpp>

namespace banach::lab {
namespace {

using report::format_number;

report::Table numbers_table(const LinearResults& results) {
  report::Table table{
      .title = "Every rule beside its closed form",
      .caption =
          "The closed form is that of the rule's own approximation, computed without the library from the "
          "spectrum of A. Numbers are 2-norms where z has more than one entry. For a rule that draws "
          "numbers, the mean of a thousand draws stands beside the mean's closed form.",
      .columns = {{"rule"},
                  {"gradient"},
                  {"closed form"},
                  {"difference", "", "relative"},
                  {"cosine", "", "to the exact gradient"},
                  {"norm ratio", "", "||estimate|| / ||exact||"},
                  {"direction"}}};
  const auto size = [](const std::vector<double>& v) {
    double squares = 0.0;
    for (const double x : v) squares += x * x;
    return fmt::format("{:.10g}", v.size() == 1 ? v.front() : std::sqrt(squares));
  };
  for (const LinearRule& r : results.rules)
    table.rows.push_back({r.spec, size(r.computed), r.closed_form.empty() ? "none" : size(r.closed_form),
                          r.closed_form.empty() ? "-" : format_number(r.difference, 2),
                          fmt::format("{:.6f}", r.quality.cosine), format_number(r.quality.norm_ratio, 6),
                          direction(r.quality)});
  return table;
}

report::Table solves_table(const LinearResults& results) {
  using Align = report::Column::Align;
  report::Table table{.title = "Formulas, and how the solves ended",
                      .caption = {},
                      .columns = {{"rule"},
                                  {"formula", "", "", Align::left},
                                  {"forward", "", "status, evaluations of f"},
                                  {"adjoint", "", "status, vector-Jacobian products"}}};
  for (const LinearRule& r : results.rules)
    table.rows.push_back(
        {r.spec, r.formula, fmt::format("{}, {}", r.forward_status, r.forward_evaluations),
         r.adjoint_status.empty()
             ? "none"
             : fmt::format("{}, {}", adjoint_in_words(r.spec, r.adjoint_status), r.backward_evaluations)});
  return table;
}

template <class Value>
report::Chart bars(const LinearResults& results, const std::string& title, const std::string& look_for,
                   const std::string& label, Value value) {
  report::Chart chart{
      .title = title, .look_for = look_for, .y_label = label, .kind = report::Chart::Kind::bar};
  report::Series series;
  for (const LinearRule& rule : results.rules) {
    chart.categories.push_back(rule.spec);
    series.y.push_back(value(rule));
  }
  chart.series.push_back(std::move(series));
  chart.references = {{1.0, "exact"}};
  chart.horizontal = chart.color_by_category = true;
  return chart;
}

}  // namespace

report::Page make_page(const LinearResults& results) {
  report::Page page{.kicker = "banach lab", .title = "Gradient estimators where the answer is known"};
  page.subtitle =
      "z = A z + b and the loss is the sum of z, so the gradient in b is λ = (I - Aᵀ)⁻¹ 1, and every rule's "
      "estimate has a closed form.";
  std::size_t matching = 0, known = 0;
  double worst = 0.0;
  for (const LinearRule& r : results.rules) {
    if (r.closed_form.empty()) continue;
    ++known;
    matching += r.matches ? 1 : 0;
    worst = std::max(worst, r.difference);
  }
  page.key_figures = {{"Rules that match their closed form", fmt::format("{} of {}", matching, known), ""},
                      {"Largest relative difference", fmt::format("{:.1e}", worst), ""}};
  for (const LinearRule& rule : results.rules) page.series_order.push_back(rule.spec);

  std::vector<report::Block> blocks;
  for (const LinearRule& r : results.rules) {
    for (const std::string& remark : remarks(r))
      blocks.push_back(report::Callout{"", remark, report::Callout::Tone::warning});
  }
  blocks.push_back(numbers_table(results));
  blocks.push_back(bars(results, "Cosine to the exact gradient",
                        "1 is the right direction; a bar to the left of 0 points uphill.", "cosine",
                        [](const LinearRule& r) { return r.quality.cosine; }));
  blocks.push_back(bars(results, "Length beside the exact gradient",
                        "1 is the right length; a truncated series falls short of it.",
                        "||estimate|| / ||exact||",
                        [](const LinearRule& r) { return r.quality.norm_ratio; }));
  blocks.push_back(solves_table(results));
  page.sections = {{.title = "Rules", .intro = {}, .blocks = std::move(blocks)},
                   {.title = "Settings",
                    .intro = {},
                    .blocks = {report::Settings{"Settings", results.settings},
                               report::Settings{"Environment", results.environment}}}};
  page.footer = "Made by banach lab --problem linear. The numbers behind the page: summary.json beside it.";
  return page;
}

}  // namespace banach::lab
