#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace banach::cli {

/// Reads results back that a checkpoint keeps as text. JSON has no word for numbers that are not finite and
/// they are written as null: each null becomes NaN.
nlohmann::json parse_results(const std::string& text);

}  // namespace banach::cli
