// The kernels for AVX-512 (F, BW, CD, DQ, VL). xsimd goes into a namespace of its own per instruction set:
// its inline functions are weak symbols, some of them shared by architectures, and the linker keeps only one
// copy of each.

#if defined(__GNUC__) && !defined(__clang__)
// False alarms from the compiler's own intrinsics: https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define xsimd banach_xsimd_avx512
#include <xsimd/xsimd.hpp>

#include <banach/engine/history_kernels.hpp>
#include <banach/engine/packed_kernels.hpp>
#include <banach/engine/simd_kernels.hpp>

namespace banach::simd::detail {

constinit const Kernels<float> avx512_float = table<float, xsimd::avx512bw>();
constinit const Kernels<double> avx512_double = table<double, xsimd::avx512bw>();

constinit const PanelProduct<float> avx512_product_float = products_of<float, xsimd::avx512bw>();
constinit const PanelProduct<double> avx512_product_double = products_of<double, xsimd::avx512bw>();

constinit const HistoryKernels<float> avx512_history_float = history_of<float, xsimd::avx512bw>();
constinit const HistoryKernels<double> avx512_history_double = history_of<double, xsimd::avx512bw>();

}  // namespace banach::simd::detail
