#include <apps/sudoku/results.hpp>

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/report/format.hpp>
#include <apps/sudoku/constraints.hpp>
#include <apps/training/tally.hpp>

namespace banach::sudoku {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Errors, boards, cells, mse)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Probe, step, seconds, train, test)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ModelResult, name, description, parameters, probes, solves, gradients,
                                   predictions, failure)

namespace {

using Json = nlohmann::ordered_json;
using report::format_percent;

Json json_of(const Comparison& c) {
  return {{"rank", c.rank},
          {"condition", c.condition},
          {"principal_angles_degrees", c.angles},
          {"mean_angle_degrees", c.mean_angle()},
          {"distance_of_solutions", c.distance}};
}

const ModelResult* find(const Results& results, bool optnet) {
  const ModelResult* best = nullptr;
  for (const ModelResult& model : results.models)
    if ((model.name == "optnet") == optnet && (!best || model.test().boards < best->test().boards))
      best = &model;
  return best;
}

/// Bounds in which the true share lies with 95 %: Wilson 1927.
std::pair<double, double> interval(double share, double count) {
  constexpr double z = 1.959964;
  const double middle = share + z * z / (2 * count), scale = 1 + z * z / count;
  const double half = z * std::sqrt(share * (1 - share) / count + z * z / (4 * count * count));
  return {std::max(0.0, (middle - half) / scale), (middle + half) / scale};
}

std::string at_the_end(const Results& results, const ModelResult& model) {
  const auto count = static_cast<double>(results.data.test.size());
  const auto [low, high] = interval(model.test().boards, count);
  return fmt::format(
      "{} gets {} of {} held-out boards wrong ({}; with 95 % confidence the true share lies between {} and "
      "{}) and {} of the {} training boards looked at.",
      model.name, report::format_count(std::llround(model.test().boards * count)),
      report::format_count(std::llround(count)), format_percent(model.test().boards, 2),
      format_percent(low, 2), format_percent(high, 2), format_percent(model.train().boards, 2),
      report::format_count(results.train_probed));
}

std::string when_learned(const Results& results, const ModelResult& model) {
  constexpr double goal = 0.01;
  if (const Probe* p = model.below(goal))
    return fmt::format(
        "From epoch {} on, after {} of training, {} stays below 1 % of held-out boards wrong; its whole "
        "training took {}.",
        report::format_number(results.epoch_of(*p), 2), report::format_duration(p->seconds), model.name,
        report::format_duration(model.seconds()));
  return fmt::format("{} did not end below 1 % of held-out boards wrong; its training took {}.", model.name,
                     report::format_duration(model.seconds()));
}

/// Two shares, each of `count` boards, that differ by less than chance may, with 95 %.
bool within_chance(double a, double b, double count) {
  return std::abs(a - b) <= 1.959964 * std::sqrt((a * (1 - a) + b * (1 - b)) / count);
}

std::string against_networks(const Results& results, const ModelResult& optnet, const ModelResult& network) {
  const double ours = optnet.test().boards, theirs = network.test().boards;
  return fmt::format(
      "The better network here, {}, has {} times as many parameters ({} against {}) and ends at {} of "
      "held-out boards wrong, {} of those it was trained on: {}. All with one seed.",
      network.name,
      report::format_number(static_cast<double>(network.parameters) / static_cast<double>(optnet.parameters),
                            2),
      report::format_count(network.parameters), report::format_count(optnet.parameters),
      format_percent(network.test().boards, 2), format_percent(network.train().boards, 2),
      within_chance(ours, theirs, static_cast<double>(results.data.test.size()))
          ? "no difference beyond chance"
      : theirs > ours ? "optnet is ahead"
                      : "the network is ahead");
}

std::string what_was_learned(const Results& results) {
  const Comparison before = compare(*results.initial), after = compare(*results.learned);
  return fmt::format(
      "The learned A has rank {} (the rules have 40). Between its row space and that of the rules the "
      "principal angles are {:.1f}° in the mean and {:.1f}° at most; before training they were {:.1f}° and "
      "{:.1f}°. The 288 solutions, of length 4, lie {:.3f} from the learned plane Az = b (root of the mean "
      "square), {:.2f} before.",
      after.rank, after.mean_angle(), after.angles.back(), before.mean_angle(), before.angles.back(),
      after.distance, before.distance);
}

std::string beside_the_rules(const Results& results, const ModelResult& optnet) {
  return fmt::format(
      "With the rules themselves as its equalities, the same program gets {} of the held-out boards wrong, "
      "with "
      "a mean squared error of {}; with the learned ones it is {}.",
      format_percent(results.by_rules.boards, 2), report::format_number(results.by_rules.mse),
      report::format_number(optnet.test().mse));
}

std::string how_solves_ended(const ModelResult& model) {
  using training::count_of, training::total;
  return fmt::format(
      "Of {} quadratic programs in training {} were not solved; {} gradients were exact, {} least-squares "
      "ones (active constraints that depend on each other), {} elements of the generalised Jacobian, {} of "
      "other kinds.",
      report::format_count(total(model.solves)),
      report::format_count(total(model.solves) - count_of(model.solves, "solved")),
      report::format_count(count_of(model.gradients, "exact")),
      report::format_count(count_of(model.gradients, "least_squares")),
      report::format_count(count_of(model.gradients, "non_differentiable")),
      report::format_count(total(model.gradients) - count_of(model.gradients, "exact") -
                           count_of(model.gradients, "least_squares") -
                           count_of(model.gradients, "non_differentiable")));
}

}  // namespace

