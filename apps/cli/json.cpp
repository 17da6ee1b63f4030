#include <apps/cli/json.hpp>

#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <banach/engine/error.hpp>

namespace banach::cli {

void read_results(const std::string& text, const std::function<void(const nlohmann::json&)>& take) {
  using Json = nlohmann::json;
  const auto null_to_nan = [](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::value && parsed.is_null())
      parsed = std::numeric_limits<double>::quiet_NaN();
    return true;
  };
  try {
    take(Json::parse(text, null_to_nan));
  } catch (const Json::exception& error) {
    fail<FileError>("checkpoint", fmt::format("its results cannot be read: {}", error.what()));
  }
}

nlohmann::ordered_json object_of(const Entries& entries) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (const auto& [name, value] : entries) object[name] = value;
  return object;
}

std::string csv_cell(double value) { return std::isfinite(value) ? fmt::format("{}", value) : ""; }

}  // namespace banach::cli
