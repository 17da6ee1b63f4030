// A solve does not depend on the unit of z, and reports every evaluation that it made.

#include "all_solvers.hpp"
#include "maps.hpp"

using namespace banach;
using namespace banach::test;

TEST_CASE("in units that are powers of two, a solve takes the same steps to the same bits") {
  // Contractive, rotating, expanding: so that safeguards have to act too.
  const double gain = GENERATE(0.7, 1.5, 4.0), unit = GENERATE(0x1p-30, 0x1p-5, 0x1p30);
  const std::int64_t n = 6;
  Random random(11);
  const Matrix w = scaled(random_matrix(n, random), gain / std::sqrt(static_cast<double>(n)));
  const Tensor u = normal({3, n}, 12);
  const StateMap f = tanh_map(w, u);
  const auto times = [](const Tensor& x, double factor) {
    Tensor y = x.clone();
    for (std::int64_t i = 0; i < y.size(); ++i) y.mutable_data<double>()[i] *= factor;
    return y;
  };
  const StateMap in_units = [&](const Tensor& z) { return times(f(times(z, 1.0 / unit)), unit); };
  const StopOptions options{.max_steps = 150, .tolerance = 1e-10, .absolute_tolerance = 0.0};
  const Tensor z0 = normal({3, n}, 13);
  for (const Solver& solver : {Solver(Picard{0.5}), Solver(Anderson{}), Solver(Anderson{.memory = 2}),
                               Solver(Broyden{}), Solver(Broyden{.memory = 3})}) {
    const auto plain = solve_fixed_point(solver, f, z0, options);
    const auto other = solve_fixed_point(solver, in_units, times(z0, unit), options);
    INFO(solver.name() << " with gain " << gain << ", unit " << unit);
    CHECK(same_bits(other.z, times(plain.z, unit)));
    for (std::size_t s = 0; s < 3; ++s) {
      CHECK(other.report.samples[s].status == plain.report.samples[s].status);
      CHECK(other.report.samples[s].nstep == plain.report.samples[s].nstep);
    }
  }
}

TEST_CASE("f is evaluated as often as the report says, also where a solver gives up") {
  // z = z + 1, whose Jacobian I - J is zero, and a map without a solution that Newton can get near to.
  for (const bool flat : {true, false}) {
    int calls = 0;
    const FixedPointProblem p{[&](const Tensor& z) {
                                ++calls;
                                Tensor out = z.clone();
                                const double x = z.at(0);
                                out.mutable_data<double>()[0] = flat ? x + 1.0 : x - (x * x + 1.0);
                                return out;
                              },
                              [&](const Tensor& z) {
                                const double slope = flat ? 1.0 : 1.0 - 2.0 * z.at(0);
                                return Linearization{.jvp = [slope](const Tensor& v) {
                                  Tensor out = v.clone();
                                  out.mutable_data<double>()[0] *= slope;
                                  return out;
                                }};
                              }};
    for (const Solver& solver : {Solver(Newton{}), Solver(NewtonKrylov{}), Solver(LevenbergMarquardt{})}) {
      calls = 0;
      const auto s = solve_fixed_point(solver, p, Tensor::full({1, 1}, 0.3, DType::f64), {.max_steps = 100});
      INFO(solver.name() << " " << flat << ": " << s.report.to_string());
      CHECK_FALSE(s.report.converged());
      CHECK(calls == s.report.nstep);
    }
  }
}

TEST_CASE("f sees the answer of a sample that has ended, bit for bit, while the others go on") {
  for (const Solver& solver :
       {Solver(Picard{0.5}), Solver(Picard{}), Solver(Anderson{}), Solver(Broyden{})}) {
    // Samples 0 and 2 converge slowly; 1 and 3 stand at their solution.
    const Tensor z0 = normal({4, 3}, 15);
    bool kept = true;
    int calls = 0;
    const StateMap f = [&](const Tensor& z) {
      Tensor out = z.clone();
      ++calls;
      for (std::int64_t s = 0; s < 4; ++s)
        for (std::int64_t i = 3 * s; i < 3 * s + 3; ++i) {
          if (s % 2 == 1) kept = kept && z.at(i) == z0.at(i);
          if (s % 2 == 0) out.mutable_data<double>()[i] = 0.9 * std::sin(z.at(i)) + 0.2;
        }
      return out;
    };
    CHECK(solve_fixed_point(solver, f, z0, {.max_steps = 400, .tolerance = 1e-8}).report.converged());
    CHECK(calls > 4);
    CHECK(kept);
  }
}
