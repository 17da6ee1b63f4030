#include <apps/cli/json.hpp>

#include <limits>

#include <nlohmann/json.hpp>

namespace banach::cli {

nlohmann::json parse_results(const std::string& text) {
  using Json = nlohmann::json;
  return Json::parse(text, [](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::value && parsed.is_null())
      parsed = std::numeric_limits<double>::quiet_NaN();
    return true;
  });
}

}  // namespace banach::cli
