#include <apps/lm/results.hpp>

#include <algorithm>
#include <cmath>
#include <iterator>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/lm/depth.hpp>
#include <apps/report/format.hpp>

namespace banach::lm {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Score, nats, evaluations, seconds, converged)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Probe, step, seconds, valid)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Cost, forward_seconds, backward_seconds, forward, backward, tape_bytes,
                                   history_bytes, peak_bytes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CostCurve, name, steps, costs)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ModelResult, name, depth, seed, parameters, probes, valid, test, cost,
                                   failure)

namespace {

double perplexity_of(const ModelResult& m) { return m.test.perplexity(); }
double seconds_of(const ModelResult& m) { return m.seconds(); }
double peak_of(const ModelResult& m) { return m.cost.peak_bytes; }
double backward_time(const ModelResult& m) { return m.cost.backward_seconds; }

/// The one of least perplexity among those that are (or are not) explicit.
const DepthMean* best(const std::vector<DepthMean>& depths, bool explicit_ones) {
  const DepthMean* found = nullptr;
  for (const DepthMean& d : depths)
    if (is_explicit(d.depth) == explicit_ones && std::isfinite(d.mean(perplexity_of)) &&
        (!found || d.mean(perplexity_of) < found->mean(perplexity_of)))
      found = &d;
  return found;
}

/// The mean over the seeds, with its deviation where there are several.
std::string of(const DepthMean& d, double (*figure)(const ModelResult&), int decimals) {
  std::string text = report::format_fixed(d.mean(figure), decimals);
  const std::size_t count = d.finished().size(), all = d.models.size();
  if (count > 1) text += fmt::format(" ± {}", report::format_fixed(d.deviation(figure), decimals));
  if (count < all) text += fmt::format(" ({} of {} seeds: the rest diverged)", count, all);
  return text;
}

/// Of the samples of a depth's solves, on the test text and in training.
double unconverged_of(const ModelResult& m) { return 1.0 - m.test.converged; }
double unconverged_in_training(const ModelResult& m) {
  double sum = 0;
  for (const Step& step : m.steps) sum += 1.0 - step.converged;
  return sum / static_cast<double>(m.steps.size());
}

/// Which depths' equilibria did not all meet the tolerance; empty if none was looked for.
std::string convergence(const std::vector<DepthMean>& depths) {
  std::string short_of;
  bool any = false;
  for (const DepthMean& d : depths) {
    if (is_explicit(d.depth) || !std::isfinite(d.mean(unconverged_of))) continue;
    any = true;
    const double test = d.mean(unconverged_of), training = d.mean(unconverged_in_training);
    if (test > 0 || training > 0)
      short_of += fmt::format("{}{} in {} of the samples in training and {} on the test text",
                              short_of.empty() ? "" : ", ", d.depth, report::format_percent(training, 2),
                              report::format_percent(test, 2));
  }
  if (!any) return {};
  return short_of.empty() ? "All equilibria met the tolerance within their steps."
                          : fmt::format("Not within the tolerance after all steps: {}.", short_of);
}

/// Of perplexities.
std::string compared(const DepthMean& d, const DepthMean& with) {
  const double mean = d.mean(perplexity_of), other = with.mean(perplexity_of),
               more = 100 * (mean / other - 1);
  const double spread = std::hypot(d.deviation(perplexity_of), with.deviation(perplexity_of));
  return fmt::format("{:.2f} % {}{}", std::abs(more), more < 0 ? "lower" : "higher",
                     std::isnan(spread)                 ? " (one seed: what seeds differ by was not measured)"
                     : std::abs(mean - other) <= spread ? " (no difference beyond that of the seeds)"
                                                        : "");
}

/// Of what was not measured, a dash.
std::string measured(double value, int decimals) {
  return std::isfinite(value) ? report::format_fixed(value, decimals) : "-";
}

}  // namespace

double Score::perplexity() const { return std::exp(nats); }

std::string unknown_in_words(const nn::TextPart& part) {
  if (100 * part.unknown <= part.size()) return {};
  return fmt::format(
      "{} of the tokens of {} are unknown and count as one symbol, which makes bits a character and "
      "perplexity too low",
      report::format_percent(static_cast<double>(part.unknown) / static_cast<double>(part.size()), 1),
      part.name);
}