double ModelResult::seconds() const { return training::total_seconds(steps); }

const Probe* ModelResult::below(double share) const {
  const Probe* first = nullptr;
  for (auto probe = probes.rbegin(); probe != probes.rend() && probe->test.boards < share; ++probe)
    first = &*probe;
  return first;
}

std::string to_text(const ModelResult& model) { return nlohmann::json(model).dump(); }

ModelResult from_text(const std::string& text) {
  ModelResult model;
  cli::read_results(text, [&](const nlohmann::json& json) { json.get_to(model); });
  return model;
}

std::string metrics_csv(const Results& results) {
  std::string csv =
      "model,row,step,epoch,seconds,loss,train_boards,train_cells,train_mse,test_boards,test_cells,test_"
      "mse\n";
  const auto errors = [](const Errors& e) {
    return fmt::format("{},{},{}", cli::csv_cell(e.boards), cli::csv_cell(e.cells), cli::csv_cell(e.mse));
  };
  for (const ModelResult& model : results.models) {
    for (std::size_t i = 0; i < model.steps.size(); ++i)
      csv += fmt::format("{},step,{},{:.4f},{},{},,,,,,\n", model.name, i + 1,
                         static_cast<double>(i + 1) / static_cast<double>(results.steps_per_epoch),
                         cli::csv_cell(model.steps[i].seconds), cli::csv_cell(model.steps[i].loss));
    for (const Probe& p : model.probes)
      csv += fmt::format("{},probe,{},{:.4f},{},,{},{}\n", model.name, p.step, results.epoch_of(p),
                         cli::csv_cell(p.seconds), errors(p.train), errors(p.test));
  }
  return csv;
}

std::string summary_json(const Results& results) {
  Json json{{"settings", cli::object_of(results.settings)},
            {"environment", cli::object_of(results.environment)},
            {"train_boards", results.data.train.size()},
            {"test_boards", results.data.test.size()},
            {"findings", findings(results)},
            {"models", Json::array()}};
  for (const ModelResult& model : results.models) {
    Json entry{{"model", model.name},
               {"description", model.description},
               {"parameters", model.parameters},
               {"steps", model.steps.size()},
               {"seconds", model.seconds()},
               {"test", nlohmann::json(model.test())},
               {"train", nlohmann::json(model.train())},
               {"solves", model.solves},
               {"gradients", model.gradients},
               {"failure", model.failure},
               {"probes", nlohmann::json(model.probes)}};
    if (const Probe* p = model.below(0.01)) entry["below_one_percent_after_seconds"] = p->seconds;
    json["models"].push_back(std::move(entry));
  }
  json["by_the_rules"] = nlohmann::json(results.by_rules);
  if (results.initial && results.learned)
    json["equalities"] = {{"initial", json_of(compare(*results.initial))},
                          {"learned", json_of(compare(*results.learned))}};
  return json.dump(2) + "\n";
}

cli::SummaryTable summary_table(const Results& results) {
  cli::SummaryTable table{.head = {{"model"},
                                   {"parameters"},
                                   {"held-out boards wrong"},
                                   {"cells wrong"},
                                   {"MSE"},
                                   {"training boards wrong"},
                                   {"below 1 % after"},
                                   {"time"}},
                          .rows = {}};
  for (const ModelResult& model : results.models) {
    const Probe* p = model.below(0.01);
    table.rows.push_back({model.name, report::format_count(model.parameters),
                          format_percent(model.test().boards, 2), format_percent(model.test().cells, 2),
                          report::format_number(model.test().mse), format_percent(model.train().boards, 2),
                          p ? report::format_duration(p->seconds) : "-",
                          report::format_duration(model.seconds())});
  }
  return table;
}

std::vector<std::string> findings(const Results& results) {
  std::vector<std::string> found;
  const ModelResult *optnet = find(results, true), *network = find(results, false);
  for (const ModelResult& model : results.models)
    if (!model.failure.empty()) found.push_back(fmt::format("{}: {}.", model.name, model.failure));
  if (optnet) {
    found.push_back(at_the_end(results, *optnet) + " " + when_learned(results, *optnet));
    if (network) found.push_back(against_networks(results, *optnet, *network));
    found.push_back(what_was_learned(results) + " " + beside_the_rules(results, *optnet));
    found.push_back(how_solves_ended(*optnet));
  } else if (network) {
    found.push_back(at_the_end(results, *network) + " " + when_learned(results, *network));
  }
  return found;
}

}  // namespace banach::sudoku
