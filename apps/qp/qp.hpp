#pragma once

#include <apps/cli/run.hpp>

namespace banach::qp_command {

/// Adds `banach qp FILE`: solves the quadratic programs of a file.
cli::Subcommand add_qp(CLI::App& app);

}  // namespace banach::qp_command
