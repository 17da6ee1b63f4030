#pragma once

#include <apps/cli/run.hpp>

namespace banach::lab {

/// Adds `banach lab spectrum`: the eigenvalues of df/dz at the solutions, before and after a training.
cli::Subcommand add_spectrum(CLI::App& lab);

}  // namespace banach::lab
