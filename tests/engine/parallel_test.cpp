#include <banach/engine/error.hpp>
#include <banach/engine/parallel.hpp>
#include <tests/threads.hpp>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using banach::FunctionRef;
using banach::parallel_for;
using banach::set_threads;

namespace {

using Pieces = std::set<std::pair<std::int64_t, std::int64_t>>;

Pieces pieces_of(std::int64_t count, std::int64_t grain) {
  Pieces pieces;
  std::mutex mutex;
  parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::lock_guard lock(mutex);
    REQUIRE(pieces.emplace(begin, end).second);
  });
  return pieces;
}

}  // namespace

TEST_CASE("parallel_for cuts the same pieces for any number of threads", "[parallel]") {
  const banach::test::KeepThreads keep;
  for (const int n : {1, 2, 5}) {
    set_threads(n);
    CHECK(banach::threads() == n);
    CHECK(pieces_of(0, 4).empty());
    CHECK(pieces_of(3, 4) == Pieces{{0, 3}});
    CHECK(pieces_of(4, 4) == Pieces{{0, 4}});
    CHECK(pieces_of(10, 4) == Pieces{{0, 4}, {4, 8}, {8, 10}});
    CHECK(pieces_of(1000, 1).size() == 1000);
    // Counts near the largest integer must not overflow.
    const std::int64_t most = INT64_MAX;
    CHECK(pieces_of(most, most - 1) == Pieces{{0, most - 1}, {most - 1, most}});
  }
}

TEST_CASE("the sum of pieces has the same bits for any number of threads", "[parallel]") {
  const banach::test::KeepThreads keep;
  std::vector<float> x(100003);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  const auto sum = [&] {
    const std::int64_t count = static_cast<std::int64_t>(x.size()), grain = 1000;
    std::vector<float> partial(static_cast<std::size_t>((count + grain - 1) / grain));
    parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
      partial[static_cast<std::size_t>(begin / grain)] =
          std::accumulate(x.begin() + begin, x.begin() + end, 0.0f);
    });
    return std::accumulate(partial.begin(), partial.end(), 0.0f);
  };
  set_threads(1);
  const float expected = sum();
  for (const int n : {2, 3, 8}) {
    set_threads(n);
    for (int repeat = 0; repeat < 20; ++repeat) REQUIRE(sum() == expected);
  }
}

TEST_CASE("several threads do run at once", "[parallel]") {
  const banach::test::KeepThreads keep;
  set_threads(2);
  // Each piece waits for the other: with one thread this would never end, so give up after some seconds.
  std::atomic<int> arrived = 0;
  bool met[2] = {false, false};
  parallel_for(2, 1, [&](std::int64_t begin, std::int64_t) {
    ++arrived;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (arrived < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    met[begin] = arrived == 2;
  });
  CHECK(met[0]);
  CHECK(met[1]);
}

TEST_CASE("an exception of a piece reaches the caller", "[parallel]") {
  const banach::test::KeepThreads keep;
  for (const int n : {1, 4}) {
    set_threads(n);
    const auto run = [](std::int64_t failing) {
      parallel_for(100, 1, [=](std::int64_t begin, std::int64_t) {
        if (begin == failing) throw std::out_of_range("piece " + std::to_string(begin));
      });
    };
    CHECK_THROWS_WITH(run(37), "piece 37");
    CHECK_THROWS_AS(run(0), std::out_of_range);
    CHECK_NOTHROW(run(100));  // and loops work afterwards
  }
}

TEST_CASE("loops may be nested", "[parallel]") {
  const banach::test::KeepThreads keep;
  for (const int n : {1, 2, 4}) {
    set_threads(n);
    std::vector<std::atomic<int>> hits(40 * 50);
    parallel_for(40, 1, [&](std::int64_t row, std::int64_t) {
      parallel_for(50, 3, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t j = begin; j < end; ++j) ++hits[static_cast<std::size_t>(row * 50 + j)];
      });
    });
    CHECK(std::all_of(hits.begin(), hits.end(), [](const auto& hit) { return hit == 1; }));
    CHECK_THROWS_AS(parallel_for(4, 1,
                                 [&](std::int64_t, std::int64_t) {
                                   parallel_for(4, 1, [](std::int64_t begin, std::int64_t) {
                                     if (begin == 2) throw std::runtime_error("inner");
                                   });
                                 }),
                    std::runtime_error);
  }
}

TEST_CASE("a waiting thread takes up no piece of the outer loop", "[parallel]") {
  // What a tape in a thread-local variable relies on: between the start and the end of a piece, its thread
  // runs no other piece of the outer loop.
  const banach::test::KeepThreads keep;
  set_threads(4);
  static thread_local std::int64_t current = -1;
  std::atomic<int> intrusions = 0;
  parallel_for(64, 1, [&](std::int64_t begin, std::int64_t) {
    if (current != -1) ++intrusions;
    current = begin;
    parallel_for(16, 1, [&](std::int64_t, std::int64_t) {
      volatile double x = 1;
      for (int i = 0; i < 2000; ++i) x = x * 1.0000001;
    });
    if (current != begin) ++intrusions;
    current = -1;
  });
  CHECK(intrusions == 0);
}

TEST_CASE("loops started by several threads at once stay apart", "[parallel]") {
  const banach::test::KeepThreads keep;
  set_threads(3);
  std::vector<std::thread> callers;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t)
    callers.emplace_back([&wrong] {
      for (int repeat = 0; repeat < 50; ++repeat) {
        std::atomic<std::int64_t> total = 0;
        parallel_for(1000, 7, [&](std::int64_t begin, std::int64_t end) { total += end - begin; });
        if (total != 1000) ++wrong;
      }
    });
  for (auto& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST_CASE("loops under SerialLoops run in order on their thread, and only there", "[parallel]") {
  const banach::test::KeepThreads keep;
  set_threads(4);
  const auto self = std::this_thread::get_id();
  std::vector<std::int64_t> order;
  {
    const banach::SerialLoops serial;
    { const banach::SerialLoops inner; }
    parallel_for(50, 3, [&](std::int64_t begin, std::int64_t) {
      REQUIRE(std::this_thread::get_id() == self);
      order.push_back(begin);
    });
  }
  CHECK(order.size() == 17);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("numbers of threads and loops outside the domain are refused", "[parallel]") {
  const banach::test::KeepThreads keep;
  const auto nothing = [](std::int64_t, std::int64_t) {};
  CHECK_THROWS_AS(set_threads(-1), banach::ValueError);
  CHECK_THROWS_AS(parallel_for(-1, 1, nothing), banach::ValueError);
  CHECK_THROWS_AS(parallel_for(1, 0, nothing), banach::ValueError);
  set_threads(0);
  CHECK(banach::threads() >= 1);
}

TEST_CASE("FunctionRef calls what it refers to", "[parallel]") {
  int calls = 0;
  auto counter = [&calls](int by) { return calls += by; };
  const FunctionRef<int(int)> ref = counter;
  CHECK(ref(2) == 2);
  CHECK(FunctionRef<int(int)>(ref)(3) == 5);
  const auto constant = [](int) { return 7; };
  CHECK(FunctionRef<int(int)>(constant)(0) == 7);
}
