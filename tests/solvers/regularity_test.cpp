// Singular roots are recognised, and regular ones are not mistaken for them.
#include "maps.hpp"

#include <banach/solvers/fallback.hpp>
#include <banach/solvers/regularity.hpp>

using namespace banach;
using namespace banach::test;

namespace {

// The exponent seen along errors e_k = step(e) with residual e^m.
template <class Step>
double exponent_of(double start, int m, int count, Step step) {
  Regularity regularity;
  double e = start;
  regularity.observe(std::pow(e, m), 0.0);
  for (int k = 0; k < count && std::pow(e, m) > 1e-40; ++k) {
    const double next = step(e);
    regularity.observe(std::pow(next, m), std::abs(next - e));
    e = next;
  }
  return regularity.exponent();
}

}  // namespace

TEST_CASE("the exponent of a root of multiplicity m is 1 - 1/m") {
  const int m = GENERATE(1, 2, 3, 4);
  const double expected = 1.0 - 1.0 / m;
  // Linear convergence at the rate of Newton's method, or any other.
  for (const double rate : {0.1, 0.5, 2.0 / 3.0, 0.9, 0.99})
    if (std::pow(rate, m) > 1e-2)
      CHECK(exponent_of(1.0, m, 2000, [&](double e) { return rate * e; }) == Approx(expected).margin(1e-6));
  // Sublinear: Picard at a root of multiplicity m + 1, with error ~ k^(-1/m).
  if (m > 1)
    CHECK(exponent_of(0.5, m, 20000, [&](double e) { return e - std::pow(e, m); }) ==
          Approx(expected).margin(0.05));
}

TEST_CASE("too short a fall of the residual tells nothing; a fast one tells a regular root") {
  CHECK(std::isnan(exponent_of(1.0, 2, 4, [](double e) { return 0.5 * e; })));
  CHECK(std::isnan(Regularity().exponent()));
  CHECK_FALSE(Regularity().singular());
  CHECK(exponent_of(0.5, 1, 6, [](double e) { return e * e; }) == 0.0);
  Regularity restarted;
  for (int k = 0; k < 40; ++k) restarted.observe(std::pow(0.25, k), std::pow(0.5, k));
  CHECK(restarted.singular());
  restarted.restart();
  CHECK_FALSE(restarted.singular());
}

TEST_CASE("the norm of the inverse tells of roots that are not isolated") {
  Regularity growing, level, exactly;
  for (const double r : {1.0, 1e-1, 1e-2, 1e-4}) {
    for (Regularity* regularity : {&growing, &level, &exactly}) regularity->observe(r, r);
    growing.set_amplification(5.0 / r);
    level.set_amplification(1e9);
    exactly.set_amplification(std::numeric_limits<double>::infinity());
  }
  CHECK(growing.exponent() == Approx(1.0));
  CHECK(growing.singular());
  CHECK(level.exponent() == 0.0);
  CHECK(exactly.singular());
}

TEST_CASE("a double root by every solver that converges there") {
  // F = -z^2, so f = z + z^2.
  const FixedPointProblem p{elementwise([](double z) { return z + z * z; }), [](const Tensor& z) {
                              return Linearization{.jvp = [z](const Tensor& v) {
                                return tensor({(1.0 + 2.0 * z.item()) * v.item()}, {1, 1});
                              }};
                            }};
  for (const Solver& solver : {Solver(Newton{}), Solver(NewtonKrylov{}), Solver(LevenbergMarquardt{}),
                               Solver(Broyden{}), Solver(Anderson{}), Solver(Fallback{})}) {
    const auto s = solve_fixed_point(solver, p, Tensor::full({1, 1}, -0.5, DType::f64),
                                     {.max_steps = 1000, .tolerance = 0.0, .absolute_tolerance = 1e-8});
    CAPTURE(s.report.solver);
    CHECK(s.report.converged());
    CHECK(s.report.samples[0].singular_root);
    CHECK(s.report.samples[0].amplification_exponent == Approx(0.5).margin(0.1));
  }
  // Picard's residual is below the tolerance long before its error is within the bound that it asks for.
  const auto picard = solve_fixed_point(
      Picard{}, p, Tensor::full({1, 1}, -0.5, DType::f64),
      {.max_steps = 20000, .tolerance = 0.0, .absolute_tolerance = 1e-5, .error_factor = 10.0});
  CHECK(picard.report.converged());
  CHECK(picard.report.samples[0].singular_root);
  CHECK(picard.report.samples[0].amplification_exponent == Approx(0.5).margin(0.05));
  CHECK(picard.report.samples[0].abs_lowest < 1e-6);
  CHECK(picard.report.samples[0].error_estimate <= 10 * 1e-5);
}

TEST_CASE("contractions are not taken for multiple roots") {
  const double tolerance = GENERATE(1e-3, 1e-5, 1e-8, 1e-12);
  const double radius = GENERATE(0.5, 0.9, 0.99, 1.5);
  Random random(static_cast<std::uint64_t>(radius * 100));
  const Matrix w = random_with_radius(20, radius, random);
  const Tensor u = random_state(8, 20, DType::f64, random);
  Matrix symmetric(20);  // of all rates up to the radius
  for (std::int64_t i = 0; i < 20; ++i)
    symmetric(i, i) = std::min(radius, 0.99) * static_cast<double>(i) / 19.0;
  for (const Solver& solver : {Solver(Picard{}), Solver(Picard{.damping = 0.5}), Solver(Anderson{}),
                               Solver(Broyden{}), Solver(Newton{}), Solver(LevenbergMarquardt{})})
    for (const StateMap& f :
         {tanh_map(w, u), radius < 1.0 ? linear_map(w, u) : tanh_map(w, u), linear_map(symmetric, u)})
      for (const SampleReport& r :
           solve_fixed_point(solver, f, u, {.max_steps = 3000, .tolerance = tolerance}).report.samples)
        if (r.status == Status::converged) CHECK_FALSE(r.singular_root);
}

TEST_CASE("a root is singular from an exponent of 0.3 on") {
  for (const auto& [m, singular] : {std::pair{1.25, false}, std::pair{1.4, false}, std::pair{1.5, true}}) {
    Regularity regularity;
    for (int k = 0; k < 60; ++k) regularity.observe(std::pow(0.5, m * k), std::pow(0.5, k));
    CAPTURE(m);
    CHECK(regularity.exponent() == Approx(1.0 - 1.0 / m).margin(1e-6));
    CHECK(regularity.singular() == singular);
  }
}
