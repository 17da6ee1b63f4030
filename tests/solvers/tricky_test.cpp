// Maps on which solvers are known to fail, or to claim too much: what every one of them must say.
#include "all_solvers.hpp"
#include "maps.hpp"

using namespace banach;
using namespace banach::test;

namespace {

FixedPointSolution solve(const Solver& solver, const StateMap& f, double z0, const StopOptions& options,
                         DType dtype = DType::f64) {
  return solve_fixed_point(solver, f, Tensor::full({1, 1}, z0, dtype), options);
}

bool damped(const Solver& solver) {
  const auto is = [](const auto* s) { return s && s->damping < 1.0; };
  return is(solver.get_if<Picard>()) || is(solver.get_if<Anderson>()) || is(solver.get_if<Broyden>());
}

const StopOptions tight{.max_steps = 5000, .tolerance = 1e-12};

}  // namespace

TEST_CASE("z = tanh(2 z): the repelling fixed point where one starts, and the attracting one") {
  const StateMap f = elementwise([](double z) { return std::tanh(2.0 * z); });
  for (const Solver& solver : all_solvers()) {
    CAPTURE(solver.name());
    const auto zero = solve(solver, f, 0.0, tight);
    CHECK(zero.report.converged());
    CHECK(zero.z.item() == 0.0);
    CHECK(zero.report.nstep == 1);
    const auto one = solve(solver, f, 1.0, tight);
    CHECK(one.report.converged());
    CHECK(one.z.item() == Approx(0.9575040240772688).epsilon(1e-12));
    CHECK_FALSE(one.report.samples[0].singular_root);
  }
}

TEST_CASE("z = z + z^2: converged only with its error bound, and the root is flagged") {
  const StateMap f = elementwise([](double z) { return z + z * z; });
  for (const Solver& solver : all_solvers()) {
    CAPTURE(solver.name());
    const auto s = solve(solver, f, -0.5, {.max_steps = 20000, .tolerance = 0.0, .absolute_tolerance = 1e-6});
    const SampleReport& r = s.report.samples[0];
    CHECK(r.status == Status::converged);
    CHECK(r.error_estimate <= 100 * 1e-6);
    CHECK(std::abs(s.z.item()) <= 5 * 100 * 1e-6);
    CHECK(r.abs_lowest < 1e-7);
    CHECK(r.singular_root);
  }
  // As tolerances are relative, a root of zero leaves the default one next to nothing: Picard is far too
  // slow.
  CHECK(solve(Picard{}, f, -0.5, {.max_steps = 2000}).report.samples[0].status == Status::max_steps);
}

TEST_CASE("z = z + 1 is never converged, wherever one starts") {
  const StateMap f = elementwise([](double z) { return z + 1.0; });
  for (const Solver& solver : all_solvers())
    for (const double z0 : {0.0, -3.0, 1e3})
      for (const DType dtype : {DType::f32, DType::f64}) {
        CAPTURE(solver.name(), z0, name(dtype));
        CHECK_FALSE(solve(solver, f, z0, {.max_steps = 5000}, dtype).report.converged());
        CHECK_FALSE(
            solve(solver, f, z0, {.max_steps = 500, .tolerance = 0.1, .stagnation_window = 500}, dtype)
                .report.converged());
      }
}

TEST_CASE("z = 3.2 z (1 - z): a cycle of two for Picard") {
  const StateMap f = elementwise([](double z) { return 3.2 * z * (1.0 - z); });
  const Status picard = solve(Picard{}, f, 0.5, tight).report.samples[0].status;
  CHECK((picard == Status::max_steps || picard == Status::stagnated));
  for (const Solver& solver : all_solvers()) {
    if (solver.get_if<Picard>()) continue;
    const auto s = solve(solver, f, 0.5, tight);
    CAPTURE(solver.name());
    CHECK(s.report.converged());
    CHECK(s.z.item() == Approx(0.6875).epsilon(1e-12));
  }
}

TEST_CASE("z = 2 z + 1: a repelling fixed point") {
  const StateMap f = elementwise([](double z) { return 2.0 * z + 1.0; });
  CHECK(solve(Picard{}, f, 0.0, tight).report.samples[0].status == Status::diverged);
  for (const Solver& solver : all_solvers()) {
    if (solver.get_if<Picard>()) continue;
    const auto s = solve(solver, f, 0.0, tight);
    CAPTURE(solver.name());
    CHECK(s.report.converged());
    CHECK(s.z.item() == Approx(-1.0).epsilon(1e-12));
  }
}

TEST_CASE("a constant map takes at most three evaluations, those for differences included") {
  for (const Solver& solver : all_solvers()) {
    if (damped(solver)) continue;
    int evaluations = 0;
    const StateMap f = [&](const Tensor& z) {
      ++evaluations;
      return Tensor::full(z.shape(), 5.0, z.dtype());
    };
    const auto s = solve(solver, f, 0.5, tight);
    CAPTURE(solver.name());
    CHECK(s.report.converged());
    CHECK(s.z.item() == 5.0);
    CHECK(evaluations <= 3);
  }
}

TEST_CASE("a map that changes its shape at the second evaluation") {
  for (const Solver& solver : all_solvers()) {
    int evaluations = 0;
    const StateMap f = [&](const Tensor& z) {
      return ++evaluations == 1 ? Tensor::zeros(z.shape(), z.dtype()) : Tensor::zeros({1, 7}, z.dtype());
    };
    CHECK_THROWS_AS(solve(solver, f, 1.0, {}), ShapeError);
    try {
      evaluations = 0;
      solve(solver, f, 1.0, {});
    } catch (const ShapeError& error) {
      CHECK(std::string(error.what()).find("the map must keep the shape: (1,1) -> (1,7)") !=
            std::string::npos);
    }
  }
}

TEST_CASE("no steps, no tolerance, no samples") {
  const StateMap never = [](const Tensor&) -> Tensor { throw std::logic_error("must not be called"); };
  for (const Solver& solver : all_solvers()) {
    const auto none = solve(solver, never, 3.0, {.max_steps = 0});
    CHECK(none.report.samples[0].status == Status::max_steps);
    CHECK(none.z.item() == 3.0);
    CHECK_THROWS_AS(solve(solver, never, 3.0, {.tolerance = std::nan("")}), ValueError);
    const auto empty = solve_fixed_point(solver, never, Tensor::zeros({0, 4}, DType::f64), {});
    CHECK(empty.report.samples.empty());
    CHECK(empty.z.shape() == Shape{0, 4});
  }
}

TEST_CASE("seven rotations by every solver") {
  const Tensor z0 = Tensor::zeros({1, 14}, DType::f64);
  const StopOptions options{.max_steps = 400, .tolerance = 1e-8, .stagnation_window = 400};
  for (const Solver& solver : all_solvers()) {
    const auto s = solve_fixed_point(solver, seven_rotations(), z0, options);
    CAPTURE(solver.name(), s.report.to_string());
    if (solver.get_if<Picard>())
      CHECK_FALSE(s.report.converged());
    else if (!solver.get_if<Anderson>() || solver.get_if<Anderson>()->memory == 10)
      CHECK(s.report.converged());
    if (!s.report.converged()) continue;
    for (int i = 0; i < 14; ++i) CHECK(s.z.at(i) == Approx(i + 1.0).epsilon(1e-5));
  }
}
