#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <apps/cli/run.hpp>

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

/// A subcommand without options yet.
CLI::App& new_command(CLI::App& parent, const std::string& name, const std::string& what);

/// A subcommand whose Options have CommonOptions `common`: `declare` adds them, `job` runs with as many
/// threads as they say.
template <class Options>
Subcommand command(CLI::App& parent, const std::string& name, const std::string& what,
                   void (*declare)(CLI::App&, Options&), void (*job)(const Options&)) {
  CLI::App& app = new_command(parent, name, what);
  const auto options = std::make_shared<Options>();
  declare(app, *options);
  return {&app, [options, job] {
            use_threads(options->common.threads);
            job(*options);
          }};
}

}  // namespace banach::cli
