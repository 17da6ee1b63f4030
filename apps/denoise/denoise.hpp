#pragma once

#include <apps/cli/run.hpp>

namespace banach::denoise {

/// Declares `banach denoise`.
cli::Subcommand add_denoise(CLI::App& app);

}  // namespace banach::denoise
