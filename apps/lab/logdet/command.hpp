#pragma once

#include <apps/cli/run.hpp>

namespace banach::lab::logdet {

/// `banach lab logdet`.
cli::Subcommand add_logdet(CLI::App& lab);

}  // namespace banach::lab::logdet
