// Newton's methods and the fallback chain: rates, costs, derivatives from wherever they come, safeguards.
#include "all_solvers.hpp"
#include "maps.hpp"

using namespace banach;
using namespace banach::test;

namespace {

enum class Given { nothing, jvp, vjp, both };

// z -> tanh(W z + u) and its derivative diag(1 - f^2) W, as far as it is given.
FixedPointProblem tanh_problem(const Matrix& w, const Tensor& u, Given given) {
  FixedPointProblem p{tanh_map(w, u), {}};
  if (given == Given::nothing) return p;
  p.linearize = [w, given, f = p.f](const Tensor& z) {
    const Tensor slope = f(z).to(DType::f64);
    const auto product = [w, slope](bool transposed) {
      return per_sample([w, slope, transposed](std::int64_t s, const auto* in, auto* out, std::int64_t n) {
        const auto d = [&](std::int64_t i) { return 1.0 - std::pow(slope.at(s * n + i), 2); };
        for (std::int64_t i = 0; i < n; ++i) {
          double sum = 0.0;
          for (std::int64_t j = 0; j < n; ++j)
            sum += (transposed ? w(j, i) * d(j) : w(i, j) * d(i)) * static_cast<double>(in[j]);
          out[i] = static_cast<std::decay_t<decltype(*out)>>(sum);
        }
      });
    };
    Linearization j;
    if (given != Given::vjp) j.jvp = product(false);
    if (given != Given::jvp) j.vjp = product(true);
    return j;
  };
  return p;
}

// A root of a scalar F with derivative dF.
template <class F, class D>
FixedPointProblem root_of(F f, D df) {
  return {elementwise([f](double z) { return z - f(z); }), [df](const Tensor& z) {
            return Linearization{
                .jvp = per_sample([df, z](std::int64_t s, const auto* in, auto* out, std::int64_t) {
                  out[0] = static_cast<std::decay_t<decltype(*out)>>((1.0 - df(z.at(s))) *
                                                                     static_cast<double>(in[0]));
                })};
          }};
}

constexpr StopOptions root_options{.max_steps = 1000,
                                   .tolerance = 0.0,
                                   .absolute_tolerance = 1e-8,
                                   .divergence_factor = 1e12,
                                   .accept_rounding = false};

FixedPointSolution solve_root(const Solver& solver, const FixedPointProblem& p, double z0) {
  return solve_fixed_point(solver, p, Tensor::full({1, 1}, z0, DType::f64), root_options);
}

double distance(const Tensor& a, const Tensor& b) {
  double squares = 0.0;
  for (std::int64_t i = 0; i < a.size(); ++i) squares += std::pow(a.at(i) - b.at(i), 2);
  return std::sqrt(squares);
}

}  // namespace

TEST_CASE("Newton's methods find the fixed points that Picard finds, in few steps") {
  const Given given = GENERATE(Given::nothing, Given::jvp, Given::vjp, Given::both);
  const DType dtype = GENERATE(DType::f32, DType::f64);
  Random random(3);
  const Matrix w = random_with_radius(20, 0.9, random);
  const Tensor u = random_state(6, 20, dtype, random);
  const double tolerance = dtype == DType::f32 ? 1e-5 : 1e-10;
  const auto picard =
      solve_fixed_point(Picard{}, tanh_map(w, u), u, {.max_steps = 2000, .tolerance = tolerance * 1e-2});
  REQUIRE(picard.report.converged());
  for (const Solver& solver : newton_solvers()) {
    const auto s =
        solve_fixed_point(solver, tanh_problem(w, u, given), u, {.max_steps = 1000, .tolerance = tolerance});
    CAPTURE(s.report.solver, s.report.to_string());
    CHECK(s.report.converged());
    CHECK(s.report.nstep <= 15);
    CHECK(distance(s.z, picard.z) < 1e3 * tolerance);
    for (const SampleReport& r : s.report.samples) CHECK_FALSE(r.singular_root);
  }
}

