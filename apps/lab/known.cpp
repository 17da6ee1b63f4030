#include <apps/lab/known.hpp>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/cli/check.hpp>

namespace banach::lab {

CLI::Option* add_problem_option(CLI::App& command, KnownOptions& o, std::vector<std::string> names) {
  names.insert(names.begin(), "all");
  return command
      .add_option("--problem", o.problem,
                  fmt::format("Which one (default: all):\n{}", fmt::join(names, ", ")))
      ->option_text("NAME")
      ->check(cli::one_of(names));
}

void add_place_options(CLI::App& command, KnownOptions& o) {
  command.add_option("--out", o.out, fmt::format("Folder for the results (default: {})", o.out))
      ->option_text("DIR")
      ->check(cli::path());
  command.add_option("--threads", o.threads, "Threads, 0 for all cores (default)")
      ->option_text("N")
      ->check(cli::whole_number(0, 1024));
}

}  // namespace banach::lab
