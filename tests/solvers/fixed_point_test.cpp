#include "all_solvers.hpp"
#include "maps.hpp"

#include <banach/engine/memory.hpp>
#include <banach/solvers/monitor.hpp>
#include <tests/threads.hpp>

using namespace banach;
using namespace banach::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const double not_a_number = std::nan("");

FixedPointSolution solve_scalar(const Solver& solver, const StateMap& f, double z0,
                                const StopOptions& options, DType dtype = DType::f64) {
  return solve_fixed_point(solver, f, Tensor::full({1, 1}, z0, dtype), options);
}

bool same(const SampleReport& a, const SampleReport& b) {
  return a.status == b.status && a.nstep == b.nstep && a.best_step == b.best_step &&
         a.products == b.products && a.abs_lowest == b.abs_lowest && a.rel_lowest == b.rel_lowest &&
         a.rate == b.rate && a.error_estimate == b.error_estimate && a.singular_root == b.singular_root;
}

}  // namespace

TEST_CASE("z = z + 1 never converges") {
  for (const Solver& solver : all_solvers())
    for (const DType dtype : {DType::f32, DType::f64}) {
      const auto s = solve_scalar(solver, elementwise([](double z) { return z + 1.0; }), 0.0,
                                  {.max_steps = 20000, .stagnation_window = 20000}, dtype);
      const SampleReport& r = s.report.samples[0];
      CAPTURE(solver.name());
      // Newton's methods see at once that there is nowhere to go.
      CHECK((r.status == Status::max_steps || r.status == Status::stagnated));
      // Infinite but for rounding, which the short last steps of the one left out are made of.
      const auto* unscaled = solver.get_if<LevenbergMarquardt>();
      if (!unscaled || unscaled->scaled) CHECK(r.error_estimate > 1e3);
    }
}

TEST_CASE("z = 0.9 z converges") {
  for (const Solver& solver : all_solvers()) {
    const auto s = solve_scalar(solver, elementwise([](double z) { return 0.9 * z; }), 1.0,
                                {.max_steps = 500, .absolute_tolerance = 1e-8});
    CHECK(s.report.converged());
    CHECK(std::abs(s.z.item()) <= 1e-6);
  }
}

TEST_CASE("Picard's rate and error estimate are those of the linear map, damped or not") {
  const double damping = GENERATE(1.0, 0.5, 0.25);
  const auto s = solve_scalar(Picard{.damping = damping}, elementwise([](double z) { return 0.9 * z + 1.0; }),
                              0.0, {.max_steps = 2000, .tolerance = 1e-6});
  const SampleReport& r = s.report.samples[0];
  CHECK(r.status == Status::converged);
  CHECK(r.rate == Approx(1.0 - 0.1 * damping).epsilon(1e-6));
  CHECK(r.error_estimate == Approx(10.0 - s.z.item()).epsilon(1e-4));
  CHECK(r.abs_lowest == Approx(0.1 * (10.0 - s.z.item())).epsilon(1e-9));
  CHECK(r.rel_lowest == Approx(r.abs_lowest / s.fz.item()));
  CHECK(r.best_step == r.nstep);
  CHECK(s.report.nstep == r.nstep);
}

