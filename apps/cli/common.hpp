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
  bool resume = false, overwrite = false;
};

/// Declares --out, --seed, --threads, --resume and --overwrite; `default_out` is what the help says of the
/// first.
void add_common_options(CLI::App& command, CommonOptions& options, const std::string& default_out);

/// Sets the number of threads, and says so on stderr if the machine has fewer processors.
void use_threads(int n);

}  // namespace banach::cli
