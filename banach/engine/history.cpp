#include <banach/engine/history.hpp>

#include <banach/engine/simd.hpp>

#include <cstddef>

namespace banach::simd {

template <>
const HistoryKernels<float>& history<float>() {
  using namespace detail;
  static constexpr const HistoryKernels<float>* all[] = {&sse2_history_float, &avx2_history_float,
                                                         &avx512_history_float};
  return *all[static_cast<std::size_t>(active())];
}

template <>
const HistoryKernels<double>& history<double>() {
  using namespace detail;
  static constexpr const HistoryKernels<double>* all[] = {&sse2_history_double, &avx2_history_double,
                                                          &avx512_history_double};
  return *all[static_cast<std::size_t>(active())];
}

}  // namespace banach::simd
