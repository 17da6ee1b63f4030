#include <apps/rules/spec.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include <apps/cli/run.hpp>

namespace banach::rules {
namespace {

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::size_t from = 0;
  for (std::size_t colon; (colon = text.find(':', from)) != text.npos; from = colon + 1)
    parts.push_back(text.substr(from, colon - from));
  parts.push_back(text.substr(from));
  return parts;
}

}  // namespace

Spec::Spec(std::string_view option, const std::string& text, std::string_view allowed)
    : option_(option), text_(text), allowed_(allowed), parts_(split(text)) {}

void Spec::expect_parts(std::size_t least, std::size_t most) const {
  const std::size_t given = parts_.size() - 1;
  if (given < least)
    refuse(fmt::format("'{}' needs {} number{} after its name", name(), least, least == 1 ? "" : "s"));
  if (given > most) refuse(fmt::format("'{}' is one part too many", parts_[most + 1]));
}

int Spec::count(std::size_t part, std::string_view what) const {
  const int value = read<int>(part, what);
  if (value < 1 || value > 10'000)
    refuse(fmt::format("{} must lie in [1, 10000], not '{}'", what, parts_[part]));
  return value;
}

double Spec::fraction(std::size_t part, std::string_view what) const {
  const double value = read<double>(part, what);
  if (!(value > 0.0 && value <= 1.0))
    refuse(fmt::format("{} must lie in (0, 1], not '{}'", what, parts_[part]));
  return value;
}

double Spec::number(std::size_t part, std::string_view what) const {
  const double value = read<double>(part, what);
  if (!std::isfinite(value)) refuse(fmt::format("{} must be finite, not '{}'", what, parts_[part]));
  return value;
}

double Spec::positive(std::size_t part, std::string_view what) const {
  const double value = read<double>(part, what);
  if (!(value > 0.0)) refuse(fmt::format("{} must be positive, not '{}'", what, parts_[part]));
  return value;
}

const std::string& Spec::choice(std::size_t part, const std::vector<std::string>& choices) const {
  if (std::find(choices.begin(), choices.end(), parts_[part]) == choices.end())
    refuse(fmt::format("'{}' is not known after '{}'", parts_[part], name()));
  return parts_[part];
}

void Spec::refuse(const std::string& why) const {
  throw cli::UsageError(fmt::format("{} {}: {}; allowed: {}", option_, text_, why, allowed_));
}

template <class T>
T Spec::read(std::size_t part, std::string_view what) const {
  const std::string& text = parts_[part];
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    refuse(fmt::format("{} must be a number, not '{}'", what, text));
  return value;
}

}  // namespace banach::rules
