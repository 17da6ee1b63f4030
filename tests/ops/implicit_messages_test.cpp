// What users of the implicit nodes run into first: each failure names its cause, in its own words.
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/linear_solve.hpp>
#include <banach/ops/implicit/minimize.hpp>
#include <banach/ops/implicit/monotone.hpp>
#include <banach/ops/implicit/root.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

Var ones(const Shape& shape) { return Var(Tensor::ones(shape, DType::f64)); }

}  // namespace

TEST_CASE(
    "an f that mixes the samples of axis 0 is named as the cause, and never gives a wrong exact gradient") {
  const std::int64_t batch = 5, n = 4;
  const Tensor u = normal({batch, n}, 1);
  int hints = 0;
  for (const double strength : {-3.0, -1.0, 0.3, 0.6})
    for (const LinearSolver& solver :
         {LinearSolver(Gmres{}), LinearSolver(BiCgStab{}), LinearSolver(Dense{})}) {
      const auto solve = [&](const Var& theta, Batch batching, Policy policy) {
        return fixed_point(
            [&](const Var& z) { return 0.3 * tanh(z) + strength * mean(z, {0}, true) + theta; },
            zeros_like(theta),
            {.solver = Broyden{},
             .backward = Implicit{solver},
             .tolerance = 1e-9,
             .max_steps = 2000,
             .batch = batching,
             .policy = policy});
      };
      const Tape tape;
      const Var theta = leaf(u);
      const auto right = solve(theta, Batch::none, Policy::report);
      const Var truth = grad(sum(square(right.z)), {theta})[0];
      INFO("strength " << strength << ": " << right.adjoint.last().to_string());
      REQUIRE(right.adjoint.last().exact());
      CHECK(right.adjoint.last().hint.empty());

      const auto wrong = solve(theta, Batch::axis0, Policy::report);
      const Var found = grad(sum(square(wrong.z)), {theta})[0];
      const AdjointReport& report = wrong.adjoint.last();
      INFO(wrong.report.to_string() << "; " << report.to_string());
      const bool good = largest_difference(found, truth) < 1e-4 * max(abs(truth)).item();
      if (good) continue;
      for (const GradientStatus& sample : report.samples) CHECK(sample.kind != GradientKind::exact);
      if (!wrong.report.converged()) continue;
      ++hints;
      CHECK_THAT(report.to_string(), Contains("f mixes samples of axis 0: set .batch = Batch::none"));
      CHECK_THROWS_WITH(grad(sum(square(solve(theta, Batch::axis0, Policy::raise).z)), {theta}),
                        Contains("set .batch = Batch::none"));
    }
  CHECK(hints >= 3);
}

TEST_CASE("a root of an F that mixes equal samples is named so too") {
  const Tape tape;
  const Var theta = leaf(Tensor::full({4, 3}, 0.3, DType::f64));
  const auto solved = root([&](const Var& z) { return z + 3.0 * mean(z, {0}, true) + 0.3 * sin(z) - theta; },
                           zeros_like(theta));
  const Var found = grad(sum(square(solved.z)), {theta})[0];
  const AdjointReport& report = solved.adjoint.last();
  INFO(report.to_string());
  // (1 + 3 + 0.3 cos z) lambda = 2 z, for four equal samples.
  const double z = solved.z.value().at(0), truth = 2.0 * z / (4.0 + 0.3 * std::cos(z));
  if (std::abs(found.value().at(0) - truth) > 1e-6 * truth) {
    CHECK_FALSE(report.exact());
    CHECK_THAT(report.to_string(), Contains("set .batch = Batch::none"));
  }
}

TEST_CASE("an adjoint that fails for another reason is not said to mix samples") {
  const Tape tape;
  const Var theta = leaf(normal({3, 8}, 6));
  const auto solved = fixed_point([&](const Var& z) { return 0.9 * tanh(z) + theta; }, zeros_like(theta),
                                  {.backward = Implicit{Gmres{.max_steps = 2, .tolerance = 1e-14}}});
  grad(sum(square(solved.z) * theta), {theta});
  CHECK_FALSE(solved.adjoint.last().exact());
  CHECK(solved.adjoint.last().hint.empty());
}

