#include <apps/cli/run_notes.hpp>

#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include <banach/engine/error.hpp>

namespace banach::cli {

nn::Progress read_checkpoint(const std::string& path, const std::string& maker) {
  const std::filesystem::path file(path);
  const std::string name = "checkpoint.safetensors";
  const auto first_run = [&](const std::filesystem::path& folder) {
    return fmt::format("first run '{}{}'", maker, folder.empty() ? "" : " --out " + folder.string());
  };
  if (std::filesystem::is_directory(file)) {
    const bool there = std::filesystem::exists(file / name);
    fail<FileError>("checkpoint", fmt::format("{} is a folder: {}", path,
                                              there ? "give " + (file / name).string()
                                                    : "without " + name + ": " + first_run(file)));
  }
  if (!std::filesystem::exists(file))
    fail<FileError>("checkpoint", fmt::format("there is no checkpoint {}: {}", path,
                                              first_run(file.filename() == name ? file.parent_path() : "")));
  return nn::load_progress(path);
}

void RunNotes::put(nn::Metadata& notes, std::size_t place, const std::string& model) const {
  for (const auto& [name, value] : settings_) notes[setting_key(name)] = value;
  notes[place_key()] = std::to_string(place);
  notes[model_key()] = model;
}

RunNotes::Resumed RunNotes::resume(const std::string& path) const {
  if (!std::filesystem::exists(path))
    fail<FileError>("resume", fmt::format("there is no checkpoint {}: start without --resume", path));
  nn::Progress progress = nn::load_progress(path);
  const nn::Metadata& notes = progress.notes;
  const auto found = notes.find(place_key());
  if (found == notes.end())
    fail<FileError>("resume", fmt::format("{} is not a checkpoint of banach {}: its metadata has no {}", path,
                                          command_, place_key()));
  if (const std::string other = difference(notes); !other.empty())
    fail<FileError>(
        "resume", fmt::format("{} was made with {}: give the same settings, or another --out", path, other));
  std::size_t place = models_ + 1;
  const std::string& digits = found->second;
  std::from_chars(digits.data(), digits.data() + digits.size(), place);
  if (place > models_)
    fail<FileError>("resume", fmt::format("{}: {} must be a number from 0 to {}: got '{}'", path, place_key(),
                                          models_, digits));
  return {std::move(progress), place};
}

void RunNotes::check_replaceable(const std::string& path) const {
  if (!std::filesystem::exists(path)) return;
  std::string what = "cannot be read: start anew with --overwrite";
  try {
    const nn::Metadata notes = nn::load_progress(path).notes;
    const std::string other = difference(notes);
    const auto place = notes.find(place_key());
    const bool finished = place != notes.end() && place->second == std::to_string(models_);
    if (finished && other.empty()) return;
    what = other.empty() ? "is of an unfinished run: go on with --resume, start anew with --overwrite"
                         : fmt::format("is of another run ({}): start anew with --overwrite", other);
  } catch (const FileError&) {  // the new run does not need it, but its user may
  }
  fail<FileError>("out", fmt::format("{} {}, or give another --out", path, what));
}

std::string RunNotes::difference(const nn::Metadata& notes) const {
  for (const auto& [name, value] : settings_) {
    const auto found = notes.find(setting_key(name));
    const std::string there = found == notes.end() ? "unset" : found->second;
    if (there != value) return fmt::format("{} {}, not {}", name, there, value);
  }
  return {};
}

}  // namespace banach::cli
