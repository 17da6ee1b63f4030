// The transforms of winograd_transforms.hpp for one instruction set, see banach/engine/simd_sse2.cpp.
#define xsimd banach_xsimd_sse2
#include <xsimd/xsimd.hpp>

#include <banach/ops/winograd_kernels.hpp>

namespace banach::simd::detail {

constinit const WinogradTransforms sse2_winograd = winograd_of<xsimd::sse2>();

}  // namespace banach::simd::detail
