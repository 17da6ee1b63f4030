#include <apps/lab/spectrum_page.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <apps/report/format.hpp>

namespace banach::lab {
namespace {

using report::Chart;
using report::Series;

Series unit_circle() {
  constexpr int corners = 180;
  Series circle{.name = "unit circle", .mark = Series::Mark::line, .color = "#8a929c"};
  for (int i = 0; i <= corners; ++i) {
    const double angle = 2.0 * std::acos(-1.0) * i / corners;
    circle.x.push_back(std::cos(angle));
    circle.y.push_back(std::sin(angle));
  }
  return circle;
}

Chart disc(const SpectrumResults& results, const std::vector<Spectrum>& spectra, const std::string& when,
           double reach) {
  Chart chart{.title = fmt::format("Eigenvalues of df/dz at the solution, {} training", when),
              .look_for =
                  "Points near the circle are directions in which z ← f(z) settles slowly; points outside "
                  "are directions in which it moves away.",
              .x_label = "real part",
              .y_label = "imaginary part",
              .kind = Chart::Kind::scatter,
              .x_range = report::Range{-reach, reach},
              .y_range = report::Range{-reach, reach},
              .thin = false,
              .square = true};
  for (std::size_t i = 0; i < spectra.size(); ++i) {
    Series cloud{.name = sample_name(results, i)};
    for (const auto& value : spectra[i].eigenvalues) {
      cloud.x.push_back(value.real());
      cloud.y.push_back(value.imag());
    }
    chart.series.push_back(std::move(cloud));
  }
  chart.series.push_back(unit_circle());
  return chart;
}

/// The magnitudes of all images' eigenvalues together, by falling size.
Series magnitudes(const std::vector<Spectrum>& spectra, const std::string& name) {
  Series curve{.name = name};
  for (const Spectrum& spectrum : spectra)
    for (const auto& value : spectrum.eigenvalues) curve.y.push_back(std::abs(value));
  std::sort(curve.y.rbegin(), curve.y.rend());
  for (std::size_t i = 0; i < curve.y.size(); ++i)
    curve.x.push_back(100.0 * static_cast<double>(i + 1) / static_cast<double>(curve.y.size()));
  return curve;
}

double largest_radius(const std::vector<Spectrum>& spectra) {
  double largest = 0.0;
  for (const Spectrum& spectrum : spectra) largest = std::max(largest, spectrum.radius());
  return largest;
}

std::string share_outside(const std::vector<Spectrum>& spectra) {
  double outside = 0.0, all = 0.0;
  for (const Spectrum& spectrum : spectra) {
    outside += static_cast<double>(spectrum.outside());
    all += static_cast<double>(spectrum.eigenvalues.size());
  }
  return report::format_percent(all > 0.0 ? outside / all : 0.0, 1);
}

report::PictureGrid pictures(const SpectrumResults& results) {
  report::PictureGrid grid{.title = "The images"};
  for (std::size_t i = 0; i < results.samples.size(); ++i) {
    const SampleImage& sample = results.samples[i];
    grid.pictures.push_back({.title = sample_name(results, i),
                             .png = report::encode_png(sample.pixels, sample.width, sample.height)});
  }
  return grid;
}

}  // namespace

report::Page make_page(const SpectrumResults& results) {
  const double before = largest_radius(results.before), after = largest_radius(results.after);
  report::Page page{.kicker = "banach lab spectrum", .title = "The spectrum of an equilibrium model"};
  page.subtitle = fmt::format(
      "Eigenvalues of J = df/dz at z* = f(z*, x) for {} test images, before and after {} steps of training "
      "with {}.",
      results.samples.size(), report::format_count(results.steps), results.rule);
  page.key_figures = {
      {"Largest spectral radius", fmt::format("{:.3f} → {:.3f}", before, after), "before → after"},
      {"Outside of the unit disc", share_outside(results.before) + " → " + share_outside(results.after),
       "of all eigenvalues"}};
  if (std::isfinite(results.accuracy_after))
    page.key_figures.push_back({"Test accuracy", report::format_percent(results.accuracy_after, 2),
                                report::format_percent(results.accuracy_before, 2) + " before"});

  const double reach = 1.06 * std::max({1.0, before, after});
  Chart sizes{.title = "Magnitudes of all eigenvalues",
              .look_for =
                  "How many directions are slow: the height at the left is the spectral radius, and a flat "
                  "curve means that no few directions decide.",
              .x_label = "share of the eigenvalues, %",
              .y_label = "magnitude",
              .series = {magnitudes(results.before, "before"), magnitudes(results.after, "after")},
              .references = {{1.0, "unit circle"}}};
  Chart radii{
      .title = "Spectral radius, image by image",
      .look_for =
          "Whether training made the equilibria of all images harder or easier, or only those of some.",
      .y_label = "spectral radius",
      .kind = Chart::Kind::bar,
      .references = {{1.0, ""}},
      .horizontal = true};
  Series first{.name = "before"}, second{.name = "after"};
  for (std::size_t i = 0; i < results.samples.size(); ++i) {
    radii.categories.push_back(sample_name(results, i));
    first.y.push_back(results.before[i].radius());
    second.y.push_back(results.after[i].radius());
  }
  radii.series = {std::move(first), std::move(second)};

  std::vector<report::Block> found;
  for (const std::string& text : results.notices)
    found.push_back(report::Callout{.title = "Note.", .text = text, .tone = report::Callout::Tone::warning});
  found.push_back(report::Text{findings(results)});
  page.sections = {{.title = "What was found", .intro = {}, .blocks = std::move(found)},
                   {.title = "On the unit disc",
                    .intro = "Each colour is one image; both charts have the same scale.",
                    .blocks = {disc(results, results.before, "before", reach),
                               disc(results, results.after, "after", reach)}},
                   {.title = "Numbers",
                    .intro = {},
                    .blocks = {cli::page_table(summary_table(results), "Image by image"), std::move(sizes),
                               std::move(radii)}},
                   {.title = "Images and settings",
                    .intro = {},
                    .blocks = {pictures(results), report::Settings{"Settings", results.settings},
                               report::Settings{"Environment", results.environment}}}};
  page.footer = fmt::format(
      "Made by banach lab spectrum. The dense J of each image in f64, solved to a relative residual of "
      "{:.1e}; eigenvalues by LAPACK's geev. All of them stand in summary.json beside this page.",
      results.forward_residual);
  return page;
}

}  // namespace banach::lab
