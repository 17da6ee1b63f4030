// A training step of an equilibrium transformer (transformer.hpp): Anderson, exact backward. Beside it one
// evaluation of the layer and of its vjp, and the floor of each: their products alone through OpenBLAS, on
// one thread. The step's floor takes as many as the step did.
#include <bench/transformer.hpp>

#include <benchmark/benchmark.h>
#include <cblas.h>

#include <vector>

namespace {

using namespace transformer;

// ---- The floor --------------------------------------------------------------------------------------------

/// `count` products C (m x n) = op(A) op(B), of different matrices.
struct Products {
  bool transpose_a, transpose_b;
  std::int64_t count, m, n, k;
};

class Floor {
 public:
  explicit Floor(std::vector<Products> all) : all_(std::move(all)) {
    for (const Products& p : all_) {
      const auto enough = [&](std::vector<float>& x, std::int64_t size) {
        if (x.size() < static_cast<std::size_t>(size)) x.resize(static_cast<std::size_t>(size), 0.5f);
      };
      enough(a_, p.count * p.m * p.k), enough(b_, p.count * p.k * p.n), enough(c_, p.count * p.m * p.n);
    }
  }
  void run() {
    for (const Products& p : all_)
      for (std::int64_t i = 0; i < p.count; ++i)
        cblas_sgemm(CblasRowMajor, p.transpose_a ? CblasTrans : CblasNoTrans,
                    p.transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(p.m), static_cast<int>(p.n),
                    static_cast<int>(p.k), 1, a_.data() + i * p.m * p.k,
                    static_cast<int>(p.transpose_a ? p.m : p.k), b_.data() + i * p.k * p.n,
                    static_cast<int>(p.transpose_b ? p.k : p.n), 0, c_.data() + i * p.m * p.n,
                    static_cast<int>(p.n));
  }

 private:
  std::vector<Products> all_;
  std::vector<float> a_, b_, c_;
};

constexpr std::int64_t rows = batch * length, products = batch * heads, inner = d / heads;

Floor forward_floor() {
  return Floor({{false, false, 4, rows, d, d},  // each with a matrix of its own
                {false, true, products, length, length, inner},
                {false, false, products, length, inner, length},
                {false, false, 1, rows, hidden, d},
                {false, false, 1, rows, d, hidden}});
}

/// Of the cotangent of z: four products for attention, the weights being at hand.
Floor vjp_floor() {
  return Floor({{false, true, 4, rows, d, d},
                {false, true, products, length, length, inner},
                {false, false, products, length, inner, length},
                {true, false, 2 * products, length, inner, length},
                {false, true, 1, rows, hidden, d},
                {false, true, 1, rows, d, hidden}});
}

/// Of the cotangents of the matrices, beside that of z.
Floor weights_floor() {
  return Floor(
      {{true, false, 4, d, d, rows}, {true, false, 1, d, hidden, rows}, {true, false, 1, hidden, d, rows}});
}

void floor(benchmark::State& state, Floor gemms) {
  for (auto _ : state) {
    gemms.run();
    benchmark::ClobberMemory();
  }
}

// ---- Banach -----------------------------------------------------------------------------------------------

void forward(benchmark::State& state) {
  const Parameters parameters;
  const Layer layer(parameters, [](const Tensor& t) { return Var(t); });
  for (auto _ : state) benchmark::DoNotOptimize(layer(layer.x));
}

void vjp_of_state(benchmark::State& state) {
  const Parameters parameters;
  const Layer layer(parameters, [](const Tensor& t) { return Var(t); });
  const Differential f("transformer", [&](const Vars& z) { return Vars{layer(z.front())}; }, {layer.x});
  for (auto _ : state) benchmark::DoNotOptimize(f.pull({layer.x}));
}

FixedPointOptions options(Body body) {
  const Anderson anderson{};
  return {.solver = anderson,
          .backward = Implicit{Iterative{.solver = anderson, .tolerance = tolerance}},
          .tolerance = tolerance,
          .body = body};
}

struct Counts {
  int forward = 0, vjp = 0;
};

Counts step(const Parameters& parameters, Body body) {
  Tape tape;
  const Layer layer(parameters, [](const Tensor& t) { return leaf(t); });
  const auto solved = fixed_point([&](const Var& z) { return layer(z); }, zeros_like(layer.x), options(body));
  benchmark::DoNotOptimize(grad(sum(square(solved.z)), layer.all()));
  return {solved.report.nstep, solved.adjoint.last().evaluations};
}

void step(benchmark::State& state, Body body) {
  const Parameters parameters;
  Counts counts;
  for (auto _ : state) counts = step(parameters, body);
  state.counters["f"] = counts.forward;
  state.counters["vjp"] = counts.vjp;
}

void step_floor(benchmark::State& state) {
  const Counts counts = step(Parameters(), Body::replayed);
  Floor forward = forward_floor(), vjp = vjp_floor(), weights = weights_floor();
  for (auto _ : state) {
    for (int i = 0; i < counts.forward; ++i) forward.run();
    for (int i = 0; i < counts.vjp; ++i) vjp.run();
    weights.run();
    benchmark::ClobberMemory();
  }
}

const bool registered = [] {
  const auto add = [](const char* name, auto run) {
    benchmark::RegisterBenchmark(name, run)->Unit(benchmark::kMillisecond);
  };
  add("transformer_forward/banach", forward);
  add("transformer_forward/floor", [](benchmark::State& s) { floor(s, forward_floor()); });
  add("transformer_vjp/banach", vjp_of_state);
  add("transformer_vjp/floor", [](benchmark::State& s) { floor(s, vjp_floor()); });
  add("transformer_step/banach", [](benchmark::State& s) { step(s, Body::eager); });
  add("transformer_step_replayed/banach", [](benchmark::State& s) { step(s, Body::replayed); });
  add("transformer_step_replayed/floor", step_floor);
  return true;
}();

}  // namespace