TEST_CASE("products with the Jacobian are counted, and those by differences count as evaluations") {
  Random random(4);
  const Matrix w = random_with_radius(10, 0.8, random);
  const Tensor u = random_state(2, 10, DType::f64, random);
  for (const Given given : {Given::nothing, Given::jvp}) {
    FixedPointProblem p = tanh_problem(w, u, given);
    int evaluations = 0;
    p.f = [&evaluations, f = p.f](const Tensor& z) {
      ++evaluations;
      return f(z);
    };
    for (const Solver& solver : {Solver(Newton{}), Solver(LevenbergMarquardt{})}) {
      evaluations = 0;
      const auto s = solve_fixed_point(solver, p, u, {.max_steps = 200, .tolerance = 1e-9});
      REQUIRE(s.report.converged());
      const SampleReport& r = s.report.samples[0];
      CHECK(r.products == 10 * (r.nstep - 1));  // every trial was accepted
      CHECK(evaluations >= s.report.nstep + (given == Given::nothing ? r.products : 0));
      // A budget for the start, one Jacobian and one step.
      const auto few = solve_fixed_point(solver, p, u, {.max_steps = 12, .tolerance = 1e-9});
      CHECK(few.report.samples[0].nstep == (given == Given::nothing ? 2 : s.report.samples[0].nstep));
    }
  }
  const auto krylov = solve_fixed_point(NewtonKrylov{}, tanh_problem(w, u, Given::jvp), u,
                                        {.max_steps = 200, .tolerance = 1e-4});
  CHECK(krylov.report.converged());
  CHECK(krylov.report.samples[0].products < 5 * krylov.report.samples[0].nstep);
}

TEST_CASE("a linearisation without products is named") {
  const FixedPointProblem p{elementwise([](double z) { return 0.5 * z; }),
                            [](const Tensor&) { return Linearization{}; }};
  CHECK_THROWS_WITH(solve_root(Newton{}, p, 1.0), "[newton] linearize must give jvp or vjp: both are empty");
}

TEST_CASE("a line search or a trust region makes Newton's method converge from afar") {
  const FixedPointProblem p =
      root_of([](double x) { return std::atan(x); }, [](double x) { return 1.0 / (1.0 + x * x); });
  CHECK_FALSE(solve_root(Newton{.line_search = false}, p, 5.0).report.converged());
  for (const Solver& solver :
       {Solver(Newton{}), Solver(NewtonKrylov{}), Solver(LevenbergMarquardt{}), Solver(Fallback{})}) {
    const auto s = solve_root(solver, p, 5.0);
    CHECK(s.report.converged());
    CHECK(std::abs(s.z.item()) <= 1e-8);
    CHECK(s.report.nstep < 20);
    CHECK_FALSE(s.report.samples[0].singular_root);
  }
}

TEST_CASE("a trial where F is not finite is backed off from, and is no end") {
  // Newton's first step from 10 leads to 10 - 10 log 10 < 0.
  const FixedPointProblem p = root_of([](double x) { return std::log(x); }, [](double x) { return 1.0 / x; });
  for (const Solver& solver : newton_solvers()) {
    const auto s = solve_root(solver, p, 10.0);
    CHECK(s.report.converged());
    CHECK(s.z.item() == Approx(1.0));
  }
}

TEST_CASE("rejected trials leave rate and error estimate alone") {
  const FixedPointProblem p =
      root_of([](double x) { return std::atan(x); }, [](double x) { return 1.0 / (1.0 + x * x); });
  StopOptions options = root_options;
  options.whole_trace = true;
  const auto s = solve_fixed_point(Newton{}, p, Tensor::full({1, 1}, 5.0, DType::f64), options);
  // The trace repeats the residual of the iterate at a rejected trial, and never rises.
  const auto& trace = s.report.trace.abs_trace;
  REQUIRE(trace.size() == static_cast<std::size_t>(s.report.nstep));
  CHECK(std::is_sorted(trace.rbegin(), trace.rend()));
  CHECK(trace[1] == trace[0]);
  CHECK(s.report.samples[0].rate < 1.0);
}

