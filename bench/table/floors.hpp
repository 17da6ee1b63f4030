#pragma once
// What a line costs at the least: its products by OpenBLAS on one core, or its bytes copied once.

#include <bench/table/table.hpp>

#include <vector>

namespace bench {

/// (m, k) x (k, n), f32, so many times.
struct Gemm {
  std::int64_t m, n, k;
  std::int64_t times = 1;
};

Make gemm_floor(std::vector<Gemm> gemms);
/// A copy of so many floats. `per` as in Work.
Make stream_floor(std::int64_t floats, double per = 1.0);

}  // namespace bench
