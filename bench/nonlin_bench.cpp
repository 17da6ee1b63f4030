// The 23 problems of tests/solvers/nonlin_problems.hpp by every solver, to ||F|| <= 1e-8 within 5,000
// evaluations. `bench_nonlin --table` prints who solves what, after how many evaluations, or the reason why
// not; without it, all 23 are timed for each solver.
#include <banach/solvers/fallback.hpp>
#include <tests/solvers/nonlin_problems.hpp>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstring>

namespace {

using namespace banach;
using namespace banach::test;

struct Entry {
  const char* name;
  Solver solver;
};

const std::vector<Entry>& entries() {
  static const std::vector<Entry> all{{"picard", Picard{}},
                                      {"anderson", Anderson{}},
                                      {"broyden", Broyden{}},
                                      {"newton", Newton{}},
                                      {"newton_full", Newton{.line_search = false}},
                                      {"newton_krylov", NewtonKrylov{}},
                                      {"lm", LevenbergMarquardt{}},
                                      {"fallback", Fallback{}}};
  return all;
}

SampleReport solve(const Solver& solver, const NonlinProblem& p, Tensor* root = nullptr) {
  const auto s = solve_fixed_point(solver, p.problem(), p.first(),
                                   {.max_steps = 5000,
                                    .tolerance = 0.0,
                                    .absolute_tolerance = 1e-8,
                                    .divergence_factor = 1e12,
                                    .accept_rounding = false});
  if (root) *root = s.z;
  return s.report.samples.front();
}

// "123" evaluations if solved, with a ! where the root looks singular; else the status. A root that is none
// is "FALSE".
std::string verdict(const SampleReport& r, const NonlinProblem& p, const Tensor& root) {
  if (r.status != Status::converged) return std::string(name(r.status));
  if (!(p.norm(root) <= 1e-8)) return "FALSE";
  return fmt::format("{}{}", r.nstep, r.singular_root ? "!" : "");
}

void print_table() {
  fmt::print("{:<40}", "problem");
  for (const Entry& e : entries()) fmt::print("{:>14}", e.name);
  std::vector<int> solved(entries().size(), 0);
  for (const NonlinProblem& p : nonlin_problems()) {
    fmt::print("\n{:>2} {:<37}", p.number, p.title);
    for (std::size_t i = 0; i < entries().size(); ++i) {
      Tensor root;
      const SampleReport r = solve(entries()[i].solver, p, &root);
      fmt::print("{:>14}", verdict(r, p, root));
      solved[i] += r.status == Status::converged && p.norm(root) <= 1e-8;
    }
  }
  fmt::print("\n{:<40}", "solved");
  for (const int count : solved) fmt::print("{:>14}", count);
  fmt::print(
      "\nA number is that of evaluations of F, without those for derivatives, which are exact; ! marks a "
      "root that\n"
      "the solver reports as singular.\n");
}

void all_problems(benchmark::State& state, const Solver& solver) {
  int solved = 0, evaluations = 0, products = 0;
  for (auto _ : state) {
    solved = evaluations = products = 0;
    for (const NonlinProblem& p : nonlin_problems()) {
      const SampleReport r = solve(solver, p);
      solved += r.status == Status::converged;
      evaluations += r.nstep;
      products += r.products;
    }
  }
  state.counters["solved"] = solved;
  state.counters["f"] = evaluations;
  state.counters["jvp"] = products;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--table") == 0) {
    print_table();
    return 0;
  }
  for (const Entry& e : entries())
    benchmark::RegisterBenchmark(fmt::format("nonlin/{}", e.name).c_str(), [&e](benchmark::State& state) {
      all_problems(state, e.solver);
    })->Unit(benchmark::kMicrosecond);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
