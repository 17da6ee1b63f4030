#pragma once

#include <apps/cli/run.hpp>

namespace banach::copy_task {

/// Adds `banach copy`: models that are to remember symbols over a long delay.
cli::Subcommand add_copy(CLI::App& app);

}  // namespace banach::copy_task
