// The cases of tape_bench.cpp in LibTorch.
#include <benchmark/benchmark.h>
#include <torch/torch.h>

namespace {

constexpr int links = 1000;
const bool one_thread = [] {
  torch::set_num_threads(1);
  return true;
}();

template <class Link>
void chain(benchmark::State& state, Link link) {
  for (auto _ : state) {
    const torch::Tensor x = torch::full({16}, 0.5, torch::requires_grad());
    torch::Tensor y = x;
    for (int i = 0; i < links; ++i) y = link(y, x);
    benchmark::DoNotOptimize(torch::autograd::grad({y}, {x}, {torch::full({16}, 0.5)}));
  }
  state.SetItemsProcessed(state.iterations() * links);
}

void forward_only(benchmark::State& state) {
  const torch::NoGradGuard off;
  for (auto _ : state) {
    torch::Tensor y = torch::full({16}, 0.5);
    for (int i = 0; i < links; ++i) y = torch::tanh(y);
    benchmark::DoNotOptimize(y);
  }
  state.SetItemsProcessed(state.iterations() * links);
}

const bool registered = [] {
  using benchmark::RegisterBenchmark, benchmark::State, torch::Tensor;
  RegisterBenchmark("chain_add_16_floats_x1000/torch",
                    [](State& s) { chain(s, [](const Tensor& y, const Tensor& x) { return y + x; }); });
  RegisterBenchmark("chain_tanh_16_floats_x1000/torch", [](State& s) {
    chain(s, [](const Tensor& y, const Tensor&) { return torch::tanh(y); });
  });
  RegisterBenchmark("chain_scale_16_floats_x1000/torch",
                    [](State& s) { chain(s, [](const Tensor& y, const Tensor&) { return y * 1.01; }); });
  RegisterBenchmark("unrecorded_tanh_16_floats_x1000/torch", forward_only);
  return true;
}();

}  // namespace
