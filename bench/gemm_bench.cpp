// C (m x n) = A (m x k) B on one thread, k = n: B packed once against OpenBLAS, which packs it at every call.
// Counter: 1e9 floating-point operations a second.
#include <banach/engine/packed.hpp>

#include <benchmark/benchmark.h>
#include <cblas.h>

#include <cstdint>
#include <string>
#include <vector>

namespace {

using benchmark::State;

template <class T>
struct Case {
  std::int64_t m, n;
  std::vector<T> a = std::vector<T>(static_cast<std::size_t>(m * n), T(0.5));
  std::vector<T> b = std::vector<T>(static_cast<std::size_t>(n * n), T(0.25));
  std::vector<T> c = std::vector<T>(static_cast<std::size_t>(m * n));

  void count(State& state) const {
    state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * static_cast<double>(m * n * n),
                                                   benchmark::Counter::kIsIterationInvariantRate);
  }
};

template <class T>
void packed(State& state, std::int64_t m, std::int64_t n) {
  Case<T> data{m, n};
  const banach::PackedMatrix<T> b(true, n, n, data.b.data(), n);
  for (auto _ : state) {
    b.multiply(m, data.a.data(), n, data.c.data(), n);
    benchmark::ClobberMemory();
  }
  data.count(state);
}

void openblas_gemm(int m, int n, const float* a, const float* b, float* c) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, n, 1, a, n, b, n, 0, c, n);
}
void openblas_gemm(int m, int n, const double* a, const double* b, double* c) {
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, n, 1, a, n, b, n, 0, c, n);
}

template <class T>
void openblas(State& state, std::int64_t m, std::int64_t n) {
  Case<T> data{m, n};
  for (auto _ : state) {
    openblas_gemm(static_cast<int>(m), static_cast<int>(n), data.a.data(), data.b.data(), data.c.data());
    benchmark::ClobberMemory();
  }
  data.count(state);
}

/// What packing costs, to compare with one product.
template <class T>
void packing(State& state, bool transpose, std::int64_t n) {
  Case<T> data{1, n};
  for (auto _ : state) benchmark::DoNotOptimize(banach::PackedMatrix<T>(transpose, n, n, data.b.data(), n));
}

template <class T>
void register_cases(const std::string& type) {
  using benchmark::RegisterBenchmark;
  for (const std::int64_t n : {64, 128, 256, 512}) {
    for (const std::int64_t m : {1, 4, 16, 32, 64, 128}) {
      const std::string name = "gemm_" + type + "/" + std::to_string(m) + "x" + std::to_string(n);
      RegisterBenchmark((name + "/banach").c_str(), [m, n](State& s) { packed<T>(s, m, n); });
      RegisterBenchmark((name + "/openblas").c_str(), [m, n](State& s) { openblas<T>(s, m, n); });
    }
    for (const bool transpose : {false, true}) {
      const std::string name = "pack_" + type + "/" + std::to_string(n) + (transpose ? "_transposed" : "");
      RegisterBenchmark((name + "/banach").c_str(),
                        [transpose, n](State& s) { packing<T>(s, transpose, n); });
    }
  }
}

const bool registered = [] {
  register_cases<float>("f32");
  register_cases<double>("f64");
  return true;
}();

}  // namespace
