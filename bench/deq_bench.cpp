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

// Little arithmetic an operation: what dispatch and allocation cost. Two layers with a norm, d 16, batch 16.
void small_step(benchmark::State& state, Body body) {
  constexpr std::int64_t n = 16;
  Random random(4);
  const auto normal = [&](const Shape& shape, float deviation) {
    Tensor x = Tensor::empty(shape, DType::f32);
    random.fill_normal(x.mutable_data<float>(), x.size(), 0.0f, deviation);
    return x;
  };
  const Tensor w1 = normal({n, n}, 0.1f), w2 = normal({n, n}, 0.1f), u = normal({n, n}, 1.0f);
  for (auto _ : state) {
    Tape tape;
    const Var a = leaf(w1), b = leaf(w2), x = leaf(u);
    const auto f = [&](const Var& z) {
      const Var hidden = silu(matmul(z, a) + x);
      return normalize(z + matmul(hidden, b)) * 0.3 + x;
    };
    const auto solved = fixed_point(f, zeros_like(x), {.solver = Picard{}, .tolerance = 1e-5, .body = body});
    benchmark::DoNotOptimize(grad(sum(solved.z), {a, b, x}));
  }
}

// The arithmetic alone: what the products with W of one evaluation of f cost.
void product(benchmark::State& state) {
  const Layer layer;
  const Var w(layer.w), u(layer.u);
  for (auto _ : state) benchmark::DoNotOptimize(matmul(u, w, {.transpose_b = true}));
}

FixedPointOptions exact(Solver solver) {
  return {.solver = solver, .backward = Implicit{Iterative{.solver = solver, .tolerance = 1e-4}}};
}

const bool registered = [] {
  const auto add = [](const char* name, void (*run)(benchmark::State&, const FixedPointOptions&),
                      const FixedPointOptions& options) {
    benchmark::RegisterBenchmark(name, [=](benchmark::State& s) {
      run(s, options);
    })->Unit(benchmark::kMillisecond);
  };
  benchmark::RegisterBenchmark("deq_product_with_W/banach", product)->Unit(benchmark::kMillisecond);
  add("deq_step_picard_exact/banach", step, exact(Picard{}));
  add("deq_step_picard_gmres/banach", step,
      {.solver = Picard{}, .backward = Implicit{Gmres{.tolerance = 1e-4}}});
  add("deq_step_picard_jacobian_free/banach", step, {.solver = Picard{}, .backward = JacobianFree{}});
  add("deq_step_picard_neumann_5/banach", step, {.solver = Picard{}, .backward = Neumann{5}});
  add("deq_step_picard_phantom_5/banach", step, {.solver = Picard{}, .backward = Phantom{5, 0.5}});
  add("deq_step_picard_unrolled/banach", step, {.solver = Picard{}, .backward = Unrolled{}});
  add("deq_step_anderson_exact/banach", step, exact(Anderson{.memory = 6}));
  add("deq_step_broyden_exact/banach", step, exact(Broyden{}));
  const auto replayed = [](FixedPointOptions options) {
    options.body = Body::replayed;
    return options;
  };
  add("deq_step_picard_exact_replayed/banach", step, replayed(exact(Picard{})));
  add("deq_step_picard_jacobian_free_replayed/banach", step,
      replayed({.solver = Picard{}, .backward = JacobianFree{}}));
  add("deq_step_picard_phantom_5_replayed/banach", step,
      replayed({.solver = Picard{}, .backward = Phantom{5, 0.5}}));
  add("deq_step_anderson_exact_replayed/banach", step, replayed(exact(Anderson{.memory = 6})));
  add("deq_step_broyden_exact_replayed/banach", step, replayed(exact(Broyden{})));
  benchmark::RegisterBenchmark("deq_small_step/banach", [](benchmark::State& s) {
    small_step(s, Body::eager);
  })->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("deq_small_step_replayed/banach", [](benchmark::State& s) {
    small_step(s, Body::replayed);
  })->Unit(benchmark::kMillisecond);
  add("deq_forward_picard/banach", forward_only, {.solver = Picard{}});
  add("deq_forward_anderson/banach", forward_only, {.solver = Anderson{.memory = 6}});
  add("deq_forward_broyden/banach", forward_only, {.solver = Broyden{}});
  add("deq_forward_picard_replayed/banach", forward_only, replayed({.solver = Picard{}}));
  return true;
}();

}  // namespace
