#include <apps/cli/common.hpp>

#include <limits>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <apps/cli/check.hpp>
#include <apps/cli/run.hpp>
#include <banach/engine/parallel.hpp>

namespace banach::cli {

void add_common_options(CLI::App& command, CommonOptions& o, const std::string& default_out) {
  const std::string group = "Running";
  command.add_option("--out", o.out, "Folder for the results (default: " + default_out + ")")
      ->option_text("DIR")
      ->group(group)
      ->check(path());
  command.add_option("--seed", o.seed, "Of all random numbers (default: 0)")
      ->option_text("N")
      ->group(group)
      ->check(whole_number(0, std::numeric_limits<std::uint64_t>::max()));
  command
      .add_option("--threads", o.threads,
                  "Threads, 0 for all cores (default); the results do not depend on it")
      ->option_text("N")
      ->group(group)
      ->check(whole_number(0, 1024));
  const std::string no_value = " ";  // else the help has CLI11's words on what excludes what
  CLI::Option* resume =
      command.add_flag("--resume", o.resume, "Go on with the checkpoint in the folder for the results")
          ->option_text(no_value)
          ->group(group)
          ->disable_flag_override();
  command.add_flag("--overwrite", o.overwrite, "Start anew, whatever run's checkpoint that folder holds")
      ->option_text(no_value)
      ->group(group)
      ->disable_flag_override()
      ->excludes(resume);
}

CLI::App& new_command(CLI::App& parent, const std::string& name, const std::string& what) {
  CLI::App* command = parent.add_subcommand(name, what);
  command->get_formatter()->column_width(24);
  return *command;
}

void use_threads(int n) {
  set_threads(0);
  const int processors = threads();
  if (n > processors)
    note(fmt::format("--threads {}: more than the {} processors here; the threads will take turns", n,
                     processors));
  set_threads(n);
}

}  // namespace banach::cli