TEST_CASE("the statuses of scalar maps") {
  const Solver picard = Picard{};
  SECTION("a repelling fixed point: diverged, and the best iterate is the first") {
    const auto s = solve_scalar(picard, elementwise([](double z) { return 2.0 * z + 1.0; }), 0.0, {});
    CHECK(s.report.samples[0].status == Status::diverged);
    CHECK(s.report.samples[0].nstep == 21);  // the first with 2^(k-1) > 10^6
    CHECK(s.z.item() == 0.0);
    CHECK(s.fz.item() == 1.0);
  }
  SECTION("slow but steady: max_steps, not stagnated") {
    const auto s = solve_scalar(picard, elementwise([](double z) { return 0.999 * z + 1.0; }), 0.0,
                                {.max_steps = 1000, .tolerance = 1e-10});
    CHECK(s.report.samples[0].status == Status::max_steps);
    CHECK(s.report.samples[0].nstep == 1000);
    CHECK(s.report.samples[0].rate == Approx(0.999));
  }
  SECTION("a cycle of two: stagnated") {
    const auto s = solve_scalar(picard, elementwise([](double z) { return 3.2 * z * (1.0 - z); }), 0.5,
                                {.max_steps = 1000});
    CHECK(s.report.samples[0].status == Status::stagnated);
  }
  SECTION("a double root: the residual meets the tolerance long before the error does") {
    const StateMap f = elementwise([](double z) { return z + z * z; });
    const auto s = solve_scalar(picard, f, -0.5, {.max_steps = 500, .tolerance = 1e-2, .error_factor = 10.0});
    CHECK(s.report.samples[0].status == Status::max_steps);
    CHECK(s.report.samples[0].rel_lowest < 1e-2);
    const auto loose =
        solve_scalar(picard, f, -0.5, {.max_steps = 500, .tolerance = 1e-2, .error_factor = 1000.0});
    CHECK(loose.report.samples[0].status == Status::converged);
    CHECK(std::abs(loose.z.item()) < 1000.0 * 1e-2 * std::abs(loose.fz.item()));
  }
  SECTION("near a repelling fixed point of small residual: the answer is the one converged to") {
    // Fixed points 0 (repelling) and 1; the residual at z0 is smaller than that at the answer.
    const auto s = solve_scalar(picard, elementwise([](double z) { return z + 0.3 * z * (1.0 - z); }), 1e-6,
                                {.max_steps = 1000});
    CHECK(s.report.samples[0].status == Status::converged);
    CHECK(s.z.item() == Approx(1.0).epsilon(1e-3));
  }
}

TEST_CASE("a constant map takes two evaluations, and so does a start that is good enough") {
  for (const Solver& solver : {Solver(Picard{}), Solver(Anderson{}), Solver(Broyden{})}) {
    const auto constant =
        solve_scalar(solver, elementwise([](double) { return 5.0; }), 0.5, {.tolerance = 1e-12});
    CHECK(constant.report.converged());
    CHECK(constant.report.nstep == 2);
    CHECK(constant.z.item() == 5.0);
    const StateMap half = elementwise([](double z) { return 0.5 * z + 1.0; });
    const auto warm = solve_scalar(solver, half, 2.00001, {.tolerance = 1e-4});
    CHECK(warm.report.converged());
    CHECK(warm.report.nstep == 2);
    const auto solved = solve_scalar(solver, half, 2.0, {.tolerance = 1e-12});
    CHECK(solved.report.converged());
    CHECK(solved.report.nstep == 1);
    CHECK(solved.report.samples[0].error_estimate == 0.0);
  }
}

TEST_CASE("a tolerance below rounding is met at rounding level") {
  for (const Solver& solver : {Solver(Picard{}), Solver(Anderson{}), Solver(Broyden{})})
    for (const DType dtype : {DType::f32, DType::f64}) {
      const auto s = solve_scalar(solver, elementwise([](double z) { return std::cos(z); }), 0.5,
                                  {.max_steps = 500, .tolerance = 0.0}, dtype);
      CHECK(s.report.converged());
      CHECK(s.z.item() == Approx(0.7390851332151607).epsilon(dtype == DType::f32 ? 1e-6 : 1e-15));
    }
}

