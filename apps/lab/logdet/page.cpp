#include <apps/lab/logdet/page.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace banach::lab::logdet {
namespace {

using report::Chart;
using report::format_number;
using report::Series;
using Family = Estimator::Family;

/// Where the biases that are rounding alone are drawn.
constexpr double smallest = 1e-14;

void put(Series& series, double x, double y) { series.x.push_back(x), series.y.push_back(y); }

int terms_of(const Measured& m) { return std::get<PowerSeries>(m.estimator.by).terms; }

/// A chart over how many terms are taken, in logarithms.
Chart over_terms(Chart chart) {
  chart.x_label = "terms of the cut series";
  chart.log_x = chart.log_y = true;
  return chart;
}

/// The cut series by one kind of gradient.
std::vector<const Measured*> cut_series(const Study& s, bool neumann) {
  std::vector<const Measured*> found;
  for (const Measured& m : s.measured)
    if (m.series() && m.estimator.neumann() == neumann) found.push_back(&m);
  return found;
}

Chart bias_chart(const Study& s, bool derivative) {
  Chart chart = over_terms(
      {.title = derivative ? "Bias of the derivative" : "Bias of the value",
       .look_for = "The bias must not lie above its bound. Below two standard errors, dashed, nothing "
                   "can be said of it.",
       .y_label = "|mean - answer|",
       .note = fmt::format("{} draws. Computed: the bias that the cut series should have, from J.",
                           report::format_count(s.of("series 5").value.draws))});
  Series bound{.name = "bound", .mark = Series::Mark::line}, expected = bound;
  expected.name = "computed";
  for (const bool neumann : {false, true}) {
    if (neumann && !derivative) continue;
    const char* gradient = neumann ? ", Neumann gradient" : "";
    Series measured{.name = fmt::format("cut series{}", gradient), .mark = Series::Mark::points};
    Series noise{.name = fmt::format("two standard errors{}", gradient),
                 .dashed = true,
                 .mark = Series::Mark::line,
                 .looks_like = measured.name};
    for (const Measured* m : cut_series(s, neumann)) {
      const Moments& of = derivative ? m->derivative : m->value;
      put(measured, terms_of(*m), std::max(std::abs(of.bias()), smallest));
      if (of.varies()) put(noise, terms_of(*m), 2.0 * of.error);
      if (neumann) continue;
      put(bound, terms_of(*m), of.bound);
      put(expected, terms_of(*m), std::max(std::abs(of.expected - of.exact), smallest));
    }
    chart.series.push_back(std::move(measured));
    if (!noise.x.empty()) chart.series.push_back(std::move(noise));
  }
  chart.series.push_back(std::move(bound));
  chart.series.push_back(std::move(expected));
  return chart;
}

std::string family_words(const Measured& m) {
  switch (m.estimator.family) {
    case Family::exact:
      return "exact";
    case Family::series:
      return "series, 1 Rademacher probe";
    case Family::roulette:
      return m.estimator.name;
    case Family::gaussian:
      return fmt::format("{} terms, Gaussian probes", probe_terms);
    case Family::rademacher:
      return fmt::format("{} terms, Rademacher probes", probe_terms);
    case Family::hutch:
      return fmt::format("{} terms, Hutch++", probe_terms);
    case Family::lanczos:
      return "Lanczos";
  }
  return "";
}

/// One point for each estimator of the value.
Chart cost_chart(const Study& s, bool rms) {
  Chart chart{.title = rms ? "Error of one draw" : "Variance of one draw",
              .look_for = rms ? "What counts for an estimate of one density: bias and variance together."
                              : "What counts where many draws are averaged, as in training: the lower left "
                                "is the best, as long as the bias does not matter.",
              .x_label = "products with J",
              .y_label = rms ? "root mean square error of the value" : "variance of the value",
              .log_x = true,
              .log_y = true,
              .note = rms ? "Left out: what is exact but for rounding"
                          : "Left out: what has no variance but rounding"};
  bool infinite = false;
  for (const Measured& m : s.measured) {
    if (m.estimator.neumann()) continue;
    infinite = infinite || !m.finite_variance;
    if (!m.finite_variance) continue;
    const double height = rms ? m.value.rms() : m.value.variance;
    if (!(height > (rms ? 1e-10 : 1e-20))) continue;
    const std::string name = family_words(m);
    auto series = std::find_if(chart.series.begin(), chart.series.end(),
                               [&](const Series& one) { return one.name == name; });
    if (series == chart.series.end())
      series = chart.series.insert(series, Series{.name = name, .mark = Series::Mark::automatic});
    put(*series, m.products, height);
  }
  chart.note += infinite ? ", and roulettes of infinite variance." : ".";
  return chart;
}

Chart gradient_chart(const Study& s) {
  Chart chart = over_terms({.title = "Variance of the derivative",
                            .look_for = "Both have the same mean. The Neumann gradient records one product "
                                        "with J instead of one for each term.",
                            .y_label = "variance of one draw",
                            .note = "Bands: two standard errors, from the fourth moment."});
  for (const bool neumann : {false, true}) {
    Series series{.name = neumann ? "cut series, Neumann gradient" : "cut series"};
    for (const Measured* m : cut_series(s, neumann)) {
      if (!m->derivative.varies()) continue;
      const double variance = m->derivative.variance, band = 2.0 * m->derivative.variance_error;
      put(series, terms_of(*m), variance);
      series.lo.push_back(std::max(variance - band, 0.01 * variance));
      series.hi.push_back(variance + band);
    }
    if (!series.x.empty()) chart.series.push_back(std::move(series));
  }
  return chart;
}

Chart roulette_chart(const Study& s) {
  Chart chart{.title = "Variance of roulettes, draw after draw",
              .look_for =
                  "A finite variance settles; an infinite one grows by jumps, ever rarer and ever "
                  "larger. Where J is small, so many draws may not show one.",
              .x_label = "draws so far",
              .y_label = "variance of the value",
              .log_x = true,
              .log_y = true};
  for (const Measured& m : s.measured) {
    if (m.estimator.neumann() || m.running.empty()) continue;
    Series series{.name = m.estimator.name, .dashed = !m.finite_variance, .mark = Series::Mark::line};
    for (const auto& [draws, variance] : m.running) put(series, static_cast<double>(draws), variance);
    chart.series.push_back(std::move(series));
  }
  chart.note = fmt::format(
      "Dashed: infinite, as the square of the spectral radius, {}, is not below 1 - p (Poisson: never "
      "below).",
      format_number(s.problem.radius() * s.problem.radius()));
  return chart;
}

/// All that can be tested, as a cloud over the order in which it was measured.
Chart t_chart(const Results& results) {
  Chart chart{.title = "t statistics",
              .look_for = "Nearly all between -3 and 3, and no side preferred.",
              .x_label = "numbers compared, in the order of the tables",
              .y_label = "(mean - what it should be) / standard error",
              .kind = Chart::Kind::scatter,
              .references = {{3.0, "3"}, {-3.0, "-3"}},
              .note =
                  "Means of values and derivatives; of cut series beside the sum of so many terms. Left "
                  "out: infinite variances, and means that are exact but for rounding.",
              .wide = true};
  Series roulettes{.name = "roulettes"}, others{.name = "cut series, all probes, Lanczos to the end"};
  double place = 0.0;
  for (const Tested& one : tested(results))
    put(one.estimator.starts_with("roulette") ? roulettes : others, ++place, one.t);
  chart.series = {roulettes, others};
  chart.x_range = report::Range{0.0, place + 1.0};
  return chart;
}

report::Section section(const Study& s, const StudyOptions& options) {
  const Answer exact = s.problem.exact();
  report::Section section{
      .title = s.problem.title,
      .intro =
          fmt::format("{} d = {}, c = {}, spectral radius {}; log |det(I + J)| = {}, its derivative along "
                      "D {}.",
                      s.problem.story, s.problem.d(), format_number(s.problem.lipschitz),
                      format_number(s.problem.radius()), format_number(exact.value, 6),
                      format_number(exact.derivative, 6))};
  report::Table table =
      cli::page_table(summary_table({.options = options, .studies = {s}}), "All estimators of this J");
  section.blocks = {report::Text{findings(s)}, bias_chart(s, false), bias_chart(s, true),
                    cost_chart(s, false), cost_chart(s, true)};
  if (Chart chart = gradient_chart(s); !chart.series.empty()) section.blocks.push_back(std::move(chart));
  section.blocks.push_back(roulette_chart(s));
  section.blocks.push_back(std::move(table));
  return section;
}

}  // namespace

