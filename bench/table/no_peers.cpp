// Compiled where LibTorch is not.
#include <bench/table/table.hpp>

namespace bench {
Peers torch_peers() { return {}; }
}  // namespace bench