TEST_CASE("a NaN in one sample neither harms nor delays the others") {
  Random random(11);
  const Tensor u = random_state(8, 16, DType::f64, random), z0 = random_state(8, 16, DType::f64, random);
  const StateMap clean = tanh_map(random_with_radius(16, 0.9, random), u);
  for (const Solver& solver : all_solvers()) {
    int evaluation = 0;
    std::vector<Tensor> iterates;
    const StateMap spoilt = [&](const Tensor& z) {
      iterates.push_back(z.clone());
      Tensor fz = clean(z);
      if (++evaluation >= 7) fz.mutable_data<double>()[3 * 16 + 5] = not_a_number;
      return fz;
    };
    const StopOptions options{.max_steps = 200, .tolerance = 1e-8};
    const auto expected = solve_fixed_point(solver, clean, z0, options);
    const auto s = solve_fixed_point(solver, spoilt, z0, options);
    for (int i = 0; i < 8; ++i) {
      if (i == 3) continue;
      CHECK(same_bits(s.z.rows(i, i + 1), expected.z.rows(i, i + 1)));
      CHECK(same(s.report.samples[static_cast<std::size_t>(i)],
                 expected.report.samples[static_cast<std::size_t>(i)]));
    }
    const SampleReport& bad = s.report.samples[3];
    CHECK(bad.status == Status::non_finite);
    CHECK(s.z.all_finite());
    if (bad.products > 0) continue;  // evaluations for differences have spoilt the count
    CHECK(bad.nstep == 7);
    CHECK((bad.best_step >= 1 && bad.best_step <= 6));
    CHECK(same_bits(s.z.rows(3, 4), iterates[static_cast<std::size_t>(bad.best_step - 1)].rows(3, 4)));
  }
}

TEST_CASE("a NaN at the first evaluation leaves the start") {
  const StateMap f = [](const Tensor& z) { return Tensor::full(z.shape(), not_a_number, z.dtype()); };
  const auto s = solve_scalar(Anderson{}, f, 0.25, {});
  CHECK(s.report.samples[0].status == Status::non_finite);
  CHECK(s.report.samples[0].nstep == 1);
  CHECK(s.report.samples[0].best_step == 0);
  CHECK(s.z.item() == 0.25);
}

TEST_CASE("an infinity is not finite, but large values are") {
  const auto s = solve_scalar(Picard{}, elementwise([](double z) { return z * z; }), 10.0,
                              {.max_steps = 100, .divergence_factor = infinity});
  CHECK(s.report.samples[0].status == Status::non_finite);
  CHECK(s.report.samples[0].nstep == 9);  // 10^512 is the first to overflow
  for (const auto& [dtype, scale] : {std::pair(DType::f64, 1e200), std::pair(DType::f64, 1e-200),
                                     std::pair(DType::f32, 1e30), std::pair(DType::f32, 1e-30)})
    for (const Solver& solver : {Solver(Picard{}), Solver(Anderson{}), Solver(Broyden{})}) {
      const Tensor z0 = Tensor::zeros({2, 50}, dtype);
      const auto big =
          solve_fixed_point(solver, elementwise([scale = scale](double z) { return 0.5 * z + scale; }), z0,
                            {.tolerance = 1e-5});
      CHECK(big.report.converged());
      CHECK(big.z.at(99) / scale == Approx(2.0).epsilon(1e-4));
      CHECK(big.report.samples[0].rel_lowest < 1e-5);
    }
}

TEST_CASE("an overflow of the residual itself is divergence") {
  const auto s = solve_scalar(Picard{}, elementwise([](double z) { return -z; }), 1.7e308, {});
  CHECK(s.report.samples[0].status == Status::diverged);
}

TEST_CASE("a sample in a batch is solved as if alone") {
  Random random(5);
  const Tensor u = random_state(6, 24, DType::f32, random), z0 = random_state(6, 24, DType::f32, random);
  const Matrix w = random_with_radius(24, 1.1, random);
  const StopOptions options{.max_steps = 300, .tolerance = 1e-5};
  for (const Solver& solver : all_solvers()) {
    const auto together = solve_fixed_point(solver, tanh_map(w, u), z0, options);
    int longest = 0;
    for (std::int64_t i = 0; i < 6; ++i) {
      const auto alone = solve_fixed_point(solver, tanh_map(w, u.rows(i, i + 1)), z0.rows(i, i + 1), options);
      CHECK(same_bits(alone.z, together.z.rows(i, i + 1)));
      CHECK(same_bits(alone.fz, together.fz.rows(i, i + 1)));
      CHECK(same(alone.report.samples[0], together.report.samples[static_cast<std::size_t>(i)]));
      longest = std::max(longest, alone.report.nstep);
    }
    CHECK(together.report.nstep == longest);
  }
}

