#include <bench/table/floors.hpp>
#include <bench/table/problems.hpp>

#include <cblas.h>

#include <cstring>
#include <memory>

namespace bench {
namespace {

struct Buffers {
  Gemm size;
  Floats a, b, c;
  explicit Buffers(const Gemm& gemm)
      : size(gemm),
        a(normal(gemm.m * gemm.k, 1.0, 1)),
        b(normal(gemm.k * gemm.n, 1.0, 2)),
        c(static_cast<std::size_t>(gemm.m * gemm.n)) {}

  void run() {
    const auto m = static_cast<int>(size.m), n = static_cast<int>(size.n), k = static_cast<int>(size.k);
    for (std::int64_t i = 0; i < size.times; ++i)
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1.0f, a.data(), k, b.data(), n, 0.0f,
                  c.data(), n);
  }
};

}  // namespace

Make gemm_floor(std::vector<Gemm> gemms) {
  return [gemms = std::move(gemms)] {
    const auto buffers = std::make_shared<std::vector<Buffers>>(gemms.begin(), gemms.end());
    return Work{[=] {
      for (Buffers& b : *buffers) b.run();
    }};
  };
}

Make stream_floor(std::int64_t floats, double per) {
  return [=] {
    const auto from = std::make_shared<Floats>(normal(floats, 1.0, 1));
    const auto to = std::make_shared<Floats>(*from);
    return Work{.run = [=] { std::memcpy(to->data(), from->data(), from->size() * sizeof(float)); },
                .per = per};
  };
}

}  // namespace bench
