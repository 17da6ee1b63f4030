#include <apps/lab/page.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <apps/lab/charts.hpp>
#include <apps/lab/findings.hpp>
#include <apps/lab/frontier.hpp>
#include <apps/report/format.hpp>
#include <apps/training/tally.hpp>

namespace banach::lab {
namespace {

using report::Block;
using report::format_number;
using report::Section;
using report::Table;
using report::Text;

std::vector<report::KeyFigure> key_figures(const Results& results) {
  std::vector<const RuleResult*> rules;
  for (const RuleResult& rule : results.rules)
    if (!rule.steps.empty()) rules.push_back(&rule);
  if (rules.empty()) return {};
  const auto highest = [&](auto value) {
    return *std::max_element(rules.begin(), rules.end(),
                             [&](const RuleResult* a, const RuleResult* b) { return value(*a) < value(*b); });
  };
  const auto backward = [](const RuleResult& r) { return r.median_cost().backward_seconds; };
  const auto peak = [](const RuleResult& r) { return r.median_cost().peak_bytes; };
  const RuleResult* best = highest([](const RuleResult& r) { return r.accuracy; });
  const RuleResult* farthest =
      highest([](const RuleResult& r) { return -r.same_point_summary().cosine_mean; });
  const RuleResult* fastest = highest([&](const RuleResult& r) { return -backward(r); });
  const RuleResult* slowest = highest(backward);
  const RuleResult* largest = highest(peak);
  const RuleResult* smallest = highest([&](const RuleResult& r) { return -peak(r); });
  return {
      {"Best test accuracy", report::format_percent(best->accuracy, 2), best->spec},
      {"Farthest from the exact gradient",
       fmt::format("cosine {:.4f}", farthest->same_point_summary().cosine_mean), farthest->spec},
      {"Backward pass",
       fmt::format("{} to {}", report::format_si(backward(*fastest), "s"),
                   report::format_si(backward(*slowest), "s")),
       fmt::format("{} to {}", fastest->spec, slowest->spec)},
      {"Peak memory of a step",
       fmt::format("{} to {}", report::format_bytes(peak(*smallest)), report::format_bytes(peak(*largest))),
       fmt::format("{} to {}", smallest->spec, largest->spec)}};
}

Table overview(const Results& results) {
  Table table = cli::page_table(summary_table(results), "All rules, each along its own training");
  std::vector<double> accuracies;
  for (const RuleResult& rule : results.rules) accuracies.push_back(rule.accuracy);
  const auto best = std::max_element(accuracies.begin(), accuracies.end()) - accuracies.begin();
  table.emphasised = {{static_cast<std::size_t>(best), 1}};
  return table;
}

Table same_point_table(const Results& results) {
  Table table{.title = "All rules at the same points",
              .caption = fmt::format("The points are the parameters that {} passed through, so the rules "
                                     "differ in nothing but the rule.",
                                     results.rules.front().spec),
              .columns = {{"rule"},
                          {"cosine", "", "mean over the points"},
                          {"lowest", "", "lowest cosine"},
                          {"error", "", "||estimate - exact|| / ||exact||, median"},
                          {"norm ratio", "", "mean"},
                          {"descent", "", "share of the points"},
                          {"forward", "ms", "median"},
                          {"backward", "ms", "median"},
                          {"vjp", "", "vector-Jacobian products, median"}}};
  for (const RuleResult& rule : results.rules) {
    if (rule.same_point.empty()) continue;
    const RuleResult::Summary s = rule.same_point_summary();
    std::vector<double> forward, backward, products, errors;
    for (const SamePoint& point : rule.same_point) {
      forward.push_back(point.cost.forward_seconds);
      backward.push_back(point.cost.backward_seconds);
      products.push_back(point.cost.backward_evaluations);
      errors.push_back(point.quality.error);
    }
    table.rows.push_back(
        {rule.spec, report::format_fixed(s.cosine_mean, 6), report::format_fixed(s.cosine_smallest, 6),
         format_number(median(errors), 2), report::format_fixed(s.norm_ratio_mean, 4),
         report::format_percent(s.descent_share, 0), report::format_fixed(1e3 * median(forward), 2),
         report::format_fixed(1e3 * median(backward), 2), format_number(median(products))});
  }
  return table;
}

Table noise_table(const Results& results) {
  Table table{
      .title = "Bias and variance of a gradient, relative to the exact one",
      .caption =
          "Means over the points. Lengths relative to the exact gradient's length, variances to its square: "
          "where the last column says 1, the noise of one minibatch is as long as the gradient itself.",
      .columns = {{"rule"},
                  {"bias", "",
                   "||E g - exact||, over minibatches and draws; root of the mean square over the points"},
                  {"by chance", "", "the bias that the draws alone would leave of none; for rules that draw"},
                  {"own variance", "",
                   "of one estimate over its draws, on one minibatch; 0 for rules that draw nothing"},
                  {"minibatch variance", "", "of the estimate over minibatches, the draws averaged out"},
                  {"exact's", "", "the variance of the exact gradient over minibatches"}}};
  for (const RuleResult& rule : results.rules) {
    if (rule.same_point.empty()) continue;
    const Noise n = rule.mean_noise();
    const bool draws = rule.random;
    table.rows.push_back({rule.spec, format_number(n.bias, 3), draws ? format_number(n.chance, 3) : "-",
                          draws ? format_number(n.own_variance, 3) : "0", format_number(n.batch_variance, 3),
                          format_number(n.exact_batch_variance, 3)});
  }
  return table;
}

std::string about_noise(const Results& results) {
  return fmt::format(
      "Each rule's gradient over {} minibatches of {} training images, drawn at random and the same at all "
      "points{}. Bias is measured against the exact gradient of the very same minibatches, so their noise "
      "does not blur it.",
      results.noise_batches, results.noise_images,
      std::any_of(results.rules.begin(), results.rules.end(), [](const RuleResult& r) { return r.random; })
          ? fmt::format(", and over {} draws on each for rules that draw numbers", results.noise_draws)
          : "");
}

/// The rules of a front in words.
std::string front_in_words(const std::vector<Offer>& front) {
  std::string text;
  for (const Offer& offer : front) text += (text.empty() ? "" : ", ") + offer.rule;
  return text;
}

Text about_frontier(const Results& results) {
  return {
      {fmt::format("On the front of gradient error against backward time, from the cheapest to the closest: "
                   "{}. On that of test error against training time: {}.",
                   front_in_words(pareto_front(gradient_offers(results))),
                   front_in_words(pareto_front(accuracy_offers(results))))}};
}

Table status_table(const Results& results) {
  Table table{.title = "How the solves ended",
              .caption =
                  "Samples of all training steps. A gradient counts as exact only if the forward and the "
                  "adjoint equation converged to their tolerances. A series truncated by design (jfb, "
                  "neumann, phantom) takes its few terms and stops: its gradient is approximate, and that is "
                  "no failure. The gradient of an iteration solves no adjoint equation.",
              .columns = {{"rule"},
                          {"forward", "", "", report::Column::Align::left},
                          {"gradient", "", "", report::Column::Align::left},
                          {"adjoint equation", "", "", report::Column::Align::left}}};
  for (const RuleResult& rule : results.rules) {
    Tally adjoint;
    for (const auto& [status, count] : rule.adjoint_statuses)
      adjoint[adjoint_in_words(rule.spec, status)] += count;
    table.rows.push_back({rule.spec, training::in_words(rule.forward_statuses, "none"),
                          training::in_words(rule.gradient_kinds, "none"),
                          training::in_words(adjoint, "none: no adjoint equation")});
  }
  return table;
}

Table rules_table(const Results& results) {
  std::string remarks;
  for (const std::string& text : results.remarks) remarks += " " + text;
  using Align = report::Column::Align;
  Table table{.title = "The rules",
              .caption =
                  "J = df/dz at the solution z*, g the gradient of the loss in z*. The gradient of the "
                  "parameters θ is λᵀ df/dθ." +
                  remarks,
              .columns = {{"rule"},
                          {"formula", "", "", Align::left},
                          {"forward solver", "", "", Align::left},
                          {"source", "", "", Align::left}}};
  for (const RuleResult& rule : results.rules)
    table.rows.push_back({rule.spec, rule.formula, rule.solver, rule.paper});
  return table;
}

report::PictureGrid pictures(const Results& results) {
  const RuleResult& first = results.rules.front();
  report::PictureGrid grid{
      .title = fmt::format("The first test images, as the model of {} sees them", first.spec),
      .caption = "Under each image what the model says; where it is wrong, the truth too."};
  const auto class_name = [&](std::int64_t label) {
    return results.class_names[static_cast<std::size_t>(label)];
  };
  for (std::size_t i = 0; i < std::min(results.samples.size(), first.predictions.size()); ++i) {
    const SampleImage& sample = results.samples[i];
    const std::string predicted = class_name(first.predictions[i]), truth = class_name(sample.label);
    const bool right = first.predictions[i] == sample.label;
    grid.pictures.push_back({.title = right ? predicted : "✗ " + predicted,
                             .caption = right ? "" : "is " + truth,
                             .alt = fmt::format("{} taken for {}", truth, predicted),
                             .png = report::encode_png(sample.pixels, sample.width, sample.height)});
  }
  return grid;
}

std::vector<Block> with(std::vector<Block> blocks, std::vector<Block> more) {
  std::move(more.begin(), more.end(), std::back_inserter(blocks));
  return blocks;
}

std::string precision(const Results& results) {
  double forward = 0.0, adjoint = 0.0;
  for (const RuleResult& rule : results.rules)
    for (const Probe& probe : rule.probes) {
      forward = std::max(forward, probe.forward_residual);
      adjoint = std::max(adjoint, probe.adjoint_residual);
    }
  return fmt::format(
      "The exact gradient is computed in f64 with both equations solved tightly: over all probes and samples "
      "the largest relative residual was {:.1e} in the forward and {:.1e} in the adjoint equation. The "
      "estimates are taken as training takes them: in f32, at the training tolerance. Probe batch: the same "
      "{} training images throughout.",
      forward, adjoint, results.probe_images);
}

}  // namespace

report::Page make_page(const Results& results) {
  report::Page page{.kicker = "banach lab", .title = "Gradient estimators of an equilibrium model"};
  page.subtitle = fmt::format(
      "One classifier, trained once for each of {} backward rules from the same {} parameters and on the "
      "same batches, out of {} images.",
      results.rules.size(), report::format_count(results.parameters),
      report::format_count(results.training_images));
  page.key_figures = key_figures(results);
  for (const RuleResult& rule : results.rules) page.series_order.push_back(rule.spec);

  std::vector<Block> found;
  for (const std::string& text : warnings(results))
    found.push_back(report::Callout{.title = "Note.", .text = text, .tone = report::Callout::Tone::warning});
  found.push_back(Text{findings(results)});
  const auto add = [&](std::string title, std::string intro, std::vector<Block> blocks) {
    if (!blocks.empty()) page.sections.push_back({std::move(title), std::move(intro), std::move(blocks)});
  };
  add("What was found", {}, with(std::move(found), {overview(results)}));
  if (results.rules.size() > 1)
    add("Cost against accuracy", {}, with({about_frontier(results)}, frontier_charts(results)));
  add("What accuracy it buys", {}, accuracy_charts(results));
  add("How close to the exact gradient: the same point for all",
      "Here all rules are asked for the gradient at the same parameters, so that nothing but the rule "
      "differs. " +
          precision(results),
      with({same_point_table(results)}, same_point_charts(results)));
  if (results.noise_batches > 0)
    add("Bias and variance", about_noise(results), with({noise_table(results)}, noise_charts(results)));
  add("How close to the exact gradient: each along its own training",
      "Here each rule is measured at the parameters that it led to itself. A rule may look good because its "
      "own training went where the problem is easy.",
      own_training_charts(results));
  add("What it costs", {}, cost_charts(results));
  add("The equilibrium", {}, with(equilibrium_charts(results), {status_table(results)}));
  add("What only some rules can tell", {}, figure_charts(results));
  add("Images", {}, {pictures(results)});
  add("Rules and settings", {},
      {rules_table(results), report::Settings{"Settings", results.settings},
       report::Settings{"Environment", results.environment}});
  page.footer = "Made by banach lab. The numbers behind the page: metrics.csv and summary.json beside it.";
  return page;
}

}  // namespace banach::lab
