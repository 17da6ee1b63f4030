#pragma once
// From the command line to an exit code: 0 done, 1 failed, 2 bad usage. Results go to stdout, one clear line
// about a failure to stderr.

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace banach::cli {

/// A command line that cannot be obeyed: exit code 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Subcommand {
  CLI::App* app;
  std::function<void()> job;           ///< runs after parsing; throws if it fails
  std::vector<Subcommand> parts = {};  ///< subcommands of its own
};

/// One line on stderr that begins with "banach: ".
void note(const std::string& line);

/// Parses the command line, runs the chosen subcommand's job and returns the exit code.
int run(CLI::App& app, const std::vector<Subcommand>& subcommands, int argc, char** argv);

}  // namespace banach::cli
