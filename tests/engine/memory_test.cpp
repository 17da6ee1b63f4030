#include <banach/engine/memory.hpp>
#include <banach/engine/slab.hpp>
#include <banach/engine/tensor.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

using namespace banach;

TEST_CASE("the pool hands a released block out again", "[memory]") {
  void* first = memory::allocate(3000);
  memory::release(first, 3000);
  void* second = memory::allocate(2900);
  CHECK(first == second);
  memory::release(second, 2900);
}

TEST_CASE("blocks are aligned and large enough for every size", "[memory]") {
  for (std::size_t bytes = 0; bytes < 70000; bytes += 1 + bytes / 7) {
    auto* block = static_cast<unsigned char*>(memory::allocate(bytes));
    CHECK(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
    for (std::size_t i = 0; i < bytes; ++i)
      block[i] = static_cast<unsigned char>(i);  // the sanitizer watches
    memory::release(block, bytes);
  }
  // Around the size from which on huge pages are asked for.
  for (const std::size_t bytes : {(1U << 21) - 1, 1U << 21, (1U << 21) + 1, 5U << 20}) {
    auto* block = static_cast<unsigned char*>(memory::allocate(bytes));
    CHECK(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
    std::fill_n(block, bytes, static_cast<unsigned char>(1));
    memory::release(block, bytes);
  }
}

TEST_CASE("live and peak bytes are counted", "[memory]") {
  const memory::Stats before = memory::stats();
  memory::reset_peak();
  {
    const Tensor a = Tensor::zeros({1 << 18}, DType::f32);
    CHECK(memory::stats().live_bytes - before.live_bytes >= 1 << 20);
  }
  CHECK(memory::stats().live_bytes == before.live_bytes);
  CHECK(memory::stats().peak_bytes - before.live_bytes >= 1 << 20);
  memory::reset_peak();
  CHECK(memory::stats().peak_bytes == before.live_bytes);
}

TEST_CASE("blocks of other threads are counted, wherever they are released", "[memory]") {
  const std::int64_t before = memory::stats().live_bytes;
  memory::reset_peak();
  std::vector<void*> blocks(3000);
  std::thread([&] {
    for (void*& block : blocks) block = memory::allocate(128);
    CHECK(memory::stats().live_bytes - before == 3000 * 128);
  }).join();
  CHECK(memory::stats().live_bytes - before == 3000 * 128);
  for (void* block : blocks) memory::release(block, 128);
  CHECK(memory::stats().live_bytes == before);
  CHECK(memory::stats().peak_bytes - before == 3000 * 128);
}

TEST_CASE("more blocks than a thread keeps come back", "[memory]") {
  std::vector<void*> blocks(20000);
  const auto round = [&] {
    for (void*& block : blocks) block = memory::allocate(100);
    std::sort(blocks.begin(), blocks.end());
    CHECK(std::adjacent_find(blocks.begin(), blocks.end()) == blocks.end());
    for (void* block : blocks) memory::release(block, 100);
  };
  round();
  const auto before = memory::stats().system_allocations;
  round();
  std::thread(round).join();
  // What this thread keeps for itself, the other one must ask for.
  CHECK(memory::stats().system_allocations - before <= (1 << 18) / 128 + 1);
  round();
}

TEST_CASE("a steady loop asks the system for nothing", "[memory]") {
  const auto round = [] {
    Tensors keep;
    for (std::int64_t n = 1; n < 100000; n *= 3) keep.push_back(Tensor::zeros({n}, DType::f64));
  };
  round();
  const auto before = memory::stats().system_allocations;
  for (int i = 0; i < 100; ++i) round();
  CHECK(memory::stats().system_allocations == before);
}

TEST_CASE("an impossible size is an exception, not a crash", "[memory]") {
  CHECK_THROWS_AS(memory::allocate(~std::size_t{0} >> 1), std::bad_alloc);
}

TEST_CASE("a slab keeps its elements in place and destroys each once", "[slab]") {
  auto counter = std::make_shared<int>(0);
  {
    Slab<std::shared_ptr<int>> slab;
    const std::shared_ptr<int>* first = &slab.push_back(counter);
    for (int i = 0; i < 5000; ++i) slab.push_back(counter);
    CHECK(first == &slab[0]);
    CHECK(slab[4999] == counter);
    CHECK(counter.use_count() == 5002);
    Slab<std::shared_ptr<int>> moved = std::move(slab);
    CHECK(moved.size() == 5001);
    CHECK(slab.size() == 0);  // NOLINT: moved from on purpose
  }
  CHECK(counter.use_count() == 1);
}

TEST_CASE("a slab's runs are contiguous, also longer than a chunk", "[slab]") {
  Slab<int> slab;
  for (const std::size_t n : {3, 200, 100, 5000, 1}) {
    int* run = slab.extend(n);
    for (std::size_t i = 0; i < n; ++i) CHECK(run[i] == 0);
    run[n - 1] = 1;
  }
}

TEST_CASE("trimmed blocks are the system's again", "[memory]") {
  const std::size_t bytes = 3 << 20;
  const auto asks = [&] {
    const auto before = memory::stats().system_allocations;
    memory::release(memory::allocate(bytes), bytes);
    return memory::stats().system_allocations - before;
  };
  asks();
  CHECK(asks() == 0);
  memory::trim();
  CHECK(asks() == 1);
  CHECK(asks() == 0);
}
