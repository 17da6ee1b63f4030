#pragma once
// Internal: numbers for right-hand sides that only a regular system can take.

#include <cstdint>

namespace banach::qp {
namespace {

/// Between 1/4 and 5/4, without any structure.
inline double irregular(std::int64_t i) {
  const double phase = static_cast<double>(i) * 0.754877666;
  return 0.25 + phase - static_cast<double>(static_cast<std::int64_t>(phase));
}

}  // namespace
}  // namespace banach::qp