TEST_CASE("a map is told which samples still count, and may spoil the others") {
  Random random(6);
  const Tensor u = random_state(8, 24, DType::f64, random);
  const StateMap plain = tanh_map(random_with_radius(24, 0.9, random), u);
  const StopOptions options{.max_steps = 300, .tolerance = 1e-8};
  for (const Solver& solver : all_solvers()) {
    CAPTURE(solver.name());
    std::int64_t wanted_rows = 0;
    const auto spoilt = [&](const Tensor& z, StateMap::Marks wanted) {
      Tensor fz = plain(z);
      for (std::size_t s = 0; s < wanted.size(); ++s)
        if (wanted[s])
          ++wanted_rows;
        else
          std::fill_n(fz.mutable_data<double>() + static_cast<std::int64_t>(s) * 24, 24, not_a_number);
      return fz;
    };
    const auto expected = solve_fixed_point(solver, plain, Tensor::zeros(u.shape(), DType::f64), options);
    const auto found =
        solve_fixed_point(solver, StateMap(spoilt), Tensor::zeros(u.shape(), DType::f64), options);
    CHECK(same_bits(found.z, expected.z));
    CHECK(same_bits(found.fz, expected.fz));
    std::int64_t evaluations = 0;
    for (std::size_t s = 0; s < 8; ++s) {
      CHECK(same(found.report.samples[s], expected.report.samples[s]));
      evaluations += expected.report.samples[s].nstep;
    }
    CHECK(wanted_rows <= evaluations);
    CHECK(wanted_rows > 8);
  }
}

TEST_CASE("a stopped sample is shown its answer from then on") {
  // Sample 0 starts at its fixed point, sample 1 far away.
  std::vector<double> seen;
  const StateMap f = [&](const Tensor& z) {
    seen.push_back(z.at(0));
    return elementwise([](double x) { return 0.5 * x + 1.0; })(z);
  };
  const auto s = solve_fixed_point(Broyden{}, f, tensor({2.0, 50.0}, {2, 1}), {.tolerance = 1e-9});
  CHECK(s.report.converged());
  CHECK(s.report.samples[0].nstep == 1);
  CHECK(s.report.samples[1].nstep > 1);
  CHECK(std::all_of(seen.begin(), seen.end(), [](double z) { return z == 2.0; }));
}

TEST_CASE("results do not depend on the number of threads") {
  for (const Solver& solver : all_solvers()) {
    const bool dense =
        solver.get_if<Newton>() || solver.get_if<LevenbergMarquardt>() || solver.get_if<Fallback>();
    const std::int64_t n = dense ? 40 : 300;
    Random random(3);
    const Tensor u = random_state(64, n, DType::f32, random);
    const StateMap f = layer(random_orthogonal(n, random), u, [](double x) { return 0.9 * std::sin(x); });
    std::vector<FixedPointSolution> solutions;
    const KeepThreads keep;
    for (const int threads : {1, 2, 4}) {
      set_threads(threads);
      solutions.push_back(
          solve_fixed_point(solver, f, Tensor::zeros({64, n}), {.max_steps = 12, .tolerance = 1e-6}));
    }
    for (int i : {1, 2}) {
      CHECK(same_bits(solutions[0].z, solutions[static_cast<std::size_t>(i)].z));
      CHECK(solutions[0].report.trace.abs_trace ==
            solutions[static_cast<std::size_t>(i)].report.trace.abs_trace);
    }
  }
}

TEST_CASE("maps that return their argument, or keep it, are safe") {
  const auto identity =
      solve_fixed_point(Picard{}, [](const Tensor& z) { return z; }, tensor({1.0, 2.0}, {2, 1}), {});
  CHECK(identity.report.converged());
  CHECK(identity.z.at(1) == 2.0);
  std::vector<Tensor> kept;
  const Tensor z0 = Tensor::zeros({2, 1}, DType::f64);
  const auto s = solve_fixed_point(Picard{},
                                   [&](const Tensor& z) {
                                     kept.push_back(z);
                                     return elementwise([](double x) { return 0.5 * x + 1.0; })(z);
                                   },
                                   z0, {.tolerance = 1e-9});
  CHECK(z0.at(0) == 0.0);
  for (std::size_t k = 0; k < kept.size(); ++k)
    CHECK(kept[k].at(1) == Approx(2.0 - std::pow(0.5, double(k) - 1.0)));
  CHECK(s.z.at(0) == kept.back().at(0));
}

