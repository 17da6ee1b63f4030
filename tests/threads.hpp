#pragma once
// Work in parallel gives the same bits with any number of threads.

#include <banach/engine/parallel.hpp>
#include <tests/tensors.hpp>

namespace banach::test {

/// Gives the number of threads back at the end of its scope.
struct KeepThreads {
  int count = threads();
  ~KeepThreads() { set_threads(count); }
};

/// Runs `results`, a function that returns Vars, with one thread, with two and with five; returns those of
/// one.
template <class Results>
Vars check_threads(Results results) {
  const KeepThreads keep;
  set_threads(1);
  const Vars one = results();
  for (const int threads : {2, 5}) {
    set_threads(threads);
    const Vars many = results();
    REQUIRE(many.size() == one.size());
    for (std::size_t i = 0; i < one.size(); ++i) {
      INFO("result " << i << " with " << threads << " threads");
      CHECK(same_bits(many[i], one[i]));
    }
  }
  return one;
}

}  // namespace banach::test
