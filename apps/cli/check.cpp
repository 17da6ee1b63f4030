#include <apps/cli/check.hpp>

#include <algorithm>
#include <charconv>
#include <limits>
#include <sstream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/cli/run.hpp>

namespace banach::cli {
namespace {

/// Reads the whole text as a T, or says no.
template <class T>
bool read(const std::string& text, T& value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end;
}

std::string range(std::uint64_t low, std::uint64_t high) {
  const bool any = high == std::numeric_limits<std::uint64_t>::max();
  return fmt::format("from {} to {}", low, any ? "2^64 - 1" : std::to_string(high));
}

std::string trimmed(const std::string& text) {
  const char* const blanks = " \t\r\n";
  const auto first = text.find_first_not_of(blanks);
  return first == text.npos ? "" : text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

/// `accept` says whether the text will do, and may rewrite it.
template <class Accept>
CLI::Validator must_be(const std::string& what, Accept accept) {
  return CLI::Validator(
      [=](std::string& text) {
        return accept(text) ? std::string() : fmt::format("must be {}: got '{}'", what, text);
      },
      "", "value");
}

template <class T>
CLI::Option* add_list(CLI::App& app, const std::string& option, std::vector<T>& numbers,
                      const std::string& description, std::uint64_t low, std::uint64_t high) {
  const auto take = [=, &numbers](const std::string& list) {
    numbers.clear();
    for (const std::string& part : split_list(option, "number", list)) {
      std::uint64_t value = 0;
      if (!read(part, value) || value < low || value > high)
        throw UsageError(fmt::format("{} {}: must be whole numbers {}, separated by commas: got '{}'", option,
                                     list, range(low, high), part));
      numbers.push_back(static_cast<T>(value));
    }
  };
  return app.add_option_function<std::string>(option, take, description);
}

}  // namespace

CLI::Validator whole_number(std::uint64_t low, std::uint64_t high) {
  return must_be("a whole number " + range(low, high), [=](std::string& text) {
    std::uint64_t value = 0;
    if (!read(text, value) || value < low || value > high) return false;
    text = std::to_string(value);  // CLI11 would take 010 for eight
    return true;
  });
}

CLI::Validator number(bool positive) {
  return must_be(positive ? "a number above 0, at most 1e9" : "a number from 0 to 1e9",
                 [=](const std::string& text) {
                   double value = 0.0;
                   return read(text, value) && (positive ? value > 0.0 : value >= 0.0) && value <= 1e9;
                 });
}

CLI::Validator number(double low, double high) {
  return must_be(fmt::format("a number from {} to {}", low, high), [=](const std::string& text) {
    double value = 0.0;
    return read(text, value) && value >= low && value <= high;
  });
}

CLI::Validator one_of(const std::vector<std::string>& choices) {
  return must_be(fmt::format("{}", fmt::join(choices, " or ")), [=](const std::string& text) {
    return std::find(choices.begin(), choices.end(), text) != choices.end();
  });
}

std::vector<std::string> split_list(const std::string& option, const std::string& what,
                                    const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream stream(list + ",");
  for (std::string part; std::getline(stream, part, ',');) {
    parts.push_back(trimmed(part));
    if (parts.back().empty()) throw UsageError(fmt::format("{} '{}': a {} is missing", option, list, what));
  }
  return parts;
}

CLI::Option* add_numbers(CLI::App& app, const std::string& option, std::vector<std::int64_t>& numbers,
                         const std::string& description, std::uint64_t low, std::uint64_t high) {
  return add_list(app, option, numbers, description, low, high);
}

CLI::Option* add_numbers(CLI::App& app, const std::string& option, std::vector<std::uint64_t>& numbers,
                         const std::string& description, std::uint64_t low, std::uint64_t high) {
  return add_list(app, option, numbers, description, low, high);
}

std::vector<std::string> split_choices(const std::string& option, const std::string& what,
                                       const std::string& list, const std::vector<std::string>& choices) {
  const std::vector<std::string> parts = split_list(option, what, list);
  for (auto part = parts.begin(); part != parts.end(); ++part) {
    if (std::find(choices.begin(), choices.end(), *part) == choices.end())
      throw UsageError(
          fmt::format("{}: must be out of {}: got '{}'", option, fmt::join(choices, ", "), *part));
    if (std::find(parts.begin(), part, *part) != part)
      throw UsageError(fmt::format("{} '{}': {} stands there twice", option, list, *part));
  }
  return parts;
}

std::function<CLI::Option*(CLI::Option*, const std::string&)> in_group(const std::string& title) {
  return [title](CLI::Option* option, const std::string& value) {
    return option->option_text(value)->group(title);
  };
}

CLI::Validator path() {
  return must_be("a name", [](const std::string& text) { return !text.empty() && !text.starts_with("--"); });
}

}  // namespace banach::cli
