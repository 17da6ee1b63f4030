#include <apps/cli/run.hpp>
#include <apps/cli/usage.hpp>

#include <algorithm>
#include <cstdio>
#include <new>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

namespace banach::cli {
namespace {

constexpr int done = 0, failed = 1, bad_usage = 2;

int complain(std::string line, int code) {
  std::replace(line.begin(), line.end(), '\n', ' ');
  note(line);
  return code;
}

// What was printed may still be on its way, and a full disk or a closed pipe shows only then.
int finish() {
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return done;
  return complain("cannot write to standard output", failed);
}

/// The innermost subcommand that was named, or null.
const Subcommand* chosen(const std::vector<Subcommand>& subcommands) {
  const auto found = std::find_if(subcommands.begin(), subcommands.end(),
                                  [](const Subcommand& s) { return s.app->parsed(); });
  if (found == subcommands.end()) return nullptr;
  const Subcommand* part = chosen(found->parts);
  return part ? part : &*found;
}

/// "banach lab"
std::string full_name(const CLI::App& command) {
  const CLI::App* parent = command.get_parent();
  return (parent ? full_name(*parent) + " " : std::string()) + command.get_name();
}

/// The first words of a command line name subcommands, one in another; CLI11 would take a name twice, and
/// pass over one that there is not.
void check_names(const CLI::App& app, const std::vector<Subcommand>& subcommands, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  const std::string name = argv[1];
  const auto positional = [](const CLI::Option* option) { return option->get_positional(); };
  if (!app.get_options(positional).empty()) return;  // its own argument
  if (app.get_parent() && subcommands.empty())
    throw UsageError(fmt::format("unexpected argument '{}' (see {} --help)", name, full_name(app)));
  std::string known;
  for (const Subcommand& s : subcommands) {
    if (s.app->get_name() == name) return check_names(*s.app, s.parts, argc - 1, argv + 1);
    known += (known.empty() ? "" : ", ") + s.app->get_name();
  }
  throw UsageError(
      fmt::format("unknown subcommand '{}' (there is: {}; see {} --help)", name, known, full_name(app)));
}

}  // namespace

void note(const std::string& line) {
  const char* start = isatty(STDERR_FILENO) == 1 ? "\r\033[K" : "";  // in place of a progress bar
  std::fputs((start + ("banach: " + line + "\n")).c_str(),
             stderr);  // fmt::print throws where stderr is closed
}

int run(CLI::App& app, const std::vector<Subcommand>& subcommands, int argc, char** argv) {
  try {
    check_names(app, subcommands, argc, argv);
    app.parse(argc, argv);
    const Subcommand* subcommand = chosen(subcommands);
    if (subcommand)
      subcommand->job();
    else
      fmt::print("{}", help(app));
    return finish();
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", help(app));
    return finish();
  } catch (const CLI::CallForVersion& version) {
    fmt::print("{}\n", version.what());
    return finish();
  } catch (const CLI::ParseError& error) {
    const Subcommand* subcommand = chosen(subcommands);
    return complain(
        fmt::format("{} (see {} --help)", explain(app, subcommand ? *subcommand->app : app, error),
                    full_name(subcommand ? *subcommand->app : app)),
        bad_usage);
  } catch (const UsageError& error) {
    return complain(error.what(), bad_usage);
  } catch (const std::bad_alloc&) {
    return complain("out of memory", failed);
  } catch (const std::exception& error) {
    return complain(error.what(), failed);
  }
}

}  // namespace banach::cli
