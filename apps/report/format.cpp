#include <apps/report/format.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

namespace banach::report {
namespace {

/// nan and inf, worded alike on every platform; empty for a finite value.
std::string non_finite_word(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return {};
}

}  // namespace

double round_to_digits(double value, int digits) {
  const std::string text = fmt::format("{:.{}e}", value, std::clamp(digits, 1, 17) - 1);
  double rounded = value;  // stays where rounding would overflow
  std::from_chars(text.data(), text.data() + text.size(), rounded);
  return rounded;
}

std::string format_number(double value, int digits) {
  if (std::string word = non_finite_word(value); !word.empty()) return word;
  digits = std::clamp(digits, 1, 17);
  if (value == 0) return "0";
  if (std::abs(value) < 1e6 && value == std::trunc(value)) return fmt::format("{:.0f}", value);
  const double rounded = round_to_digits(value, digits);
  const double magnitude = std::abs(rounded);
  if (magnitude < 1e-3 || magnitude >= 1e6) return fmt::format("{:.{}g}", rounded, digits);
  // Fixed notation throughout this range: %g would turn 12345 at three digits into 1.23e+04.
  const int exponent = static_cast<int>(std::floor(std::log10(magnitude) + 1e-12));
  std::string text = fmt::format("{:.{}f}", value, std::max(0, digits - 1 - exponent));
  if (text.find('.') == std::string::npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

std::string format_si(double value, std::string_view unit, int digits) {
  if (std::string word = non_finite_word(value); !word.empty()) return fmt::format("{} {}", word, unit);
  digits = std::clamp(digits, 1, 17);
  static constexpr std::array<std::string_view, 9> prefixes{"p", "n", "µ", "m", "", "k", "M", "G", "T"};
  constexpr int unity = 4;
  const double rounded = round_to_digits(value, digits);  // 999.96 moves up before a prefix is chosen
  const int exponent =
      rounded == 0 ? 0 : static_cast<int>(std::floor(std::log10(std::abs(rounded)) / 3 + 1e-12));
  if (exponent < -unity || exponent > unity) return fmt::format("{} {}", format_number(value, digits), unit);
  const double scaled = rounded / std::pow(1000.0, exponent);
  return fmt::format("{} {}{}", format_number(scaled, digits), prefixes[exponent + unity], unit);
}

std::string format_bytes(double bytes) {
  if (std::string word = non_finite_word(bytes); !word.empty()) return word + " B";
  static constexpr std::array<std::string_view, 6> units{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (std::abs(bytes) >= 1023.5 && unit + 1 < units.size()) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{} {}", format_number(bytes, std::abs(bytes) >= 99.5 ? 3 : 2), units[unit]);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || std::abs(seconds) < 59.5) return format_si(seconds, "s");
  const auto whole = static_cast<std::int64_t>(std::llround(std::abs(seconds)));
  const std::string_view sign = seconds < 0 ? "-" : "";
  if (whole < 3600) return fmt::format("{}{} min {:02} s", sign, whole / 60, whole % 60);
  const std::int64_t minutes = (whole + 30) / 60;
  return fmt::format("{}{} h {:02} min", sign, minutes / 60, minutes % 60);
}

std::string format_fixed(double value, int decimals) {
  if (std::string word = non_finite_word(value); !word.empty()) return word;
  return fmt::format("{:.{}f}", value, std::clamp(decimals, 0, 12));
}

std::string format_percent(double fraction, int decimals) {
  return std::isfinite(fraction) ? format_fixed(100 * fraction, decimals) + " %" : format_fixed(fraction, 0);
}

std::string format_count(std::int64_t value) {
  std::string text = std::to_string(value);
  const std::ptrdiff_t first = value < 0 ? 1 : 0;
  for (std::ptrdiff_t at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > first; at -= 3) {
    text.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return text;
}

}  // namespace banach::report
