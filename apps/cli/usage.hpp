#pragma once

#include <string>

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace banach::cli {

/// Why a command line cannot be obeyed, in one line; `command` is the subcommand in use, or `app` itself. A
/// misspelt option gets the name that was probably meant.
std::string explain(const CLI::App& app, const CLI::App& command, const CLI::ParseError& error);

/// The help of the command in use, without the doubled blank lines between groups of options.
std::string help(const CLI::App& app);

}  // namespace banach::cli
