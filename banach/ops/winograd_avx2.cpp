// The transforms of winograd_transforms.hpp for one instruction set, see banach/engine/simd_avx2.cpp.
#define xsimd banach_xsimd_avx2
#include <xsimd/xsimd.hpp>

#include <banach/ops/winograd_kernels.hpp>

namespace banach::simd::detail {

constinit const WinogradTransforms avx2_winograd = winograd_of<xsimd::fma3<xsimd::avx2>>();

}  // namespace banach::simd::detail
