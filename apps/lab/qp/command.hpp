#pragma once

#include <apps/cli/run.hpp>

namespace banach::lab::qp {

/// `banach lab qp`.
cli::Subcommand add_qp(CLI::App& lab);

}  // namespace banach::lab::qp
