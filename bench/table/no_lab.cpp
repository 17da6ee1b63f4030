// Compiled where the lab is not.
#include <bench/table/table.hpp>

namespace bench {
std::vector<TrainedBody> trained_bodies(int) { return {}; }
}  // namespace bench
