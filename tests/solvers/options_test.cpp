// Every solver refuses every option and every state that makes no sense, with the words that name it.

#include <banach/solvers/fallback.hpp>
#include <banach/solvers/linear.hpp>
#include <banach/solvers/minimize.hpp>
#include <banach/solvers/newton.hpp>
#include <banach/solvers/splitting.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <tuple>

using namespace banach;
using Catch::Contains;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const double not_a_number = std::nan("");

const StateMap same = [](const Tensor& z) { return z; };
const Tensor state = Tensor::ones({2, 3});

template <class Solver>
void solve_with(const Solver& solver, const Tensor& z0 = state, const StopOptions& options = {}) {
  solve_fixed_point(solver,
                    FixedPointProblem{same,
                                      [](const Tensor&) {
                                        return Linearization{same, same};
                                      }},
                    z0, options);
}

void minimize_with(const TrustRegion& solver, const Tensor& z0 = state, const StopOptions& options = {}) {
  solve_minimum(solver,
                {[](const Tensor& z) {
                   return MinimizationProblem::Point{Tensor::zeros({z.shape()[0]}, z.dtype()), z};
                 },
                 [](const Tensor&) { return same; }},
                z0, options);
}

void split_with(const Splitting& splitting) {
  solve_splitting(splitting, Tensor::zeros({3, 3}), state, state, {});
}

template <class Run>
void refuses_states(const Run& run) {
  CHECK_THROWS_AS(run(Tensor::ones({3})), ShapeError);
  CHECK_THROWS_AS(run(Tensor::ones({2, 3, 1})), ShapeError);
  CHECK_THROWS_AS(run(Tensor::ones({2, 3}, DType::i64)), DTypeError);
  CHECK_NOTHROW(run(state));
}

template <class Run>
void refuses_budgets(const Run& run) {
  CHECK_THROWS_WITH(run(-1, 1e-3), Contains("max_steps must not be negative: got -1"));
  for (const double tolerance : {-1e-3, infinity, not_a_number})
    CHECK_THROWS_WITH(run(10, tolerance), Contains("olerance must be finite and not negative"));
  CHECK_NOTHROW(run(10, 0.0));
  CHECK_NOTHROW(run(0, 1e-3));
}

template <class Run>
void refuses_all_but_positive(const char* option, const Run& run) {
  for (const double value : {0.0, -1.0, infinity, -infinity, not_a_number})
    CHECK_THROWS_WITH(run(value), Contains(std::string(option) + " must be positive and finite"));
  CHECK_NOTHROW(run(0.5));
}

}  // namespace

TEMPLATE_TEST_CASE("linear solvers refuse bad states and budgets", "", Gmres, BiCgStab, Cg, Iterative) {
  refuses_states([](const Tensor& b) { solve_linear(TestType{}, same, b); });
  refuses_budgets([](int max_steps, double tolerance) {
    TestType solver;
    solver.max_steps = max_steps;
    solver.tolerance = tolerance;
    solve_linear(solver, same, state);
  });
}

TEST_CASE("the dense linear solver refuses bad states") {
  refuses_states([](const Tensor& b) { solve_linear(Dense{}, same, b); });
}

TEMPLATE_TEST_CASE("fixed-point solvers refuse bad states and budgets", "", Picard, Anderson, Broyden, Newton,
                   NewtonKrylov, LevenbergMarquardt, Fallback) {
  refuses_states([](const Tensor& z0) { solve_with(TestType{}, z0); });
  refuses_budgets([](int max_steps, double tolerance) {
    solve_with(TestType{}, state, {.max_steps = max_steps, .tolerance = tolerance});
  });
  refuses_budgets([](int max_steps, double tolerance) {
    solve_with(TestType{}, state, {.max_steps = max_steps, .absolute_tolerance = tolerance});
  });
}

TEST_CASE("minimisation refuses bad states, budgets and options") {
  refuses_states([](const Tensor& z0) { minimize_with({}, z0); });
  refuses_budgets([](int max_steps, double tolerance) {
    minimize_with({}, state, {.max_steps = max_steps, .tolerance = tolerance});
  });
  refuses_budgets([](int max_steps, double tolerance) {
    minimize_with({}, state, {.max_steps = max_steps, .absolute_tolerance = tolerance});
  });
  refuses_all_but_positive("radius", [](double radius) { minimize_with({.radius = radius}); });
  refuses_all_but_positive("max_radius", [](double radius) { minimize_with({.max_radius = radius}); });
  CHECK_THROWS_WITH(minimize_with({.krylov = 0}), Contains("krylov must be positive"));
}

TEST_CASE("fixed-point solvers refuse dampings, memories and radii that make no sense") {
  refuses_all_but_positive("damping", [](double damping) { solve_with(Picard{.damping = damping}); });
  refuses_all_but_positive("damping", [](double damping) { solve_with(Anderson{.damping = damping}); });
  refuses_all_but_positive("damping", [](double damping) { solve_with(Broyden{.damping = damping}); });
  refuses_all_but_positive("radius", [](double radius) { solve_with(LevenbergMarquardt{.radius = radius}); });
  for (const int memory : {0, -1}) {
    CHECK_THROWS_WITH(solve_with(Anderson{.memory = memory}), Contains("memory must be at least 1"));
    CHECK_THROWS_WITH(solve_with(Broyden{.memory = memory}), Contains("memory must be at least 1"));
  }
  CHECK_NOTHROW(solve_with(Anderson{.memory = 1}));
  CHECK_NOTHROW(solve_with(Broyden{.memory = 1}));
  for (const double ridge : {-1e-9, infinity, not_a_number})
    CHECK_THROWS_WITH(solve_with(Anderson{.ridge = ridge}),
                      Contains("ridge must be finite and not negative"));
  CHECK_NOTHROW(solve_with(Anderson{.ridge = 0.0}));
  for (const double forcing : {-0.1, 1.0, not_a_number})
    CHECK_THROWS_WITH(solve_with(NewtonKrylov{.forcing = forcing}), Contains("forcing"));
}

TEST_CASE("splittings refuse steps that make no sense") {
  refuses_all_but_positive("step", [](double step) { split_with(ForwardBackward{.step = step}); });
  refuses_all_but_positive("step", [](double step) { split_with(PeacemanRachford{.step = step}); });
}
