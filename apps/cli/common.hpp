#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace banach::cli {

/// What every subcommand takes. Its data it declares itself.
struct CommonOptions {
  std::optional<std::string> out;
  std::uint64_t seed = 0;
  int threads = 0;
  bool resume = false;
};

/// Declares --out, --seed, --threads and --resume; `default_out` is what the help says of the first.
void add_common_options(CLI::App& command, CommonOptions& options, const std::string& default_out);

}  // namespace banach::cli
