#include <apps/cli/environment.hpp>

#include <algorithm>
#include <ctime>
#include <fstream>

#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>
#include <banach/version.hpp>

namespace banach::cli {
namespace {

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
  return "unknown";
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[64];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &parts);
  return text;
}

}  // namespace

Entries environment() {
  return {{"version", "banach " BANACH_VERSION},
          {"processor", processor()},
          {"instruction set", std::string(simd::name(simd::active()))},
          {"threads", std::to_string(threads())},
          {"compiler", __VERSION__},
          {"date", now()}};
}

}  // namespace banach::cli
