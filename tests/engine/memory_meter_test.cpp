#include <banach/engine/memory_meter.hpp>
#include <banach/engine/tensor.hpp>

#include <catch2/catch.hpp>

#include <vector>

using namespace banach;

TEST_CASE("A memory meter sees what is in use and the most that was, above its start", "[memory]") {
  const Tensor before = Tensor::zeros({1 << 20});
  const memory::Meter meter;
  CHECK(meter.live_bytes() == 0);
  CHECK(meter.peak_bytes() == 0);
  constexpr std::int64_t bytes = 4 << 18;
  const Tensor kept = Tensor::zeros({1 << 18});
  CHECK(meter.live_bytes() >= bytes);
  CHECK(meter.live_bytes() < bytes + bytes / 4 + 4096);
  const std::int64_t live = meter.live_bytes();
  { const Tensor passing = Tensor::zeros({1 << 18}), another = Tensor::zeros({1 << 18}); }
  CHECK(meter.live_bytes() == live);
  CHECK(meter.peak_bytes() == 3 * live);
}

TEST_CASE("A younger meter begins anew", "[memory]") {
  const memory::Meter older;
  { const Tensor passing = Tensor::zeros({1 << 18}); }
  const memory::Meter younger;
  CHECK(younger.peak_bytes() == 0);
}

TEST_CASE("The process has had memory", "[memory]") {
  const std::int64_t before = memory::peak_resident_bytes();
  CHECK(before > 1 << 20);
  std::vector<char> block(std::size_t{64} << 20, 1);  // touched, so that it is in RAM
  CHECK(memory::peak_resident_bytes() >= before);
  CHECK(memory::peak_resident_bytes() >= std::int64_t{64} << 20);
  CHECK(block.back() == 1);
}