void note_text(Results& results, const nn::Corpus& corpus) {
  results.valid = corpus.valid;
  results.test = corpus.test;
  const bool words = corpus.vocabulary.unit() == nn::TextUnit::word;
  results.text = {{"unit", words ? "word" : "character"},
                  {"vocabulary", report::format_count(corpus.vocabulary.size())}};
  for (const auto* part : {&corpus.train, &corpus.valid, &corpus.test})
    results.text.emplace_back(
        part->name, fmt::format("{} {}, of which {} unknown; {} characters",
                                report::format_count(part->size()), words ? "words and signs" : "characters",
                                report::format_count(part->unknown), report::format_count(part->characters)));
}

std::string to_text(const ModelResult& m) { return nlohmann::json(m).dump(); }

ModelResult from_text_result(const std::string& text) {
  ModelResult model;
  cli::read_results(text, [&](const nlohmann::json& json) { json.get_to(model); });
  return model;
}

std::string metrics_csv(const Results& results) {
  std::string csv =
      "model,row,step,seconds,loss,forward,backward,converged,gradient_norm,valid_nats,valid_bits,"
      "valid_evaluations\n";
  for (const ModelResult& m : results.models) {
    const std::string name = m.name.find(',') == std::string::npos ? m.name : "\"" + m.name + "\"";
    for (std::size_t i = 0; i < m.steps.size(); ++i) {
      const Step& s = m.steps[i];
      csv += fmt::format("{},step,{},{},{},{},{},{},{},,,\n", name, i + 1, cli::csv_cell(s.seconds),
                         cli::csv_cell(s.loss), cli::csv_cell(s.forward), cli::csv_cell(s.backward),
                         cli::csv_cell(s.converged), cli::csv_cell(s.gradient_norm));
    }
    for (const Probe& p : m.probes)
      csv += fmt::format("{},probe,{},{},,,,,,{},{},{}\n", name, p.step, cli::csv_cell(p.seconds),
                         cli::csv_cell(p.valid.nats), cli::csv_cell(results.valid_bits(p.valid)),
                         cli::csv_cell(p.valid.evaluations));
  }
  return csv;
}