TEST_CASE("linear_solve tells an A that mixes systems from one that is not linear") {
  const Var b(normal({4, 3}, 2));
  const auto mixing = [](const Var& x) { return x + 2.0 * mean(x, {0}, true); };
  CHECK_THROWS_WITH(linear_solve(mixing, b), Contains("A mixes systems of axis 0"));
  CHECK(linear_solve(mixing, b, {.batch = Batch::none}).report.converged());
}

TEST_CASE("Policy::nan: where the solve failed, value and gradient are NaN, and nothing else is") {
  const Tensor k = Tensor::from(std::span<const double>(std::array{0.5, 0.999, 0.25}), {3, 1});
  // The second sample is too slow for 60 steps.
  const auto f = [](const Var& theta) { return [theta](const Var& z) { return theta * z + 1.0; }; };
  for (const BackwardRule& rule : {BackwardRule(Implicit{}), BackwardRule(JacobianFree{}),
                                   BackwardRule(Unrolled{}), BackwardRule(Unrolled{.checkpoint_every = 3})}) {
    const Tape tape;
    const Var theta = leaf(k);
    const auto solved = fixed_point(
        f(theta), ones({3, 1}),
        {.solver = Picard{}, .backward = rule, .tolerance = 1e-8, .max_steps = 60, .policy = Policy::nan});
    REQUIRE(solved.report.samples[1].status != Status::converged);
    CHECK(std::isnan(solved.z.value().at(1)));
    const Var g = grad(sum(solved.z), {theta})[0];
    INFO(rule.name());
    CHECK(std::isfinite(g.value().at(0)));
    CHECK(std::isnan(g.value().at(1)));
    CHECK(std::isfinite(g.value().at(2)));
    // Who leaves the failed sample out is not harmed by it.
    const Var others = grad(sum(slice(solved.z, 0, 0, 1)), {theta})[0];
    CHECK(std::isfinite(others.value().at(1)));
  }
  const Tape tape;
  const Var theta = leaf(k);
  const auto none = root([&](const Var& z) { return z * z + theta; }, ones({3, 1}),
                         {.max_steps = 50, .policy = Policy::nan});
  CHECK(std::isnan(none.z.value().at(0)));
  CHECK(std::isnan(grad(sum(none.z), {theta})[0].value().at(0)));
}

TEST_CASE("Shine works for roots by Broyden, and is refused at once where no inverse is kept") {
  // F is affine with a small inverse to learn, and adjoint Broyden ends with all of it.
  const std::int64_t n = 5;
  const Tensor A = (Var(normal({n, n}, 3, 0.2)) + Var(Tensor::eye(n, DType::f64))).value(),
               u = normal({2, n}, 4);
  const Shine shine{.fallback = std::numeric_limits<double>::infinity()};
  const auto gradient = [&](const Solver& solver, const BackwardRule& rule) {
    const Tape tape;
    const Var theta = leaf(u);
    const auto solved = root([&](const Var& z) { return matmul(z, Var(A)) - theta; }, zeros_like(theta),
                             {.solver = solver, .backward = rule, .tolerance = 1e-12});
    CHECK(solved.report.converged());
    return grad(sum(solved.z), {theta})[0].value();
  };
  const Tensor exact = gradient(Fallback{}, Implicit{Dense{}});
  CHECK(largest_difference(Var(gradient(AdjointBroyden{}, shine)), Var(exact)) <
        0.5 * max(abs(Var(exact))).item());
  CHECK(largest_difference(Var(gradient(AdjointBroyden{}, Shine{shine.fallback, 40})), Var(exact)) < 1e-6);
  gradient(Broyden{}, shine);

  const auto F = [](const Var& z) { return z - 1.0; };
  const auto phi = [](const Var& z) { return sum(square(z), {1}); };
  const Var W = 0.1 * Var(Tensor::eye(3, DType::f64));
  CHECK_THROWS_WITH(root(F, ones({1, 3}), {.backward = Shine{}}), Contains("[root] the rule shine"));
  CHECK_THROWS_WITH(minimize(phi, ones({1, 3}), {.backward = Shine{}}),
                    Contains("[minimize] the rule shine"));
  CHECK_THROWS_WITH(monotone_fixed_point(W, ones({1, 3}), {.backward = Shine{}}),
                    Contains("[monotone_fixed_point] the rule shine"));
}

