#pragma once

#include <apps/cli/run.hpp>

namespace banach::flow {

/// Adds `banach flow`: train, sample, density, reconstruct, classify.
cli::Subcommand add_flow(CLI::App& app);

}  // namespace banach::flow