TEST_CASE("where there is no root, nothing is reported as one") {
  const FixedPointProblem p = root_of([](double x) { return x * x + 1.0; }, [](double x) { return 2.0 * x; });
  for (const double z0 : {3.0, 0.5, 0.0})
    for (const Solver& solver : newton_solvers()) {
      const auto s = solve_root(solver, p, z0);
      CHECK_FALSE(s.report.converged());
      CHECK(s.report.samples[0].abs_lowest == Approx(1.0 + s.z.item() * s.z.item()));
    }
  CHECK(solve_root(Newton{}, p, 0.0).report.samples[0].status == Status::stagnated);
  CHECK(solve_root(LevenbergMarquardt{}, p, 3.0).report.samples[0].status == Status::stagnated);
}

TEST_CASE("a singular Jacobian: the step of least squares") {
  // F = (x + y - 2, 2 (x + y - 2)): roots on a line, the nearest to (3, 1) being (2, 0).
  const FixedPointProblem p{
      per_sample([](std::int64_t, const auto* in, auto* out, std::int64_t) {
        using T = std::decay_t<decltype(*in)>;
        const T sum = in[0] + in[1] - T{2};
        out[0] = in[0] - sum;
        out[1] = in[1] - T{2} * sum;
      }),
      [](const Tensor&) {
        return Linearization{.jvp = per_sample([](std::int64_t, const auto* in, auto* out, std::int64_t) {
                               using T = std::decay_t<decltype(*in)>;
                               out[0] = -in[1];
                               out[1] = in[1] - T{2} * (in[0] + in[1]);
                             })};
      }};
  for (const Solver& solver :
       {Solver(Newton{}), Solver(LevenbergMarquardt{.scaled = false}), Solver(Fallback{})}) {
    const auto s = solve_fixed_point(solver, p, tensor({3.0, 1.0}, {1, 2}), root_options);
    CHECK(s.report.converged());
    CHECK(s.z.at(0) == Approx(2.0));
    CHECK(s.z.at(1) == Approx(0.0).margin(1e-8));
    CHECK(s.report.samples[0].singular_root);
  }
}

TEST_CASE("units far apart in rows and columns are no singularity") {
  Random random(8);
  Matrix w = random_with_radius(12, 0.9, random);
  for (std::int64_t i = 0; i < 12; ++i)
    for (std::int64_t j = 0; j < 12; ++j) w(i, j) *= std::pow(10.0, static_cast<double>(i - j));
  const Tensor u = random_state(4, 12, DType::f64, random);
  const auto s = solve_fixed_point(Newton{}, linear_map(w, u), u, {.max_steps = 200, .tolerance = 1e-6});
  CHECK(s.report.converged());
  for (const SampleReport& r : s.report.samples) CHECK_FALSE(r.singular_root);
}

TEST_CASE("the options of Newton's methods are checked") {
  const StateMap id = [](const Tensor& z) { return z; };
  const Tensor z0 = Tensor::zeros({1, 2});
  CHECK_THROWS_WITH(solve_fixed_point(NewtonKrylov{.krylov = 0}, id, z0, {}),
                    "[newton_krylov] krylov must be at least 1: got 0");
  CHECK_THROWS_AS(solve_fixed_point(NewtonKrylov{.forcing = 1.0}, id, z0, {}), ValueError);
  CHECK_THROWS_AS(solve_fixed_point(LevenbergMarquardt{.radius = 0.0}, id, z0, {}), ValueError);
  CHECK_THROWS_WITH(solve_fixed_point(Fallback{{}}, id, z0, {}),
                    "[fallback] needs at least one member: got none");
  CHECK_THROWS_WITH(solve_fixed_point(Fallback{{{Picard{}, 0}}}, id, z0, {}),
                    "[fallback] a member needs at least one step: got 0 for picard");
}

