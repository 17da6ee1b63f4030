#pragma once

#include <apps/cli/run.hpp>

namespace banach::lab {

/// Adds `banach lab`: an equilibrium model trained once for each backward rule, each compared with the exact
/// gradient.
cli::Subcommand add_lab(CLI::App& app);

}  // namespace banach::lab
