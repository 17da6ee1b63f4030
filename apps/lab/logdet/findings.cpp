#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/lab/logdet/page.hpp>

namespace banach::lab::logdet {
namespace {

using report::format_number;
using Family = Estimator::Family;

/// "0.0312 ± 0.0004", the standard error to one digit.
std::string with_error(double value, double error) {
  if (!(error > 0.0)) return format_number(value);
  const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(error))), 0, 15);
  return fmt::format("{:.{}f} ± {:.{}f}", value, decimals, error, decimals);
}

/// a / b of two independent numbers with standard errors, to first order.
std::string ratio(double a, double a_error, double b, double b_error) {
  return with_error(a / b, std::abs(a / b) * std::hypot(a_error / a, b_error / b));
}

std::string about_bound(const Study& s) {
  double most = 0.0, least = HUGE_VAL, error_of_most = 0.0, off = 0.0;
  int count = 0, within = 0, clear = 0;
  for (const Measured& m : s.measured) {
    if (!m.series()) continue;
    for (const Moments* of : {&m.value, &m.derivative}) {
      if (m.estimator.neumann() && of == &m.value) continue;  // that of the other one
      const double share = std::abs(of->bias()) / of->bound;
      ++count;
      within += std::abs(of->bias()) <= of->bound + 2.0 * of->error + 1e-12;
      least = std::min(least, of->varies() ? 0.0 : share);
      off = std::max(off, std::abs(share - 1.0));
      if (std::abs(of->bias()) < 10.0 * of->error) continue;
      ++clear;
      if (share > most) most = share, error_of_most = of->error / of->bound;
    }
  }
  if (count == 0) return {};
  if (least > 1.0 - 1e-9)
    return fmt::format(
        "{}: the biases of all {} cut series, values and derivatives, are their bounds: the ratios differ "
        "from 1 by {} at most.",
        s.problem.title, count, format_number(off, 2));
  std::string words = fmt::format(
      "{}: of {} biases of cut series, values and derivatives, {} are within their bounds (two standard "
      "errors allowed)",
      s.problem.title, count, within);
  if (clear > 0)
    words += fmt::format("; of the {} that are ten standard errors or more, the largest is {} of its bound",
                         clear, with_error(most, error_of_most));
  return words + ".";
}

std::string about_t(const Results& results) {
  const std::vector<Tested> all = tested(results);
  if (all.empty()) return {};
  const Tested* worst = &all.front();
  int beyond = 0, roulettes = 0;
  double worst_roulette = 0.0;
  for (const Tested& one : all) {
    if (std::abs(one.t) > std::abs(worst->t)) worst = &one;
    beyond += std::abs(one.t) > 3.0;
    if (!one.estimator.starts_with("roulette")) continue;
    ++roulettes;
    worst_roulette = std::max(worst_roulette, std::abs(one.t));
  }
  return fmt::format(
      "{} means of {} draws can be compared with what they should be, in standard errors: the largest |t| is "
      "{} ({}: {}, {}), {} beyond 3, where chance alone would put {:.1f} if all were independent and "
      "normal. Among the {} of roulettes of finite variance it is {}.",
      all.size(), report::format_count(results.options.draws), format_number(std::abs(worst->t)),
      worst->problem, worst->estimator, worst->derivative ? "derivative" : "value", beyond,
      0.0027 * static_cast<double>(all.size()), roulettes, format_number(worst_roulette));
}

