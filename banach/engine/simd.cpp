#include <banach/engine/simd.hpp>

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace banach::simd {

// Defined in the sources built per instruction set; constant data, safe to link on any processor.
namespace detail {
extern const Kernels<float> sse2_float, avx2_float, avx512_float;
extern const Kernels<double> sse2_double, avx2_double, avx512_double;
}  // namespace detail

namespace {

struct Tables {
  Isa isa;
  const Kernels<float>* f32;
  const Kernels<double>* f64;
};

constexpr Tables all_tables[] = {
    {Isa::sse2, &detail::sse2_float, &detail::sse2_double},
    {Isa::avx2, &detail::avx2_float, &detail::avx2_double},
    {Isa::avx512, &detail::avx512_float, &detail::avx512_double},
};

/// Null until first used: no dependence on the order in which static objects are built.
constinit std::atomic<const Tables*> current = nullptr;

Isa initial() {
  const char* wish = std::getenv("BANACH_ISA");
  if (wish != nullptr)
    for (const Isa isa : {Isa::sse2, Isa::avx2, Isa::avx512})
      if (name(isa) == wish && isa < best()) return isa;
  return best();
}

const Tables& tables() {
  const Tables* found = current.load(std::memory_order_acquire);
  if (found == nullptr) {
    const Tables* chosen = &all_tables[static_cast<int>(initial())];
    // If another thread has chosen in the meantime, its choice stands.
    found = current.compare_exchange_strong(found, chosen) ? chosen : found;
  }
  return *found;
}

}  // namespace

bool supported(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();  // may run before the constructors that would do it
  switch (isa) {
    case Isa::sse2:
      return true;
    // Every feature that the compiler may use under the flags of the source file.
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("popcnt");
    case Isa::avx512:
      return supported(Isa::avx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
#endif
  return isa == Isa::sse2;
}

Isa best() {
  static const Isa found = supported(Isa::avx512) ? Isa::avx512
                           : supported(Isa::avx2) ? Isa::avx2
                                                  : Isa::sse2;
  return found;
}

Isa active() { return tables().isa; }

void select(Isa isa) {
  if (!supported(isa))
    throw std::invalid_argument("[simd] this processor must have the instruction set: " +
                                std::string(name(isa)));
  current.store(&all_tables[static_cast<int>(isa)], std::memory_order_release);
}

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::sse2:
      return "sse2";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
  }
  return "unknown";
}

template <>
const Kernels<float>& kernels<float>() {
  return *tables().f32;
}

template <>
const Kernels<double>& kernels<double>() {
  return *tables().f64;
}

}  // namespace banach::simd
