#pragma once

#include <apps/lab/options.hpp>

namespace banach::lab {

/// Version, processor, threads and date.
Entries environment();

}  // namespace banach::lab
