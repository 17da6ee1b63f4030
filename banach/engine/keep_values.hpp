#pragma once
// Internal: recordings for replays of functions that differentiate.

namespace banach {

/// While alive, tapes for replays that this thread makes keep what vjps look at, as any other tape does. By
/// default they keep constants only.
class KeepValues {
 public:
  KeepValues();
  ~KeepValues();
  KeepValues(const KeepValues&) = delete;
  KeepValues& operator=(const KeepValues&) = delete;
};

}  // namespace banach
