// The 23 problems, by every solver: what is reported as solved is, and the chain solves them all.
#include "maps.hpp"
#include "nonlin_problems.hpp"

#include <banach/solvers/fallback.hpp>

using namespace banach;
using namespace banach::test;

namespace {

constexpr StopOptions options{.max_steps = 5000,
                              .tolerance = 0.0,
                              .absolute_tolerance = 1e-8,
                              .divergence_factor = 1e12,
                              .accept_rounding = false};

FixedPointSolution solve(const Solver& solver, const NonlinProblem& p, bool exact = true) {
  return solve_fixed_point(solver, p.problem(exact), p.first(), options);
}

}  // namespace

TEST_CASE("the 23 problems: derivatives are those of the formulas") {
  for (const NonlinProblem& p : nonlin_problems()) {
    CAPTURE(p.number);
    Random random(static_cast<std::uint64_t>(p.number));
    Tensor z = p.first(), v = random_state(1, p.size(), DType::f64, random);
    for (std::int64_t i = 0; i < z.size(); ++i) z.mutable_data<double>()[i] += 0.1 * random.normal();
    const FixedPointProblem problem = p.problem();
    const Tensor product = problem.linearize(z).jvp(v);
    const auto at = [&](double h) {
      Tensor moved = z.clone();
      for (std::int64_t i = 0; i < z.size(); ++i) moved.mutable_data<double>()[i] += h * v.at(i);
      return problem.f(moved);
    };
    const Tensor plus = at(1e-5), minus = at(-1e-5);
    for (std::int64_t i = 0; i < z.size(); ++i)
      CHECK(product.at(i) == Approx((plus.at(i) - minus.at(i)) / 2e-5).epsilon(1e-6).margin(1e-5));
  }
}

TEST_CASE("the 23 problems: F is zero at the known roots") {
  const auto check = [](int number, std::vector<double> root, double margin) {
    const auto& p = nonlin_problems()[static_cast<std::size_t>(number - 1)];
    REQUIRE(p.number == number);
    CHECK(p.norm(tensor(root, {p.size()})) == Approx(0.0).margin(margin));
  };
  check(1, std::vector<double>(10, 1.0), 0.0);
  check(2, {0.0, 0.0, 0.0, 0.0}, 0.0);
  check(3, {1.098159e-5, 9.106146}, 1e-6);
  check(4, {1.0, 1.0, 1.0, 1.0}, 0.0);
  check(5, {1.0, 0.0, 0.0}, 0.0);
  check(7, {-std::sqrt(1.0 / 3.0), std::sqrt(1.0 / 3.0)}, 1e-15);
  check(8, std::vector<double>(10, 1.0), 0.0);
  check(12, std::vector<double>(10, 1.0), 0.0);
  check(15, {0.01, 50.0, 0.0, 0.01}, 1e-15);
  check(16, {0.01, 50.0, 0.0, 0.0, 0.01, 0.0, 0.0, 0.0, 0.01}, 1e-15);
  check(17, {0.0, 3.0}, 0.0);
  check(18, {0.0, 0.0}, 0.0);
  check(19, {0.0, 0.0}, 0.0);
  check(20, {5.0}, 0.0);
  check(21, {5.0, 4.0}, 0.0);
  check(22, {0.0, 1.0}, 1e-15);
}

TEST_CASE("the 23 problems: the chain solves all, and knows the three singular roots") {
  const bool exact = GENERATE(true, false);
  for (const NonlinProblem& p : nonlin_problems()) {
    const auto s = solve(Fallback{}, p, exact);
    const SampleReport& r = s.report.samples[0];
    CAPTURE(p.number, exact, name(r.status), r.amplification_exponent);
    CHECK(r.status == Status::converged);
    CHECK(p.norm(s.z) <= 1e-8);
    CHECK(r.nstep <= 1000);
    CHECK(r.singular_root == (p.number == 2 || p.number == 18 || p.number == 19));
  }
}

TEST_CASE("the 23 problems: no solver reports a root that is none, or a singular one that is regular") {
  for (const Solver& solver :
       {Solver(Picard{}), Solver(Anderson{}), Solver(Broyden{}), Solver(Newton{}),
        Solver(Newton{.line_search = false}), Solver(NewtonKrylov{}), Solver(LevenbergMarquardt{}),
        Solver(LevenbergMarquardt{.radius = 1.0, .scaled = false})})
    for (const NonlinProblem& p : nonlin_problems()) {
      const auto s = solve(solver, p);
      const SampleReport& r = s.report.samples[0];
      CAPTURE(p.number, solver.name(), name(r.status));
      CHECK(r.abs_lowest == Approx(p.norm(s.z)).margin(1e-14 + 1e-15 * p.norm(s.z)));
      if (r.status != Status::converged) continue;
      CHECK(p.norm(s.z) <= 1e-8);
      if (p.number != 2 && p.number != 18 && p.number != 19) CHECK_FALSE(r.singular_root);
    }
}

TEST_CASE("the 23 problems in a batch are solved as if alone") {
  for (const int number : {3, 8, 11, 21}) {
    const NonlinProblem& p = nonlin_problems()[static_cast<std::size_t>(number - 1)];
    Tensor z0 = p.first(3);
    for (std::int64_t i = 0; i < p.size(); ++i) {
      z0.mutable_data<double>()[i] *= 1.3;
      z0.mutable_data<double>()[2 * p.size() + i] = std::nan("");
    }
    const auto together = solve_fixed_point(Fallback{}, p.problem(), z0, options);
    for (std::int64_t s : {0, 1}) {
      const auto alone = solve_fixed_point(Fallback{}, p.problem(), z0.rows(s, s + 1), options);
      const SampleReport &a = together.report.samples[static_cast<std::size_t>(s)],
                         &b = alone.report.samples[0];
      CHECK(a.status == b.status);
      CHECK(a.nstep == b.nstep);
      CHECK(a.products == b.products);
      for (std::int64_t i = 0; i < p.size(); ++i) CHECK(together.z.at(s * p.size() + i) == alone.z.at(i));
    }
    CHECK(together.report.samples[2].status == Status::non_finite);
  }
}