TEST_CASE("the trace is whole, or at most 64 evenly spaced rows") {
  const StateMap f = elementwise([](double z) { return 0.999 * z + 1.0; });
  const Tensor z0 = tensor({0.0, 500.0}, {2, 1});
  for (const int steps : {1, 2, 63, 64, 65, 127, 128, 129, 1000, 5000}) {
    const StopOptions options{.max_steps = steps, .tolerance = 1e-12, .whole_trace = false};
    const auto s = solve_fixed_point(Picard{}, f, z0, options);
    const ResidualTrace& t = s.report.trace;
    const int rows = static_cast<int>(t.steps.size()), stride = rows > 1 ? t.steps[1] - t.steps[0] : 1;
    CHECK(rows <= 64);
    CHECK(rows >= std::min(steps, 32));
    CHECK(t.abs_trace.size() == t.steps.size() * 2);
    for (int i = 0; i < rows; ++i) {
      const auto at = static_cast<std::size_t>(i);
      CHECK(t.steps[at] == 1 + i * stride);
      CHECK(t.abs_trace[2 * at] == Approx(std::pow(0.999, t.steps[at] - 1)).epsilon(1e-9));
      CHECK(t.abs_trace[2 * at + 1] == Approx(0.5 * std::pow(0.999, t.steps[at] - 1)).epsilon(1e-9));
    }
    StopOptions whole = options;
    whole.whole_trace = true;
    CHECK(solve_fixed_point(Picard{}, f, z0, whole).report.trace.steps.size() ==
          static_cast<std::size_t>(steps));
  }
}

TEST_CASE("no evaluations, no samples, no elements") {
  const StateMap never = [](const Tensor&) -> Tensor { throw std::logic_error("must not be called"); };
  const Tensor z0 = tensor({1.0, 2.0}, {1, 2});
  for (const Solver& solver : all_solvers()) {
    const auto s = solve_fixed_point(solver, never, z0, {.max_steps = 0});
    CHECK(same_bits(s.z, z0));
    CHECK(s.report.samples[0].status == Status::max_steps);
    CHECK(s.report.samples[0].abs_lowest == infinity);
    CHECK(s.report.nstep == 0);
    const auto empty = solve_fixed_point(solver, never, Tensor::zeros({0, 5}), {});
    CHECK(empty.z.shape() == Shape{0, 5});
    CHECK(empty.report.converged());
    const auto narrow =
        solve_fixed_point(solver, [](const Tensor& z) { return z; }, Tensor::zeros({3, 0}), {});
    CHECK(narrow.report.count(Status::converged) == 3);
  }
}

