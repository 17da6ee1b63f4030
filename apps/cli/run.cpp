#include <apps/cli/run.hpp>
#include <apps/cli/usage.hpp>

#include <algorithm>
#include <cstdio>
#include <new>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

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

const Subcommand* chosen(const std::vector<Subcommand>& subcommands) {
  const auto found = std::find_if(subcommands.begin(), subcommands.end(),
                                  [](const Subcommand& s) { return s.app->parsed(); });
  return found == subcommands.end() ? nullptr : &*found;
}

void check_name(const std::vector<Subcommand>& subcommands, const std::string& name) {
  std::string known;
  for (const Subcommand& s : subcommands) {
    if (s.app->get_name() == name) return;
    known += (known.empty() ? "" : ", ") + s.app->get_name();
  }
  throw UsageError(fmt::format("unknown subcommand '{}' (there is: {}; see banach --help)", name, known));
}

}  // namespace

void note(const std::string& line) {
  std::fputs(("banach: " + line + "\n").c_str(), stderr);  // fmt::print throws where stderr is closed
}

int run(CLI::App& app, const std::vector<Subcommand>& subcommands, int argc, char** argv) {
  try {
    if (argc > 1 && argv[1][0] != '-') check_name(subcommands, argv[1]);
    if (argc > 2 && argv[2][0] != '-' && argv[1][0] != '-')  // CLI11 would take the subcommand's name twice
      throw UsageError(fmt::format("unexpected argument '{}' (see banach {} --help)", argv[2], argv[1]));
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
        fmt::format("{} (see banach{} --help)", explain(app, subcommand ? *subcommand->app : app, error),
                    subcommand ? " " + subcommand->app->get_name() : ""),
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