std::string summary_json(const Results& results) {
  nlohmann::ordered_json json{{"settings", cli::object_of(results.settings)},
                              {"environment", cli::object_of(results.environment)},
                              {"text", cli::object_of(results.text)},
                              {"peak_resident_bytes", results.resident_bytes},
                              {"findings", findings(results)},
                              {"prompt", results.prompt},
                              {"sample", results.sample},
                              {"models", nlohmann::ordered_json::array()},
                              {"curves", nlohmann::json(results.curves)}};
  for (const ModelResult& m : results.models) {
    nlohmann::json entry(m);
    entry["steps"] = m.steps.size();
    entry["seconds"] = m.seconds();
    entry["valid"]["perplexity"] = m.valid.perplexity();
    entry["valid"]["bits_per_character"] = results.valid_bits(m.valid);
    entry["test"]["perplexity"] = m.test.perplexity();
    entry["test"]["bits_per_character"] = results.test_bits(m.test);
    json["models"].emplace_back(std::move(entry));
  }
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

cli::SummaryTable summary_table(const Results& results) {
  cli::SummaryTable table{
      .head =
          {{"depth"},
           {"bits/char", "",
            "Bits per character on the test text. Unknown words count as one symbol, so that a small "
            "vocabulary "
            "makes it too low."},
           {"perplexity", "", "Per token, on the test text."},
           {"evaluations", "", "Of the cell on the test text, mean over samples."},
           {"converged", "",
            "Equilibria of the test text that met the tolerance within their steps; layers solve nothing."},
           {"forward", "ms", "Of the cell alone, one window: by the wall clock, the median of 5."},
           {"backward", "ms", "The same of its backward pass. What else the machine does lengthens both."},
           {"history", "MiB", "Of the forward solver."},
           {"tape", "MiB", "What the cell keeps between forward and backward pass."},
           {"peak", "MiB", "All that one step of the cell needs, its gradients included."},
           {"training", "", "Time of all steps."}},
      .rows = {}};
  constexpr double mib = 1024.0 * 1024.0;
  for (const ModelResult& m : results.models) {
    const Cost& c = m.cost;
    table.rows.push_back({m.name, m.failure.empty() ? measured(results.test_bits(m.test), 3) : "diverged",
                          measured(m.test.perplexity(), 3), measured(m.test.evaluations, 1),
                          is_explicit(m.depth) || !std::isfinite(m.test.converged)
                              ? "-"
                              : report::format_percent(m.test.converged, 1),
                          measured(1e3 * c.forward_seconds, 1), measured(1e3 * c.backward_seconds, 1),
                          measured(c.history_bytes / mib, 1), measured(c.tape_bytes / mib, 1),
                          measured(c.peak_bytes / mib, 1), report::format_duration(m.seconds())});
  }
  return table;
}

std::vector<const ModelResult*> DepthMean::finished() const {
  std::vector<const ModelResult*> found;
  std::copy_if(models.begin(), models.end(), std::back_inserter(found),
               [](const ModelResult* m) { return m->failure.empty(); });
  return found;
}

double DepthMean::mean(double (*figure)(const ModelResult&)) const {
  double sum = 0;
  for (const ModelResult* m : finished()) sum += figure(*m);
  return sum / static_cast<double>(finished().size());
}

double DepthMean::deviation(double (*figure)(const ModelResult&)) const {
  const std::vector<const ModelResult*> seeds = finished();
  if (seeds.size() < 2) return unknown;
  double squares = 0;
  for (const ModelResult* m : seeds) squares += std::pow(figure(*m) - mean(figure), 2);
  return std::sqrt(squares / static_cast<double>(seeds.size() - 1));
}

std::vector<DepthMean> by_depth(const Results& results) {
  std::vector<DepthMean> depths;
  for (const ModelResult& m : results.models) {
    auto found =
        std::find_if(depths.begin(), depths.end(), [&](const DepthMean& d) { return d.depth == m.depth; });
    if (found == depths.end()) found = depths.insert(depths.end(), {m.depth, {}});
    found->models.push_back(&m);
  }
  return depths;
}

Standing standing(const Results& results) {
  Standing s;
  s.depths = by_depth(results);
  s.equilibrium = best(s.depths, false);
  s.layers = best(s.depths, true);
  const auto exact =
      std::find_if(s.depths.begin(), s.depths.end(), [](const DepthMean& d) { return is_exact(d.depth); });
  s.exact = exact == s.depths.end() ? nullptr : &*exact;
  return s;
}

std::vector<std::string> findings(const Results& results) {
  std::vector<std::string> found;
  for (const ModelResult& m : results.models)
    if (!m.failure.empty()) found.push_back(fmt::format("{} diverged: {}.", m.name, m.failure));
  const Standing s = standing(results);
  if (s.equilibrium && s.layers) {
    found.push_back(fmt::format(
        "The best equilibrium, {}, has a perplexity of {} a token on the test text, {} than the best "
        "explicit network, {}, with {}; all have {} parameters and read the same text.",
        s.equilibrium->depth, of(*s.equilibrium, perplexity_of, 3), compared(*s.equilibrium, *s.layers),
        s.layers->depth, of(*s.layers, perplexity_of, 3),
        report::format_count(results.models.front().parameters)));
    std::string shares;
    for (const DepthMean& d : s.depths)
      if (is_explicit(d.depth) && !d.finished().empty())
        shares += fmt::format("{}{} of {}'s {}", shares.empty() ? "" : ", ",
                              report::format_percent(s.equilibrium->mean(peak_of) / d.mean(peak_of)), d.depth,
                              report::format_bytes(d.mean(peak_of)));
    found.push_back(fmt::format("One step of its cell takes {} of memory, solver history included: {}.",
                                report::format_bytes(s.equilibrium->mean(peak_of)), shares));
  } else {
    for (const DepthMean& d : s.depths)
      if (std::isfinite(d.mean(perplexity_of)))
        found.push_back(fmt::format("{}: perplexity {} a token on the test text, after {} of training.",
                                    d.depth, of(d, perplexity_of, 3),
                                    report::format_duration(d.mean(seconds_of))));
  }
  if (s.exact) {
    for (const DepthMean& d : s.depths)
      if (&d != s.exact && !is_explicit(d.depth) && std::isfinite(d.mean(perplexity_of)) &&
          std::isfinite(s.exact->mean(perplexity_of)))
        found.push_back(fmt::format(
            "{}: its backward pass is {} times as fast as that of the exact rule, {} against {} by the wall "
            "clock; its perplexity is {} than that rule's.",
            d.depth, report::format_number(s.exact->mean(backward_time) / d.mean(backward_time)),
            report::format_si(d.mean(backward_time), "s"),
            report::format_si(s.exact->mean(backward_time), "s"), compared(d, *s.exact)));
  }
  if (const std::string text = convergence(s.depths); !text.empty()) found.push_back(text);
  if (const std::string text = unknown_in_words(results.test); !text.empty()) found.push_back(text + ".");
  if (std::isfinite(results.resident_bytes))
    found.push_back(
        fmt::format("The process had {} in RAM at most.", report::format_bytes(results.resident_bytes)));
  return found;
}

}  // namespace banach::lm
