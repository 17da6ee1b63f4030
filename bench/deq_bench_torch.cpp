// The Picard cases of deq_bench.cpp in LibTorch, written as its users write an equilibrium layer: iterate
// under NoGrad, one more evaluation with a graph, and the adjoint equation by Picard through that graph.
#include <bench/torch_threads.hpp>

#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include <cmath>

namespace {

using torch::Tensor;
constexpr std::int64_t d = 256, batch = 128;
constexpr double tolerance = 1e-4;

struct Layer {
  Tensor w, u;
  Layer() {
    torch::manual_seed(3);
    w = torch::randn({d, d}) * (0.8 / (2.0 * std::sqrt(static_cast<double>(d))));
    u = torch::randn({batch, d});
  }
};

Tensor f(const Tensor& z, const Tensor& w, const Tensor& u) { return torch::tanh(z.matmul(w.t()) + u); }

// The largest relative residual of the batch: every sample converges, as in the other library.
double residual(const Tensor& next, const Tensor& z) {
  return ((next - z).norm(2, 1) / (next.norm(2, 1) + 1e-30)).max().item<double>();
}

Tensor solve(const Tensor& w, const Tensor& u, int& count) {
  const torch::NoGradGuard off;
  Tensor z = torch::zeros_like(u);
  for (count = 1; count < 100; ++count) {
    const Tensor next = f(z, w, u);
    const bool done = residual(next, z) < tolerance;
    z = next;
    if (done) break;
  }
  return z;
}

void step(benchmark::State& state, bool exact) {
  const TorchThreads threads;
  const Layer layer;
  int forward = 0, adjoint = 0;
  for (auto _ : state) {
    const Tensor w = layer.w.detach().requires_grad_(), u = layer.u.detach().requires_grad_();
    const Tensor z = solve(w, u, forward).requires_grad_();
    const Tensor value = f(z, w, u), g = torch::ones_like(z);
    Tensor lambda = g;
    adjoint = 0;
    while (exact && adjoint < 100) {
      const Tensor next = torch::autograd::grad({value}, {z}, {lambda}, true)[0] + g;
      ++adjoint;
      const bool done = residual(next, lambda) < tolerance;
      lambda = next;
      if (done) break;
    }
    benchmark::DoNotOptimize(torch::autograd::grad({value}, {w, u}, {lambda}));
  }
  state.counters["f"] = forward;
  state.counters["vjp"] = adjoint + 1;
}

void forward_only(benchmark::State& state) {
  const TorchThreads threads;
  const Layer layer;
  int count = 0;
  for (auto _ : state) benchmark::DoNotOptimize(solve(layer.w, layer.u, count));
}

void product(benchmark::State& state) {
  const torch::NoGradGuard off;
  const TorchThreads threads;
  const Layer layer;
  for (auto _ : state) benchmark::DoNotOptimize(layer.u.matmul(layer.w.t()));
}

const bool registered = [] {
  using benchmark::RegisterBenchmark, benchmark::State, benchmark::kMillisecond;
  RegisterBenchmark("deq_product_with_W/torch", product)->Unit(kMillisecond);
  RegisterBenchmark("deq_step_picard_exact/torch", [](State& s) { step(s, true); })->Unit(kMillisecond);
  RegisterBenchmark("deq_step_picard_jacobian_free/torch", [](State& s) {
    step(s, false);
  })->Unit(kMillisecond);
  RegisterBenchmark("deq_forward_picard/torch", forward_only)->Unit(kMillisecond);
  return true;
}();

}  // namespace
