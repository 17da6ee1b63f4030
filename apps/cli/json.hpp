#pragma once

// JSON has no word for numbers that are not finite: they are written as null by themselves, and read as NaN.

#include <functional>
#include <string>

#include <apps/cli/run_notes.hpp>
#include <nlohmann/json_fwd.hpp>

namespace banach::cli {

/// Reads results back that a checkpoint keeps as text; `take` copies what it needs. Throws FileError if the
/// text is no JSON, or if `take` misses something.
void read_results(const std::string& text, const std::function<void(const nlohmann::json&)>& take);

nlohmann::ordered_json object_of(const Entries& entries);

/// A number for a CSV file: nothing if it is not finite.
std::string csv_cell(double value);

}  // namespace banach::cli
