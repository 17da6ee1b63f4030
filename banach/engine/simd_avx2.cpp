// The kernels for AVX2 with FMA. xsimd goes into a namespace of its own per instruction set: its inline
// functions are weak symbols, some of them shared by architectures, and the linker keeps only one copy of
// each.
#define xsimd banach_xsimd_avx2
#include <xsimd/xsimd.hpp>

#include <banach/engine/history_kernels.hpp>
#include <banach/engine/packed_kernels.hpp>
#include <banach/engine/simd_kernels.hpp>

namespace banach::simd::detail {

constinit const Kernels<float> avx2_float = table<float, xsimd::fma3<xsimd::avx2>>();
constinit const Kernels<double> avx2_double = table<double, xsimd::fma3<xsimd::avx2>>();

constinit const PanelProduct<float> avx2_product_float = products_of<float, xsimd::fma3<xsimd::avx2>>();
constinit const PanelProduct<double> avx2_product_double = products_of<double, xsimd::fma3<xsimd::avx2>>();

constinit const HistoryKernels<float> avx2_history_float = history_of<float, xsimd::fma3<xsimd::avx2>>();
constinit const HistoryKernels<double> avx2_history_double = history_of<double, xsimd::fma3<xsimd::avx2>>();

}  // namespace banach::simd::detail
