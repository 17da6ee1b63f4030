#include <apps/cli/usage.hpp>

#include <algorithm>
#include <numeric>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace banach::cli {
namespace {

/// Insertions, deletions and replacements that turn one text into the other (Levenshtein).
std::size_t edits(std::string_view from, std::string_view to) {
  std::vector<std::size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < from.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < to.size(); ++j) {
      const std::size_t replaced = diagonal + (from[i] == to[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

/// The option that `given` is a misspelling or the beginning of, if any.
std::string meant(const CLI::App& command, std::string_view given) {
  constexpr std::size_t least_beginning = 4;
  std::string nearest;
  std::size_t fewest = std::min<std::size_t>(2, given.size() / 4) + 1;  // more edits make another word
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_name();
    const bool beginning = given.size() >= least_beginning && name.starts_with(given);
    const std::size_t count = beginning ? 0 : edits(given, name);
    if (count < fewest) nearest = name, fewest = count;
  }
  return nearest;
}

std::string about_stray(const CLI::App& command, const std::string& argument) {
  if (!argument.starts_with('-')) return fmt::format("unexpected argument '{}'", argument);
  const std::string given = argument.substr(0, argument.find('=')), name = meant(command, given);
  return fmt::format("unknown option '{}'{}", given, name.empty() ? "" : ": did you mean " + name + "?");
}

/// `text` begins with the option's name, of a flag without its dashes.
std::string about_count(const CLI::App& command, const std::string& text) {
  std::string name = text.substr(0, text.find_first_of(": "));
  if (!name.starts_with('-')) name = "--" + name;
  const CLI::Option* option = command.get_option_no_throw(name);
  if (!option) return text;
  if (option->get_items_expected_max() == 0) return name + " takes no value";
  if (option->count() > 1) return fmt::format("{} is given {} times", name, option->count());
  return name + " needs a value";
}

}  // namespace

std::string explain(const CLI::App& app, const CLI::App& command, const CLI::ParseError& error) {
  if (dynamic_cast<const CLI::ExtrasError*>(&error)) {
    const std::vector<std::string> strays = app.remaining(true);
    if (!strays.empty()) return about_stray(command, strays.front());
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error)) return about_count(command, error.what());
  std::string text = error.what();
  const std::string excludes = " excludes ";
  if (const auto at = text.find(excludes); dynamic_cast<const CLI::ExcludesError*>(&error) && at != text.npos)
    return text.replace(at, excludes.size(), " and ") + " exclude each other";
  return text;
}

std::string help(const CLI::App& app) {
  std::string text = app.help();
  for (std::size_t at; (at = text.find("\n\n\n")) != text.npos;) text.erase(at, 1);
  return text;
}

}  // namespace banach::cli