TEST_CASE("checkpoints refuse an f that decides by values rather than give another gradient") {
  const auto f = [](const Var& theta) {
    return
        [theta](const Var& z) { return z.value().at(0) > 1.2 ? 0.5 * z + theta : 0.9 * z * z * theta + 0.8; };
  };
  const auto gradient = [&](const BackwardRule& rule, bool create_graph) {
    const Tape tape;
    const Var theta = leaf(Tensor::full({1, 1}, 1.0, DType::f64));
    const auto solved = fixed_point(f(theta), Var(Tensor::full({1, 1}, 0.5, DType::f64)),
                                    {.solver = Picard{}, .backward = rule, .tolerance = 1e-6});
    return grad(sum(solved.z), {theta}, {.create_graph = create_graph})[0].item();
  };
  CHECK(std::isfinite(gradient(Unrolled{}, false)));
  for (const int every : {1, 2, 5, 100})
    for (const bool create_graph : {false, true})
      CHECK_THROWS_WITH(gradient(Unrolled{.checkpoint_every = every}, create_graph),
                        Contains("same operations at every iterate"));
}

TEST_CASE("minimize: the trace is there, and best_step is the evaluation of the answer") {
  const auto kink = [](const Var& z) { return sum(abs(z - 2.0), {1}); };
  const auto valley = [](const Var& z) { return sum(square(square(z) - 2.0) + 0.1 * z, {1}); };
  for (const bool whole : {false, true})
    for (const bool smooth : {false, true}) {
      PoolVector<Tensor> seen;
      const auto phi = [&](const Var& z) {
        if (seen.empty() || !same_bits(Var(seen.back()), z.detach())) seen.push_back(z.value());
        return smooth ? valley(z) : kink(z);
      };
      const auto solved =
          minimize(phi, Var(Tensor::zeros({1, 1}, DType::f64)), {.max_steps = 60, .whole_trace = whole});
      const SampleReport& sample = solved.report.samples[0];
      const ResidualTrace& trace = solved.report.trace;
      INFO(smooth << ": " << solved.report.to_string());
      REQUIRE(trace.steps.size() == static_cast<std::size_t>(solved.report.nstep));
      CHECK(trace.steps.front() == 1);
      CHECK(trace.steps.back() == solved.report.nstep);
      CHECK(trace.abs_trace.back() == Approx(sample.abs_lowest));
      if (smooth) CHECK(trace.abs_trace.front() == Approx(0.1));
      REQUIRE(sample.best_step > 1);
    }
  const auto solved = minimize(kink, Var(Tensor::zeros({1, 1}, DType::f64)), {.max_steps = 1});
  CHECK(solved.report.samples[0].best_step == 1);
}

TEST_CASE("reports of roots and minima print what their tolerance is on") {
  const auto found = root([](const Var& z) { return z * z - 2.0; }, ones({1, 1}));
  CHECK_THAT(found.report.to_string(), Contains("; largest ||F|| "));
  const auto lost = root([](const Var& z) { return 0.0 * z + 3.0; }, ones({1, 1}), {.max_steps = 5});
  CHECK_THAT(lost.report.to_string(), Contains("largest ||F|| 3.0e+00"));
  const auto low = minimize([](const Var& z) { return sum(square(z), {1}); }, ones({1, 2}));
  CHECK_THAT(low.report.to_string(), Contains("largest ||gradient|| "));
  const auto fixed = fixed_point([](const Var& z) { return 0.5 * z + 1.0; }, ones({1, 1}));
  CHECK_THAT(fixed.report.to_string(), Contains("largest relative residual "));
}

