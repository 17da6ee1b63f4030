#pragma once

#include <apps/cli/run.hpp>

namespace banach::lm {

/// `banach lm train`: one model.
cli::Subcommand add_train(CLI::App& lm);
/// `banach lm compare`: one for each depth and seed.
cli::Subcommand add_compare(CLI::App& lm);

}  // namespace banach::lm
