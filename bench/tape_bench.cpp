// What recording costs: one small operation, chained, forward and backward. Time is for one operation.
#include <banach/banach.hpp>

#include <benchmark/benchmark.h>

namespace {

using namespace banach;

constexpr int links = 1000;

template <class Link>
void chain(benchmark::State& state, Link link) {
  const Tensor start = Tensor::full({16}, 0.5);
  for (auto _ : state) {
    Tape tape;
    const Var x = leaf(start);
    Var y = x;
    for (int i = 0; i < links; ++i) y = link(y, x);
    benchmark::DoNotOptimize(grad(y, {x}, {.cotangent = x.detach()}));
  }
  state.SetItemsProcessed(state.iterations() * links);
}

void forward_only(benchmark::State& state) {
  const Tensor start = Tensor::full({16}, 0.5);
  for (auto _ : state) {
    Var y(start);
    for (int i = 0; i < links; ++i) y = tanh(y);
    benchmark::DoNotOptimize(y);
  }
  state.SetItemsProcessed(state.iterations() * links);
}

const bool registered = [] {
  using benchmark::RegisterBenchmark, benchmark::State;
  RegisterBenchmark("chain_add_16_floats_x1000/banach",
                    [](State& s) { chain(s, [](const Var& y, const Var& x) { return y + x; }); });
  RegisterBenchmark("chain_tanh_16_floats_x1000/banach",
                    [](State& s) { chain(s, [](const Var& y, const Var&) { return tanh(y); }); });
  RegisterBenchmark("chain_scale_16_floats_x1000/banach",
                    [](State& s) { chain(s, [](const Var& y, const Var&) { return y * 1.01; }); });
  RegisterBenchmark("unrecorded_tanh_16_floats_x1000/banach", forward_only);
  return true;
}();

}  // namespace
