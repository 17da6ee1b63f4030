#include <apps/lab/spectrum.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/report/format.hpp>
#include <banach/ops/implicit/spectrum.hpp>

namespace banach::lab {
namespace {

/// Of all images together.
struct Pooled {
  double least = std::numeric_limits<double>::infinity(), largest = 0.0;  // spectral radii
  std::size_t outside = 0, all = 0;

  explicit Pooled(const std::vector<Spectrum>& spectra) {
    for (const Spectrum& spectrum : spectra) {
      least = std::min(least, spectrum.radius());
      largest = std::max(largest, spectrum.radius());
      outside += spectrum.outside();
      all += spectrum.eigenvalues.size();
    }
  }
};

std::string in_words(const Pooled& p) { return fmt::format("between {:.3f} and {:.3f}", p.least, p.largest); }

/// Evaluations of f that plain iteration takes for one more decimal digit.
std::string digit_cost(double radius) {
  return radius < 1.0 ? fmt::format("{:.1f}", std::log(10.0) / -std::log(radius))
                      : std::string("no number of");
}

nlohmann::ordered_json to_json(const std::vector<Spectrum>& spectra) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Spectrum& spectrum : spectra) {
    nlohmann::ordered_json values = nlohmann::ordered_json::array();
    for (const auto& value : spectrum.eigenvalues) values.push_back({value.real(), value.imag()});
    list.push_back(
        {{"radius", spectrum.radius()}, {"outside", spectrum.outside()}, {"eigenvalues", std::move(values)}});
  }
  return list;
}

}  // namespace

double Spectrum::radius() const { return eigenvalues.empty() ? 0.0 : std::abs(eigenvalues.front()); }

std::size_t Spectrum::outside() const {
  return static_cast<std::size_t>(std::count_if(eigenvalues.begin(), eigenvalues.end(),
                                                [](const auto& value) { return std::abs(value) > 1.0; }));
}

std::vector<Spectrum> spectra_at(const Classifier& model, const Tensor& x, double& residual) {
  const NoGrad off;
  const std::unique_ptr<Classifier> exact = in_double(model);
  nn::eval(*exact);
  const Equation equation = exact->equation(Var(x.to(DType::f64)));
  const FixedPoint solved = fixed_point(
      equation.f, equation.z0,
      {.solver = Anderson{.memory = 10}, .tolerance = 1e-12, .max_steps = 1000, .batch = equation.batch});
  for (const SampleReport& sample : solved.report.samples) residual = std::max(residual, sample.rel_lowest);
  std::vector<Spectrum> spectra;
  for (auto& values : jacobian_eigenvalues(equation.f, solved.z, equation.batch))
    spectra.push_back({std::move(values)});
  return spectra;
}

std::vector<std::string> findings(const SpectrumResults& results) {
  const Pooled before(results.before), after(results.after);
  std::vector<std::string> texts{
      fmt::format("The spectral radius lies {} before training and {} after. At the largest of them plain "
                  "iteration takes {} evaluations of f for one more decimal digit before, and {} after.",
                  in_words(before), in_words(after), digit_cost(before.largest), digit_cost(after.largest)),
      fmt::format("Outside of the unit disc lie {} of {} eigenvalues before and {} of {} after.",
                  report::format_count(static_cast<std::int64_t>(before.outside)),
                  report::format_count(static_cast<std::int64_t>(before.all)),
                  report::format_count(static_cast<std::int64_t>(after.outside)),
                  report::format_count(static_cast<std::int64_t>(after.all)))};
  if (after.outside > 0)
    texts.push_back(
        "Where an eigenvalue lies outside, z ← f(z) moves away from the solution, the Neumann series "
        "diverges, and with it every rule that cuts it; the exact rule does not depend on it.");
  return texts;
}

cli::SummaryTable summary_table(const SpectrumResults& results) {
  cli::SummaryTable table;
  table.head = {{"image", "", "of the test set, with its label"},
                {"radius before", "", "largest magnitude of an eigenvalue"},
                {"after", "", "the same after training"},
                {"outside before", "", "share of the eigenvalues outside of the unit disc"},
                {"after", "", "the same after training"}};
  const auto share = [](const Spectrum& s) {
    return report::format_percent(
        s.eigenvalues.empty() ? 0.0
                              : static_cast<double>(s.outside()) / static_cast<double>(s.eigenvalues.size()),
        1);
  };
  for (std::size_t i = 0; i < results.before.size(); ++i) {
    const Spectrum &before = results.before[i], &after = results.after[i];
    table.rows.push_back({sample_name(results, i), report::format_fixed(before.radius(), 4),
                          report::format_fixed(after.radius(), 4), share(before), share(after)});
  }
  return table;
}

std::string sample_name(const SpectrumResults& results, std::size_t i) {
  return fmt::format("image {} ({})", i + 1,
                     results.class_names[static_cast<std::size_t>(results.samples[i].label)]);
}

std::string summary_json(const SpectrumResults& results) {
  using Json = nlohmann::ordered_json;
  Json json;
  json["settings"] = cli::object_of(results.settings);
  json["environment"] = cli::object_of(results.environment);
  json["notices"] = results.notices;
  json["rule"] = results.rule;
  json["steps"] = results.steps;
  json["accuracy_before"] = results.accuracy_before;
  json["accuracy_after"] = results.accuracy_after;
  json["forward_residual"] = results.forward_residual;
  json["labels"] = Json::array();
  for (const SampleImage& sample : results.samples) json["labels"].push_back(sample.label);
  json["before"] = to_json(results.before);
  json["after"] = to_json(results.after);
  return json.dump(1) + "\n";
}

}  // namespace banach::lab
