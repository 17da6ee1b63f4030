#include <apps/lab/checkpoint.hpp>

#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include <apps/cli/run_notes.hpp>
#include <banach/engine/error.hpp>

namespace banach::lab {
namespace {

constexpr std::int64_t step_fields = 7;
const cli::RunNotes run_notes("lab");
const std::string rule_prefix = "lab.rule.";

std::string steps_name(std::size_t rule) { return fmt::format("lab.steps.{}", rule); }

/// (steps, 7), in the order of the struct.
Tensor to_tensor(const std::vector<Step>& steps) {
  std::vector<double> values;
  for (const Step& s : steps)
    values.insert(values.end(),
                  {s.loss, s.cost.forward_seconds, s.cost.backward_seconds, s.cost.forward_evaluations,
                   s.cost.backward_evaluations, s.cost.peak_bytes, s.seconds});
  return tensor(values, {static_cast<std::int64_t>(steps.size()), step_fields});
}

std::vector<Step> from_tensor(const Tensor& tensor) {
  if (tensor.dtype() != DType::f64 || tensor.rank() != 2 || tensor.size(1) != step_fields)
    fail<FileError>("resume", fmt::format("the steps must be f64 (steps, {}): got {}{}", step_fields,
                                          name(tensor.dtype()), tensor.shape().to_string()));
  std::vector<Step> steps;
  const double* v = tensor.data<double>();
  for (std::int64_t i = 0; i < tensor.size(0); ++i, v += step_fields)
    steps.push_back({v[0], {v[1], v[2], v[3], v[4], v[5]}, v[6]});
  return steps;
}

}  // namespace

void put_results(nn::Progress& progress, const Results& results, std::size_t rule) {
  run_notes.put(progress.notes, results.settings, rule);
  for (std::size_t i = 0; i < results.rules.size(); ++i) {
    progress.notes[rule_prefix + std::to_string(i)] = to_text(results.rules[i]);
    if (!results.rules[i].steps.empty()) progress.extra[steps_name(i)] = to_tensor(results.rules[i].steps);
  }
}

std::size_t take_results(const std::string& path, Results& results) {
  const auto [progress, rule] = run_notes.resume(path, results.settings, results.rules.size());
  for (std::size_t i = 0; i < results.rules.size(); ++i) {
    const auto text = progress.notes.find(rule_prefix + std::to_string(i));
    if (text == progress.notes.end())
      fail<FileError>("resume", fmt::format("{} lacks the results of {}", path, results.rules[i].spec));
    results.rules[i] = from_text(text->second);
    const auto steps = progress.extra.find(steps_name(i));
    if (steps != progress.extra.end()) results.rules[i].steps = from_tensor(steps->second);
  }
  return rule;
}

SavedRun saved_run(const std::string& path) {
  if (!std::filesystem::exists(path)) fail<FileError>("checkpoint", fmt::format("there is no file {}", path));
  const nn::Progress progress = nn::load_progress(path);
  SavedRun run{.step = progress.step};
  const std::string setting_prefix = run_notes.setting_key("");
  const auto note = [&](const std::string& name) -> const std::string& {
    const auto found = progress.notes.find(name);
    if (found == progress.notes.end())
      fail<FileError>(
          "checkpoint",
          fmt::format("{} is not a checkpoint of banach lab: its metadata has no {}", path, name));
    return found->second;
  };
  const auto read = [&](const std::string& name, auto& value) {
    const std::string& text = note(name);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
      fail<FileError>("checkpoint", fmt::format("{}: {} must be a number: got '{}'", path, name, text));
  };
  TrainSettings& s = run.settings;
  s.data = note(setting_prefix + "--data");
  s.data_dir = note(setting_prefix + "--data-dir");
  if (s.data_dir == "default") s.data_dir.clear();
  s.model = note(setting_prefix + "--model");
  if (s.model == "mlp") {
    read(setting_prefix + "--hidden", s.hidden);
    read(setting_prefix + "--bound", s.bound);
  }
  read(setting_prefix + "--seed", s.seed);
  for (const auto& [name, value] : progress.notes)
    if (name.starts_with(setting_prefix)) run.entries.emplace_back(name.substr(setting_prefix.size()), value);

  // The model is that of the rule in training or, between two, that of the one just done.
  std::size_t rule = 0;
  read(run_notes.place_key(), rule);
  const auto result_of = [&](std::size_t i) { return from_text(note(rule_prefix + std::to_string(i))); };
  const bool begun =
      progress.notes.contains(rule_prefix + std::to_string(rule)) && !result_of(rule).probes.empty();
  if (!begun && rule > 0) --rule;
  run.rule = result_of(rule).spec;
  return run;
}

void check_replaceable(const std::string& path, const TrainSettings& settings) {
  run_notes.check_replaceable(path, describe(settings), settings.rules.size());
}

}  // namespace banach::lab
