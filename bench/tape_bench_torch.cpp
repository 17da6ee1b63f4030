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

BENCHMARK_CAPTURE(chain, add_16_floats_x1000 / torch,
                  [](const torch::Tensor& y, const torch::Tensor& x) { return y + x; });
BENCHMARK_CAPTURE(chain, tanh_16_floats_x1000 / torch,
                  [](const torch::Tensor& y, const torch::Tensor&) { return torch::tanh(y); });
BENCHMARK_CAPTURE(chain, mul_scalar_16_floats_x1000 / torch,
                  [](const torch::Tensor& y, const torch::Tensor&) { return y * 1.01; });
BENCHMARK(forward_only)->Name("unrecorded/tanh_16_floats_x1000/torch");

}  // namespace
