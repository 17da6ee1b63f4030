#pragma once
// Internal: how loops run now, for kernels whose results do not depend on how they cut their work.

namespace banach {

/// Whether loops of this thread run on it alone: inside SerialLoops, or where there is one thread only.
bool loops_are_serial();

}  // namespace banach
