#pragma once

#include <apps/cli/run.hpp>

namespace banach::lm {

/// `banach lm eval`: how good a checkpoint is, at one tolerance or several.
cli::Subcommand add_eval(CLI::App& lm);
/// `banach lm sample`: text by it.
cli::Subcommand add_sample(CLI::App& lm);

}  // namespace banach::lm
