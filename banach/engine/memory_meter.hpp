#pragma once
// How much memory something takes, as any program can print it.

#include <banach/engine/memory.hpp>

namespace banach::memory {

/// Bytes of the pool above those in use when the meter was made: what ran since has needed. Resets the pool's
/// peak, so of two meters alive at a time only the younger one's peak means anything.
class Meter {
 public:
  Meter();
  /// In use now: with a tape alive, what it keeps.
  std::int64_t live_bytes() const;
  /// The most that was ever in use at once.
  std::int64_t peak_bytes() const;

 private:
  std::int64_t start_;
};

/// The most memory that this process has had in RAM so far, code and unused blocks of the pool included; 0
/// where the system does not tell.
std::int64_t peak_resident_bytes();

}  // namespace banach::memory
