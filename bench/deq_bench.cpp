// One training step's worth of an equilibrium layer: z = tanh(W z + u), d 256, batch 128, f32, tolerance
// 1e-4; forward solve and the gradient in W and u, for each solver and rule.
#include <banach/banach.hpp>

#include <benchmark/benchmark.h>

#include <cmath>

namespace {

using namespace banach;

constexpr std::int64_t d = 256, batch = 128;

struct Layer {
  Tensor w, u;
  Layer() : w(Tensor::empty({d, d}, DType::f32)), u(Tensor::empty({batch, d}, DType::f32)) {
    Random random(3);
    random.fill_normal(w.mutable_data<float>(), w.size(), 0.0f,
                       0.8f / (2.0f * std::sqrt(static_cast<float>(d))));
    random.fill_normal(u.mutable_data<float>(), u.size());
  }
};

void step(benchmark::State& state, const FixedPointOptions& options) {
  const Layer layer;
  int forward = 0, adjoint = 0;
  for (auto _ : state) {
    Tape tape;
    const Var w = leaf(layer.w), u = leaf(layer.u);
    const auto solved = fixed_point(
        [&](const Var& z) { return tanh(matmul(z, w, {.transpose_b = true}) + u); }, zeros_like(u), options);
    benchmark::DoNotOptimize(grad(sum(solved.z), {w, u}));
    forward = solved.report.nstep;
    if (solved.adjoint.run()) adjoint = solved.adjoint.last().evaluations;
  }
  state.counters["f"] = forward;
  state.counters["vjp"] = adjoint;
}

void forward_only(benchmark::State& state, const FixedPointOptions& options) {
  const Layer layer;
  const Var w(layer.w), u(layer.u);
  for (auto _ : state)
    benchmark::DoNotOptimize(fixed_point(
        [&](const Var& z) { return tanh(matmul(z, w, {.transpose_b = true}) + u); }, zeros_like(u), options));
}

// The arithmetic alone: what the products with W of one evaluation of f cost.
void product(benchmark::State& state) {
  const Layer layer;
  const Var w(layer.w), u(layer.u);
  for (auto _ : state) benchmark::DoNotOptimize(matmul(u, w, {.transpose_b = true}));
}

const Iterative picard{.solver = Picard{}, .tolerance = 1e-4};

BENCHMARK(product)->Name("deq/one_product_with_W/banach")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step, picard_exact / banach, {.solver = Picard{}, .backward = Implicit{picard}})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step, picard_gmres / banach,
                  {.solver = Picard{}, .backward = Implicit{Gmres{.tolerance = 1e-4}}})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step, picard_jacobian_free / banach, {.solver = Picard{}, .backward = JacobianFree{}})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step, picard_neumann_5 / banach, {.solver = Picard{}, .backward = Neumann{5}})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step, picard_phantom_5 / banach, {.solver = Picard{}, .backward = Phantom{5, 0.5}})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step, picard_unrolled / banach, {.solver = Picard{}, .backward = Unrolled{}})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step, anderson_exact / banach,
                  {.solver = Anderson{.memory = 6},
                   .backward = Implicit{Iterative{.solver = Anderson{.memory = 6}, .tolerance = 1e-4}}})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step, broyden_exact / banach,
                  {.solver = Broyden{},
                   .backward = Implicit{Iterative{.solver = Broyden{}, .tolerance = 1e-4}}})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(forward_only, picard / banach, {.solver = Picard{}})->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(forward_only, anderson / banach, {.solver = Anderson{.memory = 6}})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(forward_only, broyden / banach, {.solver = Broyden{}})->Unit(benchmark::kMillisecond);

}  // namespace
