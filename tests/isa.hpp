#pragma once

#include <banach/engine/simd.hpp>

namespace banach::test {

/// Restores the instruction set at the end of a test.
struct KeepIsa {
  simd::Isa isa = simd::active();
  ~KeepIsa() { simd::select(isa); }
};

}  // namespace banach::test
