#include <banach/engine/memory_meter.hpp>

#include <sys/resource.h>

namespace banach::memory {

Meter::Meter() {
  reset_peak();
  start_ = stats().live_bytes;
}

std::int64_t Meter::live_bytes() const { return stats().live_bytes - start_; }
std::int64_t Meter::peak_bytes() const { return stats().peak_bytes - start_; }

std::int64_t peak_resident_bytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return std::int64_t{usage.ru_maxrss} * 1024;  // Linux counts in KiB
}

}  // namespace banach::memory
