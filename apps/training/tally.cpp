#include <apps/training/tally.hpp>

#include <fmt/format.h>

#include <apps/report/format.hpp>

namespace banach::training {

std::int64_t total(const Tally& tally) {
  std::int64_t sum = 0;
  for (const auto& [status, count] : tally) sum += count;
  return sum;
}

std::int64_t count_of(const Tally& tally, const std::string& status) {
  const auto found = tally.find(status);
  return found == tally.end() ? 0 : found->second;
}

std::string in_words(const Tally& tally, const std::string& none) {
  std::string text;
  for (const auto& [status, count] : tally)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", report::format_count(count), status);
  return text.empty() ? none : text;
}

}  // namespace banach::training