TEST_CASE("a chain: each sample goes on to the next member when it must, and only then") {
  // Picard solves sample 0 (slope 1/2), diverges on sample 1 (slope 2) and goes in circles on sample 2.
  const StateMap f = per_sample([](std::int64_t s, const auto* in, auto* out, std::int64_t) {
    using T = std::decay_t<decltype(*in)>;
    const double z = static_cast<double>(in[0]);
    out[0] = static_cast<T>(s == 0 ? 0.5 * z + 1.0 : s == 1 ? 2.0 * z + 1.0 : 3.0 - z);
  });
  const Fallback chain{{{Picard{}, 40}, {Broyden{}, 50}}};
  const auto s =
      solve_fixed_point(chain, f, Tensor::zeros({3, 1}, DType::f64), {.max_steps = 200, .tolerance = 1e-8});
  CHECK(s.report.solver == "fallback");
  CHECK(s.report.converged());
  CHECK(s.z.at(0) == Approx(2.0));
  CHECK(s.z.at(1) == Approx(-1.0));
  CHECK(s.z.at(2) == Approx(1.5));
  const auto picard = solve_fixed_point(Picard{}, f, Tensor::zeros({1, 1}, DType::f64),
                                        {.max_steps = 200, .tolerance = 1e-8});
  CHECK(s.report.samples[0].nstep == picard.report.nstep);
  CHECK(s.report.samples[1].nstep < 30);  // at divergence, after 21 evaluations
  CHECK(s.report.samples[2].nstep > 41);  // after its share
}

TEST_CASE("a chain goes back to the first iterate, or to the best") {
  // Picard leads from 0.3 to 0.2; what the second member is shown first tells where it started.
  const StateMap f = elementwise([](double z) { return 0.5 * z + 0.05; });
  for (const bool from_best : {false, true}) {
    std::vector<double> seen;
    const StateMap watched = [&](const Tensor& z) {
      seen.push_back(z.item());
      return f(z);
    };
    const Fallback chain{{{Picard{}, 2}, {Picard{.damping = 0.5}, 10, from_best}}};
    solve_fixed_point(chain, watched, Tensor::full({1, 1}, 0.3, DType::f64),
                      {.max_steps = 4, .tolerance = 1e-12});
    REQUIRE(seen.size() == 4);
    CHECK(seen[1] == Approx(0.2));
    CHECK(seen[2] == Approx(0.15));
    const double start = from_best ? 0.15 : 0.3;
    CHECK(seen[3] == Approx(start + 0.5 * (0.05 - 0.5 * start)));
  }
}

TEST_CASE("a chain: samples that change members at different times are solved as if alone") {
  // Slopes from a contraction to a repelling one, so that some stay, and others leave sooner or later.
  const std::int64_t n = 3, batch = 5;
  const DType dtype = GENERATE(DType::f64, DType::f32);
  const bool from_best = GENERATE(false, true);
  Random random(8);
  const Tensor u = random_state(batch, n, dtype, random), z0 = random_state(batch, n, dtype, random);
  const auto map = [&](std::int64_t first) {
    return per_sample([=](std::int64_t s, const auto* in, auto* out, std::int64_t) {
      using T = std::decay_t<decltype(*in)>;
      const double slope = 0.3 + 0.5 * static_cast<double>(s + first);
      for (std::int64_t i = 0; i < n; ++i)
        out[i] = static_cast<T>(std::sin(slope * static_cast<double>(in[(i + 1) % n])) +
                                u.at((s + first) * n + i));
    });
  };
  const StopOptions options{
      .max_steps = 60, .tolerance = dtype == DType::f32 ? 1e-5 : 1e-10, .stagnation_window = 9};
  const Fallback chain{
      {{Picard{}, 7}, {Anderson{}, 5, from_best}, {Broyden{}, 9, from_best}, {Newton{}, 30}}};
  const auto together = solve_fixed_point(chain, map(0), z0, options);
  for (std::int64_t s = 0; s < batch; ++s) {
    CAPTURE(s);
    const auto alone = solve_fixed_point(chain, map(s), z0.rows(s, s + 1).clone(), options);
    const SampleReport &a = together.report.samples[static_cast<std::size_t>(s)],
                       &b = alone.report.samples[0];
    CHECK(a.status == b.status);
    CHECK(a.nstep == b.nstep);
    CHECK(a.products == b.products);
    CHECK(same_bits(together.z.rows(s, s + 1), alone.z));
  }
  CHECK(together.report.samples[0].nstep < together.report.nstep);
}