report::Page make_page(const Results& results) {
  report::Page page{.kicker = "banach lab logdet",
                    .title = "Estimators of a log determinant",
                    .subtitle =
                        "log |det(I + J)| is what a residual block x + g(x) adds to the logarithm of "
                        "a density. On maps for which it is known: how far each estimator is off, by "
                        "bias and by chance, and what it costs."};
  const std::vector<Tested> all = tested(results);
  double largest = 0.0, of_roulettes = 0.0;
  for (const Tested& one : all) {
    largest = std::max(largest, std::abs(one.t));
    if (one.estimator.starts_with("roulette")) of_roulettes = std::max(of_roulettes, std::abs(one.t));
  }
  page.key_figures = {{"Draws", report::format_count(results.options.draws), "of each estimator"}};
  if (!all.empty()) {
    page.key_figures.push_back({"Largest |t|", format_number(largest), fmt::format("of {}", all.size())});
    page.key_figures.push_back(
        {"Of roulettes", format_number(of_roulettes), "largest |t|, where the variance is finite"});
  }
  page.series_order = {"cut series", "cut series, Neumann gradient", "bound", "computed"};
  if (!all.empty())
    page.sections.push_back({.title = "Are the means right?",
                             .blocks = {report::Text{{findings(results).front()}}, t_chart(results)}});
  for (const Study& s : results.studies) page.sections.push_back(section(s, results.options));
  page.sections.push_back(
      {.title = "How it was measured",
       .blocks = {
           report::Text{{"The derivative is that in s of log |det(I + J + sD)| at s = 0, for one D: "
                         "tr((I + J)^-1 D). D is symmetric and positive, a random one that does not commute "
                         "with J (I for J = -cI). s is a number of its own for each draw, so one sweep gives "
                         "the derivative of each. The value's answer is the sum of log |1 + λ| over the "
                         "eigenvalues λ of J.",
                         "A product is one with J or with its transpose for the whole batch; of roulettes, "
                         "the mean number of terms of a draw. The sweep's own are not counted.",
                         "Whether a variance is finite is told by the spectral radius, not by the draws."}},
           report::Settings{.title = "Environment", .entries = results.environment}}});
  page.footer = "Made by banach lab logdet. All numbers stand in summary.json beside this page.";
  return page;
}

}  // namespace banach::lab::logdet
