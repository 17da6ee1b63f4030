#pragma once

#include <apps/cli/run.hpp>

namespace banach::lm {

/// `banach lm train | eval | sample | compare`.
cli::Subcommand add_lm(CLI::App& app);

}  // namespace banach::lm