TEST_CASE("wrong maps and options are named") {
  const Tensor z0 = Tensor::zeros({2, 3});
  const StateMap id = [](const Tensor& z) { return z; };
  CHECK_THROWS_WITH(solve_fixed_point(Picard{},
                                      [](const Tensor&) {
                                        return Tensor::zeros({2, 4});
                                      },
                                      z0, {}),
                    "[fixed_point] the map must keep the shape: (2,3) -> (2,4)");
  CHECK_THROWS_WITH(solve_fixed_point(Picard{}, [](const Tensor& z) { return z.to(DType::f64); }, z0, {}),
                    "[fixed_point] the map must keep the dtype: f32 -> f64; cast inside it");
  CHECK_THROWS_AS(solve_fixed_point(Picard{}, id, Tensor::zeros({2}), {}), ShapeError);
  CHECK_THROWS_AS(solve_fixed_point(Picard{}, id, Tensor::zeros({2, 3}, DType::i64), {}), DTypeError);
  CHECK_THROWS_WITH(solve_fixed_point(Picard{}, id, z0, {.max_steps = -1}),
                    "[fixed_point] max_steps must not be negative: got -1");
  CHECK_THROWS_AS(solve_fixed_point(Picard{}, id, z0, {.tolerance = -1e-3}), ValueError);
  CHECK_THROWS_AS(solve_fixed_point(Picard{}, id, z0, {.tolerance = not_a_number}), ValueError);
  CHECK_THROWS_AS(solve_fixed_point(Picard{}, id, z0, {.absolute_tolerance = infinity}), ValueError);
  CHECK_THROWS_AS(solve_fixed_point(Picard{}, id, z0, {.error_factor = 0.0}), ValueError);
  CHECK_THROWS_AS(solve_fixed_point(Picard{}, id, z0, {.divergence_factor = not_a_number}), ValueError);
  CHECK_THROWS_AS(solve_fixed_point(Picard{}, id, z0, {.stagnation_window = 0}), ValueError);
  CHECK_THROWS_AS(solve_fixed_point(Picard{.damping = 0.0}, id, z0, {}), ValueError);
  CHECK_THROWS_AS(solve_fixed_point(Anderson{.memory = 0}, id, z0, {}), ValueError);
  CHECK_THROWS_AS(solve_fixed_point(Anderson{.ridge = -1.0}, id, z0, {}), ValueError);
  CHECK_THROWS_WITH(solve_fixed_point(Broyden{.damping = infinity}, id, z0, {}),
                    "[broyden] damping must be positive and finite: got inf");
}

namespace {

// A solver as a user would write it: half the way to f.
struct HalfwayStepper final : Stepper {
  void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) override {
    for (std::size_t s = 0; s < active.size(); ++s)
      if (active[s]) next.mutable_data<double>()[s] = 0.5 * (z.data<double>()[s] + fz.data<double>()[s]);
  }
};

struct Halfway {
  static constexpr std::string_view name = "halfway";
  std::unique_ptr<Stepper> start(std::int64_t, std::int64_t, DType) const {
    return std::make_unique<HalfwayStepper>();
  }
};

}  // namespace

TEST_CASE("a solver of one's own") {
  const auto s =
      solve_scalar(Halfway{}, elementwise([](double z) { return std::cos(z); }), 0.0, {.tolerance = 1e-10});
  const auto picard = solve_scalar(Picard{.damping = 0.5}, elementwise([](double z) { return std::cos(z); }),
                                   0.0, {.tolerance = 1e-10});
  CHECK(s.report.converged());
  CHECK(s.report.solver == "halfway");
  CHECK(s.report.nstep == picard.report.nstep);
}