TEST_CASE("errors of the implicit nodes name the option and the function that the user wrote") {
  const auto same = [](const Var& z) { return 0.5 * z; };
  const auto shrinks = [](const Var& z) { return sum(z, {1}, true); };
  const auto empty = [](const Var&) { return Var(); };
  const Var z0 = ones({2, 3}), single(Tensor::ones({2, 3}));
  CHECK_THROWS_WITH(root(same, z0, {.tolerance = -1.0}), Contains("[root] tolerance"));
  CHECK_THROWS_WITH(root(same, z0, {.max_steps = -1}), Contains("[root] max_steps"));
  CHECK_THROWS_WITH(minimize([](const Var& z) { return sum(square(z), {1}); }, z0, {.tolerance = -1.0}),
                    Contains("[minimize] tolerance"));
  CHECK_THROWS_WITH(linear_solve(shrinks, z0), Contains("[linear_solve] A must keep the shape"));
  CHECK_THROWS_WITH(root(shrinks, z0), Contains("[root] F must keep the shape"));
  CHECK_THROWS_WITH(fixed_point(shrinks, z0), Contains("[fixed_point] f must keep the shape"));
  CHECK_THROWS_WITH(fixed_point(same, Var()), Contains("[fixed_point] the start must be defined"));
  CHECK_THROWS_WITH(fixed_point(empty, z0), Contains("[fixed_point] f must return a value"));
  CHECK_THROWS_WITH(root(empty, z0), Contains("[root] F must return a value"));
  CHECK_THROWS_WITH(linear_solve(empty, z0), Contains("[linear_solve] A must return a value"));
  CHECK_THROWS_WITH(minimize(empty, z0), Contains("[minimize] phi must return a value"));
  const auto both = [](const Vars& z) { return Vars{0.5 * z[0], 0.5 * z[1]}; };
  CHECK_THROWS_WITH(fixed_point(both, Vars{z0, single}),
                    Contains("[fixed_point] states must share their dtype"));
  CHECK_THROWS_WITH(fixed_point(both, Vars{z0, Var()}), Contains("[fixed_point] the start must be defined"));
  const auto mixed = [](const Vars& z) { return Vars{0.5 * z[0], cast(z[1], DType::f32)}; };
  CHECK_THROWS_WITH(fixed_point(mixed, Vars{z0, z0}),
                    Contains("f must keep the dtype of state 1: f64 became f32"));
  const auto lacking = [](const Vars& z) { return Vars{0.5 * z[0], Var()}; };
  CHECK_THROWS_WITH(fixed_point(lacking, Vars{z0, z0}), Contains("f must keep the dtype of state 1"));
}