TEST_CASE("a chain's last member has the rest, and its status is the sample's") {
  const StateMap f = elementwise([](double z) { return z + 1.0; });
  const auto s = solve_fixed_point(Fallback{{{Picard{}, 5}, {Picard{}, 5}}}, f,
                                   Tensor::zeros({1, 1}, DType::f64), {.max_steps = 50});
  CHECK(s.report.samples[0].status == Status::max_steps);
  CHECK(s.report.nstep == 50);
  const auto stuck = solve_fixed_point(Fallback{{{Newton{}, 5}, {LevenbergMarquardt{}, 5}}}, f,
                                       Tensor::zeros({1, 1}, DType::f64), {.max_steps = 50});
  CHECK(stuck.report.samples[0].status == Status::stagnated);
}

TEST_CASE("the report of a chain counts the products of all its members", "[fallback]") {
  int products = 0;
  FixedPointProblem p =
      root_of([](double z) { return z * z * z - 8.0; }, [](double z) { return 3.0 * z * z; });
  p.linearize = [&products, inner = p.linearize](const Tensor& z) {
    return Linearization{.jvp = [&products, jvp = inner(z).jvp](const Tensor& v) {
      ++products;
      return jvp(v);
    }};
  };
  const auto s = solve_root(Fallback{{{Newton{}, 3}, {LevenbergMarquardt{}, 3}, {Newton{}, 100}}}, p, 1e4);
  CHECK(s.report.converged());
  CHECK(s.report.nstep > 6);  // all three had their turn
  CHECK(s.report.samples[0].products == products);
}

TEST_CASE("Newton's step does not depend on the units of the equations", "[newton]") {
  // u (z0 + z1 - 3) = 0 and z0 - z1 + 1 = 0, at (1, 2), in either order.
  const double unit = GENERATE(1.0, 1e18);
  const bool first = GENERATE(true, false);
  const double a[2] = {first ? unit : 1.0, first ? unit : -1.0},
               b[2] = {first ? 1.0 : unit, first ? -1.0 : unit};
  const double at[2] = {first ? 3.0 * unit : -1.0, first ? -1.0 : 3.0 * unit};
  const auto image = [=](const double* z, int row, double shift) {
    const double* w = row == 0 ? a : b;
    return z[row] - (w[0] * z[0] + w[1] * z[1] - shift);
  };
  const FixedPointProblem p{[=](const Tensor& z) {
                              Tensor out = Tensor::empty(z.shape(), z.dtype());
                              for (int i = 0; i < 2; ++i)
                                out.mutable_data<double>()[i] = image(z.data<double>(), i, at[i]);
                              return out;
                            },
                            [=](const Tensor&) {
                              return Linearization{.jvp = [=](const Tensor& v) {
                                Tensor out = Tensor::empty(v.shape(), v.dtype());
                                for (int i = 0; i < 2; ++i)
                                  out.mutable_data<double>()[i] = image(v.data<double>(), i, 0.0);
                                return out;
                              }};
                            }};
  const auto s = solve_fixed_point(Newton{}, p, Tensor::zeros({1, 2}, DType::f64),
                                   {.max_steps = 4, .tolerance = 0.0, .divergence_factor = 1e300});
  CHECK(s.z.at(0) == Approx(1.0).epsilon(1e-9));
  CHECK(s.z.at(1) == Approx(2.0).epsilon(1e-9));
}
