// The kernels for SSE2. xsimd goes into a namespace of its own per instruction set: its inline functions are
// weak symbols, some of them shared by architectures, and the linker keeps only one copy of each.
#define xsimd banach_xsimd_sse2
#include <xsimd/xsimd.hpp>

#include <banach/engine/history_kernels.hpp>
#include <banach/engine/packed_kernels.hpp>
#include <banach/engine/simd_kernels.hpp>

namespace banach::simd::detail {

constinit const Kernels<float> sse2_float = table<float, xsimd::sse2>();
constinit const Kernels<double> sse2_double = table<double, xsimd::sse2>();

constinit const PanelProduct<float> sse2_product_float = products_of<float, xsimd::sse2>();
constinit const PanelProduct<double> sse2_product_double = products_of<double, xsimd::sse2>();

constinit const HistoryKernels<float> sse2_history_float = history_of<float, xsimd::sse2>();
constinit const HistoryKernels<double> sse2_history_double = history_of<double, xsimd::sse2>();

}  // namespace banach::simd::detail
