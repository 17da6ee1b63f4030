// Backward rules on one equilibrium layer, z = tanh(z W' + u) with d = 128 and a batch of 64 in f64, for
// several spectral radii of its Jacobian. `bench_rules --table` prints how far each rule's gradient of W is
// from the exact one and what it cost; without it, one backward pass of each is timed.
#include <banach/banach.hpp>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ctime>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace banach;

constexpr std::int64_t width = 128, batch = 64;
constexpr double unguarded = std::numeric_limits<double>::infinity();  // the guard would take JacobianFree's

struct Entry {
  const char* name;
  BackwardRule rule;
  Solver solver = Picard{};
};

const std::vector<Entry>& entries() {
  static const std::vector<Entry> all{
      {"implicit gmres", Implicit{Gmres{.tolerance = 1e-6}}},
      {"implicit bicgstab", Implicit{BiCgStab{.tolerance = 1e-6}}},
      {"implicit anderson", Implicit{Iterative{.solver = Anderson{}, .tolerance = 1e-6}}},
      {"implicit dense", Implicit{Dense{}}},
      {"jacobian_free", JacobianFree{}},
      {"neumann 5", Neumann{5}},
      {"neumann 20", Neumann{20}},
      {"phantom 5, 0.5", Phantom{.steps = 5, .damping = 0.5}},
      {"truncated 5", TruncatedUnroll{5}},
      {"unrolled", Unrolled{}},
      {"unrolled, every 8th", Unrolled{.checkpoint_every = 8}},
      {"reversible 0.8", Reversible{.damping = 0.8}},
      {"random_neumann 0.95", RandomNeumann{.survival = 0.95}},
      {"shine", Shine{.fallback = unguarded}, Broyden{}},
      {"shine, 3 refinements", Shine{.fallback = unguarded, .refinements = 3}, Broyden{}},
      {"shine, adjoint", Shine{.fallback = unguarded}, AdjointBroyden{}}};
  return all;
}

Tensor normal(const Shape& shape, std::uint64_t seed) {
  Random random(seed);
  Tensor t = Tensor::empty(shape, DType::f64);
  random.fill_normal(t.mutable_data<double>(), t.size());
  return t;
}

// The layer with a symmetric W of norm rho and a small injection, so that tanh hardly bends and J is close to
// W.
struct Layer {
  Tensor W, u = (0.1 * Var(normal({batch, width}, 2))).value(), cotangent = normal({batch, width}, 3);

  explicit Layer(double rho) {
    const Var random(normal({width, width}, 1)), symmetric = random + transpose(random);
    const Var any(normal({1, width}, 4));
    const double radius =
        spectral_radius([&](const Var& z) { return matmul(z, symmetric); }, any, {.products = 128})
            .front()
            .radius();
    W = (symmetric * (rho / radius)).value();
  }

  Var body(const Var& z, const Var& w) const { return tanh(matmul(z, w, {.transpose_b = true}) + Var(u)); }
};

struct Result {
  Tensor gradient;
  double milliseconds = 0.0;
  int evaluations = 0, steps = 0;
  double radius = 0.0;  // the largest of the Jacobians'
  std::string status;   // of the first sample's gradient
};

Result run(const Layer& layer, const BackwardRule& rule, const Solver& solver, double tolerance) {
  const Tape tape;
  const Var w = leaf(layer.W);
  const auto [z, report, adjoint] = fixed_point(
      [&](const Var& at) { return layer.body(at, w); }, Var(Tensor::zeros({batch, width}, DType::f64)),
      {.solver = solver, .backward = rule, .tolerance = tolerance, .max_steps = 2000});
  Vars gradients;
  std::vector<double> times;
  for (int pass = 0; pass < 5; ++pass) {
    const std::clock_t start = std::clock();  // of one thread, and not of what others do meanwhile
    gradients = grad(z, {w}, {.cotangent = Var(layer.cotangent)});
    times.push_back(1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  std::nth_element(times.begin(), times.begin() + 2, times.end());
  const GradientStatus& status = adjoint.last().samples.front();
  Result result{
      gradients[0].value(), times[2], adjoint.last().evaluations,
      report.nstep,         0.0,      fmt::format("{}, {}", name(status.kind), name(status.adjoint))};
  for (const SpectralRadius& r : spectral_radius([&](const Var& at) { return layer.body(at, w); }, z))
    result.radius = std::max(result.radius, r.radius());
  return result;
}

double dot(const Tensor& a, const Tensor& b) { return sum(Var(a) * Var(b)).value().at(0); }

void print_table() {
  set_threads(1);
  for (const double rho : {0.5, 0.9, 0.99}) {
    const Layer layer(rho);
    const Result exact = run(layer, Implicit{Dense{}}, Picard{}, 1e-13);
    fmt::print("||W|| = {}: spectral radius of J {:.3f}, {} steps of Picard to 1e-13\n", rho, exact.radius,
               exact.steps);
    fmt::print("{:<22}{:>12}{:>10}{:>10}{:>10}{:>10}  {}\n", "rule", "rel. error", "cosine", "norm",
               "products", "ms", "status");
    for (const Entry& entry : entries()) {
      const Result r = run(layer, entry.rule, entry.solver, 1e-6);
      const double norm = std::sqrt(dot(exact.gradient, exact.gradient)),
                   own = std::sqrt(dot(r.gradient, r.gradient));
      const double cosine = dot(r.gradient, exact.gradient) / (norm * own);
      const Var difference = Var(r.gradient) - Var(exact.gradient);
      fmt::print("{:<22}{:>12.1e}{:>10.5f}{:>10.3f}{:>10}{:>10.2f}  {}\n", entry.name,
                 std::sqrt(sum(square(difference)).value().at(0)) / norm, cosine, own / norm, r.evaluations,
                 r.milliseconds, r.status);
    }
    fmt::print("\n");
  }
  fmt::print(
      "norm is that of the gradient over the exact one's; products are vector-Jacobian products of the "
      "whole\n"
      "batch; ms is the median CPU time of five backward passes, on one thread. The forward solve runs to "
      "1e-6.\n");
}

void time_rule(benchmark::State& state, const Entry& entry) {
  const Layer layer(0.9);
  const Tape tape;
  const Var w = leaf(layer.W);
  const auto solution = fixed_point(
      [&](const Var& at) { return layer.body(at, w); }, Var(Tensor::zeros({batch, width}, DType::f64)),
      {.solver = entry.solver, .backward = entry.rule, .tolerance = 1e-6, .max_steps = 2000});
  for (auto _ : state) benchmark::DoNotOptimize(grad(solution.z, {w}, {.cotangent = Var(layer.cotangent)}));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--table") == 0) {
    print_table();
    return 0;
  }
  for (const Entry& entry : entries()) {
    std::string name = entry.name;
    for (char& c : name)
      if (c == ' ' || c == ',') c = '_';
    benchmark::RegisterBenchmark(("rule_" + name + "/banach").c_str(), [&](benchmark::State& s) {
      time_rule(s, entry);
    })->Unit(benchmark::kMillisecond);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
