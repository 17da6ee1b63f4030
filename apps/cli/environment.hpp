#pragma once

#include <apps/cli/run_notes.hpp>

namespace banach::cli {

/// Version, processor, threads and date.
Entries environment();

}  // namespace banach::cli
