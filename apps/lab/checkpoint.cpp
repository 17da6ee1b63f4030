#include <apps/lab/checkpoint.hpp>

#include <charconv>

#include <fmt/format.h>

#include <apps/cli/run_notes.hpp>
#include <banach/engine/error.hpp>
#include <banach/nn/checkpoint.hpp>

namespace banach::lab {

SavedRun saved_run(const std::string& path) {
  const nn::Progress progress = cli::read_checkpoint(path, "banach lab");
  SavedRun run{.step = progress.step};
  const cli::RunNotes keys("lab", {}, 0);
  const std::string setting_prefix = keys.setting_key("");
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

  run.rule = note(keys.model_key());
  return run;
}

}  // namespace banach::lab
