#include <apps/cli/common.hpp>

#include <charconv>
#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

namespace banach::cli {

void add_common_options(CLI::App& command, CommonOptions& o, const std::string& default_out) {
  const std::string group = "Running";
  command.add_option("--out", o.out, "Folder for the results (default: " + default_out + ")")
      ->option_text("DIR")
      ->group(group);
  command.add_option("--seed", o.seed, "Of all random numbers (default: 0)")
      ->option_text("N")
      ->group(group)
      ->check(CLI::Validator(
          [](const std::string& text) {
            std::uint64_t value = 0;
            const char* end = text.data() + text.size();
            const auto [stop, error] = std::from_chars(text.data(), end, value);
            if (error == std::errc() && stop == end) return std::string();
            return "must be a whole number from 0 to 2^64 - 1: got '" + text + "'";
          },
          "", "seed"));
  command
      .add_option("--threads", o.threads,
                  "Threads, 0 for all cores (default); the results do not depend on it")
      ->check(CLI::Range(0, 1024))
      ->option_text("N")
      ->group(group);
  command.add_flag("--resume", o.resume, "Go on with the checkpoint in the folder for the results")
      ->group(group);
}

}  // namespace banach::cli