TEST_CASE("an option of a rule outside its domain is refused before the solve, without a tape, too") {
  const std::pair<BackwardRule, const char*> wrong[] = {
      {Phantom{.steps = 0}, "[phantom] steps must be at least 1: got 0"},
      {Phantom{.damping = 1.5}, "[phantom] damping must lie in (0, 1]: got 1.5"},
      {Phantom{.guarded = true},
       "[phantom] only the Neumann form can be guarded: set form = Phantom::Form::neumann"},
      {Neumann{-1}, "[neumann] terms must be at least 1: got -1"},
      {RandomNeumann{.survival = 1.0}, "[random_neumann] survival must lie in (0, 1): got 1"},
      {RandomNeumann{.draws = 0}, "[random_neumann] draws must be at least 1: got 0"},
      {Shine{.fallback = 0.0}, "[shine] fallback must be positive: got 0"},
      {Shine{.refinements = -1}, "[shine] refinements must not be negative: got -1"},
      {TruncatedUnroll{.steps = 0}, "[truncated_unroll] steps must be at least 1: got 0"},
      {Unrolled{-1}, "[unrolled] checkpoint_every must not be negative: got -1"},
      {Reversible{.damping = 1.0}, "[reversible] damping must lie in (0, 2) and not be 1: got 1"},
      {Implicit{Gmres{.restart = 0}}, "[gmres] restart must be at least 1: got 0"},
      {Implicit{BiCgStab{.max_steps = -1}}, "[bicgstab] max_steps must not be negative: got -1"},
      {Implicit{Cg{.tolerance = -1.0}}, "[cg] tolerance"},
      {Implicit{Iterative{.max_steps = -1}}, "[iterative] max_steps must not be negative: got -1"}};
  const auto never = [](const Var& z) {
    FAIL("f was evaluated");
    return z;
  };
  const Var z0 = ones({2, 3});
  for (const auto& [rule, words] : wrong) {
    INFO(words);
    const bool needs_picard = rule.iterates() && rule.name() != Reversible::name;
    const Solver solver = needs_picard ? Solver(Picard{}) : Solver(Broyden{});
    CHECK_THROWS_WITH(fixed_point(never, z0, {.solver = solver, .backward = rule}), Contains(words));
    {
      const Tape tape;
      CHECK_THROWS_WITH(fixed_point(never, leaf(z0.value()), {.solver = solver, .backward = rule}),
                        Contains(words));
    }
    if (rule.iterates()) continue;
    CHECK_THROWS_WITH(root(never, z0, {.solver = Broyden{}, .backward = rule}), Contains(words));
    if (rule.needs_inverse()) continue;
    CHECK_THROWS_WITH(minimize(never, z0, {.backward = rule}), Contains(words));
    CHECK_THROWS_WITH(monotone_fixed_point(ones({3, 3}), z0, {.backward = rule}), Contains(words));
  }
  CHECK_THROWS_WITH(linear_solve(never, z0, {.adjoint = Gmres{.restart = 0}}), Contains("[gmres] restart"));
}

TEST_CASE("a memory beyond the steps of a solve costs nothing and changes nothing") {
  const Tensor u = normal({3, 6}, 5);
  const auto solve = [&](const Solver& solver) {
    return fixed_point([&](const Var& z) { return 0.9 * cos(z) + Var(u); },
                       Var(Tensor::zeros({3, 6}, DType::f64)),
                       {.solver = solver, .tolerance = 1e-10, .max_steps = 50})
        .z;
  };
  const int huge = 1'000'000'000;
  CHECK(same_bits(solve(Anderson{.memory = huge}), solve(Anderson{.memory = 50})));
  CHECK(same_bits(solve(Broyden{.memory = huge}), solve(Broyden{.memory = 60})));
  CHECK(same_bits(solve(AdjointBroyden{.memory = huge}), solve(AdjointBroyden{.memory = 60})));
}

TEST_CASE(
    "a gradient at a maximum is refused by Cg, and an energy's own dynamics has the minimum's gradient") {
  const Tape tape;
  const Var theta = leaf(normal({2, 3}, 8));
  const auto hill = [&](const Var& z) { return sum(cos(z - theta), {1}); };
  const auto top = minimize(hill, theta.detach());
  REQUIRE(top.report.converged());
  grad(sum(top.z), {theta});
  CHECK(top.adjoint.last().samples[0].adjoint == Status::indefinite);
  CHECK(top.adjoint.last().samples[0].kind == GradientKind::non_differentiable);

  const auto energy = [&](const Var& z) {
    return sum(0.5 * square(z) + 0.1 * square(square(z)) - z * theta, {1});
  };
  const auto flow = [&](const Var& z) {
    const auto E = [&](const Vars& at) { return Vars{energy(at.front())}; };
    return z - 0.5 * vjp(E, {z}, {ones({2})}).cotangents.front();
  };
  const auto rest = fixed_point(flow, zeros_like(theta), {.tolerance = 1e-12});
  const auto low = minimize(energy, zeros_like(theta), {.tolerance = 1e-12});
  const Var first = grad(sum(square(rest.z)), {theta}, {.create_graph = true})[0],
            other = grad(sum(square(low.z)), {theta}, {.create_graph = true})[0];
  CHECK(largest_difference(first, other) < 1e-9);
  CHECK(largest_difference(grad(sum(first), {theta})[0], grad(sum(other), {theta})[0]) < 1e-7);
}
