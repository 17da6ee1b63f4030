#pragma once
// Timing: everything that a line compares runs in turn, so that a busy moment of the machine hits all of it;
// the turns of one line are spread over the time of all, so that a busy second hits few of them. Ratios are
// medians of the ratios of one turn.

#include <bench/table/table.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace bench {

struct Effort {
  double seconds = 2.5;       ///< for a line, roughly
  int fewest = 3, most = 25;  ///< turns; with one at most nothing is warmed up, and times mean nothing
};

/// Seconds for one unit of work; empty where there is nothing to measure.
using Seconds = std::optional<double>;

struct Result {
  Seconds floor;                   ///< by one thread
  Seconds ours[2], peer[2];        ///< by one thread and by two
  Seconds ours_to_peer[2];         ///< medians of ratios
  Seconds ours_to_floor, speedup;  ///< speedup: ours by one thread / by two
  Counts counts, peer_counts;
  std::int64_t bytes = 0;       ///< the most that ours held at once in the pool, above what it began with
  std::int64_t peer_bytes = 0;  ///< and the peer, by its own count; 0: not measured
  int turns = 0;
};

std::vector<Result> measure(const std::vector<Line>& lines, const Peers& peers, const Effort& effort);

}  // namespace bench
