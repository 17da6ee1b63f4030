#include <apps/lab/checkpoint.hpp>

#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include <banach/engine/error.hpp>

namespace banach::lab {
namespace {

constexpr std::int64_t step_fields = 7;
const std::string setting_prefix = "lab.setting.", rule_prefix = "lab.rule.", position_key = "lab.position";

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

/// "--seed 1, not 0" for the first setting in which the checkpoint differs; empty if none does.
std::string difference(const nn::Metadata& notes, const Entries& settings) {
  for (const auto& [name, value] : settings) {
    const auto found = notes.find(setting_prefix + name);
    const std::string there = found == notes.end() ? "unset" : found->second;
    if (there != value) return fmt::format("{} {}, not {}", name, there, value);
  }
  return {};
}

}  // namespace

void put_results(nn::Progress& progress, const Results& results, std::size_t rule) {
  for (const auto& [name, value] : results.settings) progress.notes[setting_prefix + name] = value;
  progress.notes[position_key] = std::to_string(rule);
  for (std::size_t i = 0; i < results.rules.size(); ++i) {
    progress.notes[rule_prefix + std::to_string(i)] = to_text(results.rules[i]);
    if (!results.rules[i].steps.empty()) progress.extra[steps_name(i)] = to_tensor(results.rules[i].steps);
  }
}

std::size_t take_results(const std::string& path, Results& results) {
  if (!std::filesystem::exists(path))
    fail<FileError>("resume", fmt::format("there is no checkpoint {}: start without --resume", path));
  const nn::Progress progress = nn::load_progress(path);
  const auto position = progress.notes.find(position_key);
  if (position == progress.notes.end())
    fail<FileError>("resume", fmt::format("{} is not a checkpoint of banach lab: its metadata has no {}",
                                          path, position_key));
  if (const std::string other = difference(progress.notes, results.settings); !other.empty())
    fail<FileError>(
        "resume", fmt::format("{} was made with {}: give the same settings, or another --out", path, other));
  for (std::size_t i = 0; i < results.rules.size(); ++i) {
    const auto text = progress.notes.find(rule_prefix + std::to_string(i));
    if (text == progress.notes.end())
      fail<FileError>("resume", fmt::format("{} lacks the results of {}", path, results.rules[i].spec));
    results.rules[i] = from_text(text->second);
    const auto steps = progress.extra.find(steps_name(i));
    if (steps != progress.extra.end()) results.rules[i].steps = from_tensor(steps->second);
  }
  std::size_t rule = results.rules.size() + 1;
  const std::string& digits = position->second;
  std::from_chars(digits.data(), digits.data() + digits.size(), rule);
  if (rule > results.rules.size())
    fail<FileError>("resume",
                    fmt::format("{}: {} must be the place of a rule: got '{}'", path, position_key, digits));
  return rule;
}

SavedRun saved_run(const std::string& path) {
  if (!std::filesystem::exists(path)) fail<FileError>("checkpoint", fmt::format("there is no file {}", path));
  const nn::Progress progress = nn::load_progress(path);
  SavedRun run{.step = progress.step};
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
  read(position_key, rule);
  const auto result_of = [&](std::size_t i) { return from_text(note(rule_prefix + std::to_string(i))); };
  const bool begun =
      progress.notes.contains(rule_prefix + std::to_string(rule)) && !result_of(rule).probes.empty();
  if (!begun && rule > 0) --rule;
  run.rule = result_of(rule).spec;
  return run;
}

void check_replaceable(const std::string& path, const TrainSettings& settings) {
  if (!std::filesystem::exists(path)) return;
  std::string what = "cannot be read: start anew with --overwrite";
  try {
    const nn::Metadata notes = nn::load_progress(path).notes;
    const std::string other = difference(notes, describe(settings));
    const auto position = notes.find(position_key);
    const bool finished =
        position != notes.end() && position->second == std::to_string(settings.rules.size());
    if (finished && other.empty()) return;
    what = other.empty() ? "is of an unfinished run: go on with --resume, start anew with --overwrite"
                         : fmt::format("is of another run ({}): start anew with --overwrite", other);
  } catch (const FileError&) {  // the new run does not need it, but its user may
  }
  fail<FileError>("out", fmt::format("{} {}, or give another --out", path, what));
}

}  // namespace banach::lab
