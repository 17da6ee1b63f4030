#pragma once
// Numbers as people read them: compact text for tables, key figures and messages.

#include <cstdint>
#include <string>
#include <string_view>

namespace banach::report {

/// `value` rounded to `digits` significant decimal digits.
double round_to_digits(double value, int digits);

/// At most `digits` significant digits, no trailing zeros: 0.9, 12345, 1.23e-05, nan, inf. Whole numbers
/// below a million keep all their digits.
std::string format_number(double value, int digits = 3);

/// With `decimals` digits after the point; nan and inf as format_number has them.
std::string format_fixed(double value, int decimals);

/// With an SI prefix (n, µ, m, k, M, G, T) before `unit`: format_si(0.0123, "s") is "12.3 ms".
std::string format_si(double value, std::string_view unit, int digits = 3);

/// With a binary prefix: "512 B", "4.5 MiB". At least two significant digits.
std::string format_bytes(double bytes);

/// A time span: "12.3 ms", "4.21 s", "3 min 05 s", "1 h 02 min".
std::string format_duration(double seconds);

/// A fraction as a percentage with `decimals` digits after the point: format_percent(0.8731) is "87.3 %".
std::string format_percent(double fraction, int decimals = 1);

/// Thousands grouped by commas: "60,000".
std::string format_count(std::int64_t value);

}  // namespace banach::report