TEST_CASE("the monitor decides by the formulas of status.hpp") {
  const StopOptions options{.max_steps = 1000,
                            .tolerance = 1e-2,
                            .absolute_tolerance = 1e-3,
                            .error_factor = 10.0,
                            .divergence_factor = 50.0,
                            .stagnation_window = 8};
  SampleMonitor monitor(options, 1e-16);
  SECTION("the error estimate needs a rate, so one small residual is not enough") {
    CHECK(monitor.observe({1e-3, 1.0, 0.0}));
    CHECK_FALSE(monitor.stopped());
    CHECK(monitor.observe({5e-4, 1.0, 2e-3}));  // error = 5e-4 (2e-3 / 1e-3) / (1 - 1/2) = 2e-3
    CHECK(monitor.report().status == Status::converged);
    CHECK(monitor.report().error_estimate == Approx(2e-3));
  }
  SECTION("a large estimated error holds convergence back") {
    monitor.observe({1e-3, 1.0, 0.0});
    monitor.observe({0.995e-3, 1.0, 1e-3});  // error = 0.199 > 10 (1e-3 + 1e-2)
    CHECK_FALSE(monitor.stopped());
    CHECK(monitor.report().error_estimate == Approx(0.199));
  }
  SECTION("the rate is the geometric mean of the last five ratios") {
    for (const double residual : {9.0, 8.0, 4.0, 5.0, 3.0, 2.0, 1.0}) monitor.observe({residual, 0.1, 1.0});
    CHECK(monitor.report().rate == Approx(std::pow(1.0 / 8.0, 0.2)));
  }
  SECTION("divergence is measured against the first residual") {
    monitor.observe({1.0, 1.0, 0.0});
    monitor.observe({1e-1, 1.0, 1.0});
    monitor.observe({50.0, 1.0, 1.0});
    CHECK_FALSE(monitor.stopped());
    CHECK_FALSE(monitor.observe({50.1, 1.0, 1.0}));
    CHECK(monitor.report().status == Status::diverged);
    CHECK(monitor.report().best_step == 2);
  }
  SECTION("a trial that is refused counts as an evaluation and as nothing else") {
    monitor.observe({1.0, 1.0, 0.0});
    CHECK_FALSE(monitor.observe(
        {.residual = 0.9, .norm = 1.0, .step_length = 9.0, .info = {.trial = true, .limit = 0.8}}));
    CHECK_FALSE(monitor.observe({.residual = 0.0, .finite = false, .info = {.trial = true}}));
    CHECK_FALSE(monitor.stopped());
    CHECK(monitor.report().nstep == 3);
    CHECK(monitor.report().best_step == 1);
    CHECK(monitor.observe(
        {.residual = 0.8, .norm = 1.0, .step_length = 2.0, .info = {.trial = true, .limit = 0.8}}));
    CHECK(monitor.report().best_step == 4);
    CHECK(monitor.report().rate == Approx(0.8));
    CHECK(monitor.report().error_estimate == Approx(0.8 * 2.0 / (1.0 - 0.8)));
    CHECK(monitor.report().rel_lowest == Approx(0.8));
  }
  SECTION("after a restart the rate begins anew, the best iterate stays") {
    for (const double residual : {1.0, 0.5, 0.25}) monitor.observe({residual, 1.0, 1.0});
    CHECK_FALSE(
        monitor.observe({.residual = 4.0, .norm = 1.0, .step_length = 1.0, .info = {.restarted = true}}));
    CHECK(monitor.report().rate == 1.0);
    CHECK_FALSE(monitor.observe({3.0, 1.0, 1.0}));
    CHECK(monitor.report().rate == Approx(0.75));
    CHECK(monitor.report().best_step == 3);
    CHECK(monitor.report().abs_lowest == 0.25);
  }
  SECTION("a value that is not finite ends an iterate") {
    monitor.observe({1.0, 1.0, 0.0});
    CHECK_FALSE(monitor.observe({.residual = 0.0, .finite = false}));
    CHECK(monitor.report().status == Status::non_finite);
    CHECK(monitor.report().nstep == 2);
    CHECK(monitor.report().best_step == 1);
  }
  SECTION("a zero residual is converged, with no error") {
    monitor.observe({1.0, 1.0, 0.0});
    CHECK(monitor.observe({0.0, 0.0, 1.0}));
    CHECK(monitor.report().status == Status::converged);
    CHECK(monitor.report().error_estimate == 0.0);
    CHECK(monitor.report().rel_lowest == 0.0);
  }
  SECTION("stagnation: no fall by 0.1 % over the window") {
    monitor.observe({1.0, 1.0, 0.0});
    for (int k = 2; k <= 8; ++k) monitor.observe({0.9995, 1.0, 1.0});
    CHECK_FALSE(monitor.stopped());
    monitor.observe({0.9991, 1.0, 1.0});
    CHECK(monitor.report().status == Status::stagnated);
    CHECK(monitor.report().nstep == 9);
  }
}

