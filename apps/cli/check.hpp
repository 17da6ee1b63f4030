#pragma once
// What the value of an option must be, said in one line each: "must be a whole number from 1 to 1024: got
// 'x'".

#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class Validator;
}

namespace banach::cli {

/// A whole number in [low, high], in decimal digits.
CLI::Validator whole_number(std::uint64_t low, std::uint64_t high);
/// A finite number from 0 to 1e9; `positive`: 0 itself is none.
CLI::Validator number(bool positive);
CLI::Validator one_of(const std::vector<std::string>& choices);
/// Neither empty nor the next option, which stands where the value was forgotten.
CLI::Validator path();

}  // namespace banach::cli
