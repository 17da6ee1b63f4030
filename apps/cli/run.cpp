#include <apps/cli/run.hpp>

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
  fmt::print(stderr, "banach: {}\n", line);
  return code;
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
  throw UsageError(fmt::format("unknown subcommand '{}' (there is: {})", name, known));
}

}  // namespace

int run(CLI::App& app, const std::vector<Subcommand>& subcommands, int argc, char** argv) {
  try {
    if (argc > 1 && argv[1][0] != '-') check_name(subcommands, argv[1]);
    app.parse(argc, argv);
    const Subcommand* subcommand = chosen(subcommands);
    if (!subcommand) {
      fmt::print("{}", app.help());
      return done;
    }
    subcommand->job();
    return done;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    const Subcommand* subcommand = chosen(subcommands);
    const std::string name = subcommand ? " " + subcommand->app->get_name() : "";
    return complain(fmt::format("{} (see banach{} --help)", error.what(), name), bad_usage);
  } catch (const UsageError& error) {
    return complain(error.what(), bad_usage);
  } catch (const std::bad_alloc&) {
    return complain("out of memory", failed);
  } catch (const std::exception& error) {
    return complain(error.what(), failed);
  }
}

}  // namespace banach::cli