/// The variance of the first draws beside that of all.
std::string about_roulettes(const Study& s) {
  std::vector<std::string> parts;
  for (const Measured& m : s.measured) {
    if (m.estimator.family != Family::roulette || m.estimator.neumann()) continue;
    const auto early = std::find_if(m.running.begin(), m.running.end(),
                                    [](const auto& point) { return point.first >= 1000; });
    std::string variance = fmt::format("variance {}", with_error(m.value.variance, m.value.variance_error));
    if (!m.finite_variance)
      variance = early == m.running.end()
                     ? "infinite variance"
                     : fmt::format("infinite variance (that of {} draws {}, of all {})",
                                   report::format_count(early->first), format_number(early->second),
                                   format_number(m.value.variance));
    parts.push_back(fmt::format("{}: {}, said to be infinite by the reports of {} of the draws",
                                m.estimator.name.substr(std::string("roulette, ").size()), variance,
                                report::format_percent(m.told_infinite)));
  }
  return parts.empty() ? std::string()
                       : fmt::format("{}, spectral radius {}, roulettes. {}.", s.problem.title,
                                     format_number(s.problem.radius()), fmt::join(parts, "; "));
}

std::string about_probes(const Study& s) {
  const auto words = [&](const std::string& name) {
    const Measured& m = s.of(name);
    return m.value.varies() ? fmt::format("{} for {} products",
                                          with_error(m.value.variance, m.value.variance_error), m.products)
                            : fmt::format("none for {} products", m.products);
  };
  return fmt::format(
      "{}: the variance of a series of {} terms is {} with a Gaussian probe, {} with a Rademacher one, {} "
      "with two of them, and {} with Hutch++ by a sketch of one vector.",
      s.problem.title, probe_terms, words("Gaussian, 1 probe"), words("Rademacher, 1 probe"),
      words("Rademacher, 2 probes"), words("Hutch++, sketch 1"));
}

std::string about_gradients(const Study& s) {
  std::vector<std::string> parts;
  for (const int terms : {2, 5, 20}) {
    const Moments &series = s.of(fmt::format("series {}", terms)).derivative,
                  &neumann = s.of(fmt::format("series {}, Neumann gradient", terms)).derivative;
    if (!series.varies() || !neumann.varies()) continue;
    parts.push_back(fmt::format(
        "{} with {} terms",
        ratio(neumann.variance, neumann.variance_error, series.variance, series.variance_error), terms));
  }
  if (parts.empty())
    return s.problem.title + ": neither the series' derivative nor the Neumann gradient varies.";
  return fmt::format("{}: the variance of the Neumann gradient is that of the series' derivative times {}.",
                     s.problem.title, fmt::join(parts, ", "));
}

std::string about_lanczos(const Study& s) {
  std::vector<std::string> parts;
  for (const Measured& m : s.measured)
    if (m.estimator.family == Family::lanczos)
      parts.push_back(fmt::format("{} ({} products)",
                                  m.value.varies() ? with_error(m.value.bias(), m.value.error)
                                                   : format_number(m.value.bias(), 2) + ", without variance",
                                  m.products));
  return fmt::format("{}: the bias of Lanczos quadrature is {}.", s.problem.title, fmt::join(parts, ", "));
}

}  // namespace

std::vector<Tested> tested(const Results& results) {
  std::vector<Tested> all;
  for (const Study& s : results.studies)
    for (const Measured& m : s.measured) {
      if (!m.finite_variance) continue;
      if (!m.estimator.neumann() && std::isfinite(m.value.t()))
        all.push_back({s.problem.title, m.estimator.name, false, m.value.t()});
      if (std::isfinite(m.derivative.t()))
        all.push_back({s.problem.title, m.estimator.name, true, m.derivative.t()});
    }
  return all;
}

std::vector<std::string> findings(const Study& study) {
  std::vector<std::string> sentences{about_bound(study), about_roulettes(study), about_probes(study),
                                     about_gradients(study), about_lanczos(study)};
  std::erase(sentences, std::string());
  return sentences;
}

std::vector<std::string> findings(const Results& results) {
  std::vector<std::string> sentences{about_t(results)};
  for (const Study& s : results.studies)
    for (std::string& sentence : findings(s)) sentences.push_back(std::move(sentence));
  std::erase(sentences, std::string());
  return sentences;
}

}  // namespace banach::lab::logdet