TEST_CASE("the monitor: budgets, rounding, and the tolerance that is not given") {
  const auto run = [](const StopOptions& options, const std::vector<Measurement>& measured) {
    SampleMonitor monitor(options, 1e-16);
    for (const Measurement& m : measured) {
      CHECK_FALSE(monitor.stopped());
      monitor.observe(m);
    }
    return std::pair{monitor.stopped(), monitor.report().status};
  };
  const std::pair ended{true, Status::converged}, goes_on{false, Status::max_steps},
      spent{true, Status::max_steps};
  // Evaluations of the solver's own count as the loop's do.
  CHECK(run({.max_steps = 3}, {{1.0, 1.0, 0.0}, {0.9, 1.0, 1.0}}) == goes_on);
  CHECK(run({.max_steps = 3}, {{1.0, 1.0, 0.0}, {0.9, 1.0, 1.0}, {0.8, 1.0, 1.0}}) == spent);
  CHECK(run({.max_steps = 3},
            {{1.0, 1.0, 0.0}, {.residual = 0.9, .norm = 1.0, .info = {.evaluations = 1}}}) == spent);
  CHECK(run({.max_steps = 3},
            {{1.0, 1.0, 0.0}, {.residual = 2.0, .info = {.trial = true, .limit = 1.0, .evaluations = 1}}}) ==
        spent);
  // 2 eps ||f(z)||, at once, or after a fall; not where the residual has grown, nor where it may not count.
  const StopOptions exact{.tolerance = 0.0}, strict{.tolerance = 0.0, .accept_rounding = false};
  CHECK(run(exact, {{1.9e-16, 1.0, 0.0}}) == ended);
  CHECK(run(exact, {{2.1e-16, 1.0, 0.0}}) == goes_on);
  CHECK(run(strict, {{1.9e-16, 1.0, 0.0}}) == goes_on);
  CHECK(run(exact, {{1e-3, 1.0, 0.0}, {1e-16, 1.0, 1.0}}) == ended);
  CHECK(run(exact, {{1e-3, 1.0, 0.0}, {1e-2, 1e15, 1.0}}) == goes_on);
  CHECK(run(exact, {{1e-3, 1.0, 0.0}, {1e-3, 1e15, 1.0}}) == goes_on);
  // 1e-6 tolerance min(1, r_1) where f(z) is zero.
  const StopOptions tenth{.tolerance = 0.1, .error_factor = 1e30};
  CHECK(run(tenth, {{0.5, 0.0, 0.0}, {4.9e-8, 0.0, 1.0}}) == ended);
  CHECK(run(tenth, {{0.5, 0.0, 0.0}, {5.1e-8, 0.0, 1.0}}) == goes_on);
  CHECK(run(tenth, {{3.0, 0.0, 0.0}, {0.9e-7, 0.0, 1.0}}) == ended);
  CHECK(run(tenth, {{3.0, 0.0, 0.0}, {1.1e-7, 0.0, 1.0}}) == goes_on);
}

TEST_CASE("the history that a report tells is the memory that the solver holds") {
  const StateMap same = [](const Tensor& z) { return z.clone(); };
  const FixedPointProblem problem{same,
                                  [&](const Tensor&) { return Linearization{.jvp = same, .vjp = same}; }};
  for (const DType dtype : {DType::f32, DType::f64})
    for (const auto& [batch, n] : {std::pair<std::int64_t, std::int64_t>{3, 150}, {1, 300}, {40, 20}})
      for (const Solver& solver :
           {Solver(Picard{}), Solver(Anderson{}), Solver(Anderson{.memory = 12}), Solver(Broyden{}),
            Solver(Broyden{.memory = 3}), Solver(AdjointBroyden{}), Solver(Newton{}), Solver(NewtonKrylov{}),
            Solver(LevenbergMarquardt{}), Solver(Fallback{{{Anderson{}, 5}, {Broyden{}, 5}}})}) {
        CAPTURE(solver.name(), batch, n, name(dtype));
        const auto before = memory::stats().live_bytes;
        const auto stepper = solver.start(problem, batch, n, dtype);
        Tensor next = Tensor::zeros({batch, n}, dtype);
        const Tensor z = Tensor::ones({batch, n}, dtype), fz = Tensor::full({batch, n}, 2.0, dtype);
        stepper->propose(z, fz, PoolVector<char>(static_cast<std::size_t>(batch), 1), next);
        const std::int64_t state = batch * n * static_cast<std::int64_t>(size_of(dtype));
        const auto held = static_cast<double>(memory::stats().live_bytes - before - 3 * state);
        const auto told = static_cast<double>(stepper->history_bytes());
        // What is kept of each sample besides, and rounding up to sizes of blocks.
        const double others = 4000.0 + 300.0 * static_cast<double>(batch);
        CHECK(told <= held + 2000.0);
        CHECK(held <= 1.25 * told + others);
      }
}
