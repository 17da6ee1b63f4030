// The transforms of winograd_transforms.hpp for one instruction set, see banach/engine/simd_avx512.cpp.

#if defined(__GNUC__) && !defined(__clang__)
// False alarms from the compiler's own intrinsics: https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define xsimd banach_xsimd_avx512
#include <xsimd/xsimd.hpp>

#include <banach/ops/winograd_kernels.hpp>

namespace banach::simd::detail {

constinit const WinogradTransforms avx512_winograd = winograd_of<xsimd::avx512bw>();

}  // namespace banach::simd::detail
