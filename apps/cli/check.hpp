#pragma once
// What the value of an option must be, said in one line each: "must be a whole number from 1 to 1024: got
// 'x'".

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
class Validator;
}  // namespace CLI

namespace banach::cli {

/// A whole number in [low, high], in decimal digits.
CLI::Validator whole_number(std::uint64_t low, std::uint64_t high);
/// A finite number from 0 to 1e9; `positive`: 0 itself is none.
CLI::Validator number(bool positive);
CLI::Validator number(double low, double high);
CLI::Validator one_of(const std::vector<std::string>& choices);
/// The parts of a list "a,b" given to `option`, without the blanks around them. Throws UsageError if one is
/// empty; `what` says what each is.
std::vector<std::string> split_list(const std::string& option, const std::string& what,
                                    const std::string& list);
/// The same, of which each must be one of `choices` and stand there once.
std::vector<std::string> split_choices(const std::string& option, const std::string& what,
                                       const std::string& list, const std::vector<std::string>& choices);
/// Declares an option that takes a list of whole numbers in [low, high].
CLI::Option* add_numbers(CLI::App& app, const std::string& option, std::vector<std::int64_t>& numbers,
                         const std::string& description, std::uint64_t low, std::uint64_t high);
CLI::Option* add_numbers(CLI::App& app, const std::string& option, std::vector<std::uint64_t>& numbers,
                         const std::string& description, std::uint64_t low, std::uint64_t high);
/// Puts options into a group of the help, and names their values: what(app.add_option(...), "N").
std::function<CLI::Option*(CLI::Option*, const std::string& value)> in_group(const std::string& title);
/// Neither empty nor the next option, which stands where the value was forgotten.
CLI::Validator path();

}  // namespace banach::cli
