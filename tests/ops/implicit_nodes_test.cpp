// The nodes beside fixed_point: root, linear_solve, and the trajectory of a solve.
#include <banach/engine/gradcheck.hpp>
#include <banach/engine/random.hpp>
#include <banach/ops/implicit/linear_solve.hpp>
#include <banach/ops/implicit/minimize.hpp>
#include <banach/ops/implicit/monotone.hpp>
#include <banach/ops/implicit/root.hpp>
#include <banach/ops/implicit/trajectory.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

// n x n, well conditioned, not symmetric.
Tensor matrix(std::int64_t n, std::uint64_t seed) {
  return (Var(normal({n, n}, seed, 0.3)) + 2.0 * Var(Tensor::eye(n, DType::f64))).value();
}

}  // namespace

TEST_CASE("root: cube roots, with all derivatives") {
  const Tensor a = Tensor::from(std::span<const double>(std::array{1.0, 8.0, 27.0}), {3, 1});
  const Tape tape;
  const Var theta = leaf(a);
  const auto [z, report, adjoint] =
      root([&](const Var& x) { return x * x * x - theta; }, Var(Tensor::ones({3, 1}, DType::f64)));
  CHECK(report.converged());
  for (int i = 0; i < 3; ++i) CHECK(z.value().at(i) == Approx(i + 1.0).epsilon(1e-9));
  // d theta^(1/3) = theta^(-2/3) / 3, then -2/9 theta^(-5/3).
  const Vars first = grad(sum(z), {theta}, {.create_graph = true});
  const Vars second = grad(sum(first[0]), {theta});
  for (int i = 0; i < 3; ++i) {
    const double t = a.at(i);
    CHECK(first[0].value().at(i) == Approx(std::pow(t, -2.0 / 3.0) / 3.0).epsilon(1e-8));
    CHECK(second[0].value().at(i) == Approx(-2.0 / 9.0 * std::pow(t, -5.0 / 3.0)).epsilon(1e-7));
  }
  CHECK(adjoint.sweeps().front().exact());
  CHECK(adjoint.sweeps().front().rule == "implicit");
}

TEST_CASE("root: gradcheck through a system, with every solver") {
  const Solver solver = GENERATE(Solver(Newton{}), Solver(NewtonKrylov{}), Solver(LevenbergMarquardt{}),
                                 Solver(Fallback{}), Solver(Broyden{}));
  const Tensor A = matrix(4, 1), b = normal({2, 4}, 2);
  const auto f = [&](const Vars& in) {
    const RootOptions options{.solver = solver, .tolerance = 1e-13};
    const auto solution = root([&](const Var& z) { return matmul(z, in[0]) + 0.3 * tanh(z) - in[1]; },
                               Var(Tensor::zeros({2, 4}, DType::f64)), options);
    INFO(solver.name() << ": " << solution.report.to_string());
    CHECK(solution.report.converged());
    return Vars{solution.z};
  };
  const GradcheckReport checked = gradcheck(f, {Var(A), Var(b)}, {.order = 2});
  INFO(solver.name() << " " << checked.to_string());
  CHECK(checked.passed);
}

TEST_CASE("root: no root is no convergence, and the policy decides") {
  const auto F = [](const Var& z) { return z * z + 1.0; };
  const Var start(Tensor::full({2, 1}, 0.7, DType::f64));
  CHECK_FALSE(root(F, start).report.converged());
  CHECK(std::isnan(root(F, start, {.policy = Policy::nan}).z.value().at(0)));
  CHECK_THROWS_WITH(root(F, start, {.policy = Policy::raise}),
                    Contains("[root]") && Contains("did not converge"));
}

TEST_CASE("root refuses what does not fit") {
  const Var start(Tensor::ones({2, 3}, DType::f64));
  CHECK_THROWS_WITH(root([](const Var& z) { return sum(z, {1}); }, start),
                    Contains("[root]") && Contains("(2,3) became (2)"));
  CHECK_THROWS_WITH(root([](const Var& z) { return z; }, Var(Tensor::arange(3))), Contains("[root]"));
  CHECK_THROWS_AS(root([](const Var& z) { return z; }, start, {.tolerance = std::nan("")}), ValueError);
  CHECK_THROWS_AS(root([](const Var& z) { return z; }, start, {.max_steps = -1}), ValueError);
  CHECK(root([](const Var& z) { return z; }, Var(Tensor::zeros({0, 3}, DType::f64))).report.samples.empty());
}

TEST_CASE("root: an F lost in the rounding of z is not taken for zero") {
  // z - F(z) is z to the last bit.
  const auto flat =
      root([](const Var& z) { return 0.0 * z + 1e-7; }, Var(Tensor::full({2, 1}, 1e10, DType::f64)));
  const auto tiny = root([](const Var& z) { return 1e-18 * (z * z - 2.0); },
                         Var(Tensor::ones({2, 1}, DType::f64)), {.tolerance = 1e-26});
  const auto near = root([](const Var& z) { return z * z - 2e-40; },
                         Var(Tensor::full({2, 1}, 1e-20, DType::f64)), {.tolerance = 1e-50});
  const auto single = root([](const Var& z) { return 0.0 * z + 1e-3; }, Var(Tensor::full({2, 1}, 1e6)));
  for (const auto& [residual, solution] :
       {std::pair{1e-7, flat}, std::pair{1e-18, tiny}, std::pair{1e-40, near}, std::pair{1e-3, single}}) {
    CHECK(solution.report.count(Status::stagnated) == 2);
    CHECK(solution.report.samples[0].abs_lowest == Approx(residual).epsilon(1e-6));
    CHECK(solution.report.samples[0].rel_lowest > 0.0);
  }
}

TEST_CASE("root, minimize and linear_solve: values and gradients do not depend on the units of F") {
  const double unit = GENERATE(1.0, 1e-3, 1e-9, 1e-15, 1e-30, 1e9);
  CAPTURE(unit);
  const Tape tape;
  const Var theta = leaf(Tensor::full({}, 2.0, DType::f64));
  const Var start(Tensor::full({1, 1}, 1.5, DType::f64));
  // At z = sqrt(2): dz/dtheta = 1 / (2 z), d2z/dtheta2 = -1 / (4 z^3).
  const auto check = [&](const ImplicitSolution& solution) {
    const Var first = grad(sum(solution.z), {theta}, {.create_graph = true})[0];
    CHECK(first.item() == Approx(0.5 / std::sqrt(2.0)).epsilon(1e-8));
    CHECK(solution.adjoint.last().samples[0].adjoint == Status::converged);
    CHECK(grad(first, {theta})[0].item() == Approx(-0.25 / std::pow(2.0, 1.5)).epsilon(1e-8));
  };
  // The forward solve itself sees the rounding of z, so it starts at the root.
  check(root([&](const Var& z) { return unit * (z * z - theta); },
             Var(Tensor::full({1, 1}, std::sqrt(2.0), DType::f64)), {.tolerance = 1e-14 * unit}));
  check(minimize([&](const Var& z) { return sum(unit * (z * z * z / 3.0 - theta * z), {1}); }, start,
                 {.tolerance = 1e-10 * unit}));

  const Tensor A = matrix(4, 1), b = normal({2, 4}, 2);
  const Var matrix_leaf = leaf(A), right = leaf(b);
  const auto solver = GENERATE(LinearSolver(Gmres{.tolerance = 1e-10}), LinearSolver(Dense{}));
  const auto solution = linear_solve([&](const Var& x) { return unit * matmul(x, matrix_leaf); }, right,
                                     {.solver = solver, .adjoint = solver});
  const Var expected = matmul(right, inverse(matrix_leaf)) / unit;
  const auto relative = [](const Var& a, const Var& e) {
    return largest_difference(a.value(), e.value()) / max(abs(e)).item();
  };
  CHECK(solution.report.converged());
  CHECK(relative(solution.z, expected) <= 1e-9);
  const Vars found = grad(sum(solution.z), {matrix_leaf, right}),
             dense = grad(sum(expected), {matrix_leaf, right});
  CHECK(relative(found[0], dense[0]) <= 1e-9);
  CHECK(relative(found[1], dense[1]) <= 1e-9);
  CHECK(solution.adjoint.last().exact());
}

TEST_CASE("rules with an iteration of their own are refused where the node is made") {
  const Var start(Tensor::ones({2, 2}, DType::f64));
  const auto rule = GENERATE(as<BackwardRule>(), Unrolled{}, TruncatedUnroll{}, Reversible{});
  const std::string message = "expects a rule that linearises f at a state: got " + std::string(rule.name());
  CHECK_THROWS_WITH(root([](const Var& z) { return z; }, start, {.backward = rule}), "[root] " + message);
  CHECK_THROWS_WITH(minimize([](const Var& z) { return sum(z * z, {1}); }, start, {.backward = rule}),
                    "[minimize] " + message);
  CHECK_THROWS_WITH(monotone_fixed_point(0.0 * start, start, {.backward = rule}),
                    "[monotone_fixed_point] " + message);
}

TEST_CASE("minimize: the residual of an answer that was never measured is unknown, and one of zero is zero") {
  const auto phi = [](const Var& z) { return sum(z * z, {1}); };
  const Var start(Tensor::ones({1, 2}, DType::f64));
  const SampleReport none = minimize(phi, start, {.max_steps = 0}).report.samples[0];
  CHECK(none.status == Status::max_steps);
  CHECK(std::isinf(none.abs_lowest));
  CHECK(std::isinf(none.rel_lowest));
  const SampleReport zero = minimize(phi, start).report.samples[0];
  CHECK(zero.abs_lowest == 0.0);
  CHECK(zero.rel_lowest == 0.0);
}

TEST_CASE("fixed_point tells on demand whether its solution repels") {
  const auto f = [](const Var& z) { return tanh(2.0 * z); };
  const Var start(tensor({0.0, 1.0}, {2, 1}));
  const SolveReport plain = fixed_point(f, start, {.tolerance = 1e-10}).report;
  CHECK(std::isnan(plain.samples[0].spectral_radius));
  CHECK_FALSE(plain.samples[0].unstable());
  const BackwardRule rule = GENERATE(BackwardRule(Implicit{}), BackwardRule(Unrolled{}));
  const Tape tape;
  const auto [z, report, adjoint] = fixed_point(
      f, start, {.solver = Picard{}, .backward = rule, .tolerance = 1e-10, .spectrum_products = 5});
  CHECK(report.converged());
  CHECK(z.value().at(0) == 0.0);
  CHECK(report.samples[0].spectral_radius == Approx(2.0));
  CHECK(report.samples[0].unstable());
  const double at = 0.9575040240772688;
  CHECK(report.samples[1].spectral_radius == Approx(2.0 * (1.0 - at * at)));
  CHECK_FALSE(report.samples[1].unstable());
  CHECK_THAT(report.to_string(), Contains("2 converged") && Contains("1 unstable"));
  CHECK_THROWS_AS(fixed_point(f, start, {.spectrum_products = -1}), ValueError);
}

TEST_CASE("linear_solve: the solution and its gradients are those of a dense inverse") {
  const LinearSolver solver = GENERATE(LinearSolver(Gmres{.tolerance = 1e-13}),
                                       LinearSolver(BiCgStab{.tolerance = 1e-13}), LinearSolver(Dense{}));
  const Tensor A = matrix(5, 3), b = normal({3, 5}, 4);
  const LinearSolveOptions options{.solver = solver, .adjoint = solver};
  {
    const auto [x, report, adjoint] =
        linear_solve([&](const Var& v) { return matmul(v, Var(A)); }, Var(b), options);
    CHECK(report.converged());
    CHECK(largest_difference(matmul(x, Var(A)).value(), b) <= 1e-11);
  }
  const auto f = [&](const Vars& in) {
    return Vars{linear_solve([&](const Var& v) { return matmul(v, in[0]); }, in[1], options).z};
  };
  const GradcheckReport checked = gradcheck(f, {Var(A), Var(b)}, {.order = 2});
  INFO(checked.to_string());
  CHECK(checked.passed);
}

TEST_CASE("linear_solve: conjugate gradients on a normal matrix, any length of b") {
  const double scale = GENERATE(1e-8, 1.0, 1e9);
  const Tensor A = matrix(6, 5);
  const Var spd = matmul(Var(A), Var(A), {.transpose_b = true});
  const Var b = Var(normal({1, 6}, 6)) * scale;
  const auto [x, report, adjoint] = linear_solve([&](const Var& v) { return matmul(v, spd); }, b,
                                                 {.solver = Cg{.tolerance = 1e-12}, .adjoint = Cg{}});
  INFO(report.to_string() << " " << report.samples[0].rel_lowest);
  CHECK(report.converged());
  CHECK(largest_difference(matmul(x, spd).value(), b.value()) <= 1e-10 * scale);
}

TEST_CASE("linear_solve: a map that is not linear, a singular one, and zero") {
  const Var b(normal({1, 4}, 7));
  CHECK_THROWS_WITH(linear_solve([](const Var& v) { return v + v * v * v; }, b),
                    Contains("A must be linear"));
  CHECK_THROWS_WITH(linear_solve([](const Var& v) { return v + 1.0; }, b), Contains("A must be linear"));
  CHECK_THROWS_WITH(linear_solve([](const Var& v) { return abs(v); }, b), Contains("A must be linear"));
  const auto singular = linear_solve([](const Var& v) { return v * 0.0; }, b);
  CHECK(singular.report.samples[0].status == Status::singular);
  CHECK(singular.report.samples[0].rel_lowest == 1.0);
  const auto zero = linear_solve([](const Var& v) { return 3.0 * v; }, b * 0.0);
  CHECK(zero.report.converged());
  CHECK(largest_difference(zero.z.value(), (b * 0.0).value()) == 0.0);
}

TEST_CASE("a linear solve inside a root inside a function: nested nodes have true derivatives") {
  const Tensor A = matrix(3, 8), b = normal({1, 3}, 9);
  const auto f = [&](const Vars& in) {
    const auto outer = root(
        [&](const Var& z) {
          const Var x = linear_solve([&](const Var& v) { return matmul(v, in[0]); }, in[1] + 0.2 * tanh(z)).z;
          return z - x;
        },
        Var(Tensor::zeros({1, 3}, DType::f64)), {.tolerance = 1e-12});
    CHECK(outer.report.converged());
    return Vars{outer.z};
  };
  const GradcheckReport checked = gradcheck(f, {Var(A), Var(b)}, {.order = 2});
  INFO(checked.to_string());
  CHECK(checked.passed);
}

// z <- tanh(z W + u) from 0: iterates by hand, and their gradients as if each were a solution.
TEST_CASE("a trajectory holds the iterates asked for, each with the gradient of the rule there") {
  const Tensor W = (Var(normal({3, 3}, 10)) * 0.2).value(), u = normal({2, 3}, 11);
  const Tape tape;
  const Var w = leaf(W), input = leaf(u);
  const auto f = [&](const Var& z) { return tanh(matmul(z, w) + input); };
  const std::array steps{1, 2, 5, 1000};
  const auto trajectory =
      fixed_point_trajectory(f, Var(Tensor::zeros({2, 3}, DType::f64)), steps,
                             {.solver = Picard{}, .backward = JacobianFree{}, .tolerance = 1e-12});
  REQUIRE(trajectory.states.size() == 4);
  Tensor z = Tensor::zeros({2, 3}, DType::f64);
  for (int k = 1; k <= 5; ++k) {
    for (std::size_t i = 0; i < 3; ++i)
      if (steps[i] == k) CHECK(largest_difference(trajectory.states[i].value(), z) == 0.0);
    z = tanh(matmul(Var(z), Var(W)) + Var(u)).value();
  }
  CHECK(largest_difference(trajectory.states[3].value(), trajectory.z.value()) == 0.0);

  // JacobianFree at z_2: the derivative of one f from there.
  const Var once = tanh(matmul(trajectory.states[1].detach(), w) + input);
  CHECK(largest_difference(grad(sum(trajectory.states[1]), {w})[0].value(),
                           grad(sum(once), {w})[0].value()) <= 1e-15);
  CHECK(trajectory.adjoint.last().samples[0].forward == Status::max_steps);
  grad(sum(trajectory.states[3]), {w});
  CHECK(trajectory.adjoint.last().samples[0].forward == Status::converged);

  // decay^2 l(z_1) + decay l(z_2) + ...
  const Var loss = trajectory_loss(
      trajectory, [](const Var& s) { return sum(square(s)); }, 0.5);
  double expected = 0.0;
  for (const Var& state : trajectory.states) expected = 0.5 * expected + sum(square(state)).value().at(0);
  CHECK(loss.value().at(0) == Approx(expected).epsilon(1e-14));
  CHECK_THROWS_WITH(fixed_point_trajectory(f, Var(Tensor::zeros({2, 3}, DType::f64)), std::array{0}),
                    Contains("from 1: got 0"));
}

// Rosenbrock's function, theta moving the valley: minimum at (theta, theta^2).
TEST_CASE("minimize: Rosenbrock's valley, one for each sample, with all derivatives") {
  const Tape tape;
  const Var theta = leaf(Tensor::from(std::span<const double>(std::array{1.0, -0.5, 2.0}), {3}));
  const auto phi = [&](const Var& z) {
    const Var x = reshape(slice(z, 1, 0, 1), {3}), y = reshape(slice(z, 1, 1, 2), {3});
    return square(theta - x) + 100.0 * square(y - x * x);
  };
  const Var start(Tensor::from(std::span<const double>(std::array{-1.2, 1.0, -1.2, 1.0, -1.2, 1.0}), {3, 2}));
  const auto [z, report, adjoint] = minimize(phi, start, {.tolerance = 1e-10});
  INFO(report.to_string());
  CHECK(report.converged());
  const Vars first = grad(sum(slice(z, 1, 1, 2)), {theta}, {.create_graph = true});
  const Vars second = grad(sum(first[0]), {theta});
  for (int i = 0; i < 3; ++i) {
    const double t = theta.value().at(i);
    CHECK(z.value().at(2 * i) == Approx(t).epsilon(1e-8));
    CHECK(z.value().at(2 * i + 1) == Approx(t * t).epsilon(1e-8));
    CHECK(first[0].value().at(i) == Approx(2.0 * t).epsilon(1e-6));
    CHECK(second[0].value().at(i) == Approx(2.0).epsilon(1e-5));
  }
  CHECK(adjoint.sweeps().front().exact());
}

TEST_CASE("minimize: ridge regression against its closed form, and gradcheck") {
  const Tensor X = normal({8, 3}, 20), y = normal({8, 1}, 21);
  const auto f = [&](const Vars& in) {
    const auto phi = [&](const Var& w) {
      return sum(square(matmul(in[0], w) - in[1])) + 0.5 * sum(square(w));
    };
    return Vars{
        minimize(phi, Var(Tensor::zeros({3, 1}, DType::f64)), {.tolerance = 1e-12, .batch = Batch::none}).z};
  };
  // (X'X + I/2) w = X'y
  const Var w = f({Var(X), Var(y)}).front();
  const Var residual = matmul(Var(X), matmul(Var(X), w) - Var(y), {.transpose_a = true}) + 0.5 * w;
  CHECK(sum(square(residual)).value().at(0) <= 1e-24);
  const GradcheckReport checked = gradcheck(f, {Var(X), Var(y)}, {.order = 2});
  INFO(checked.to_string());
  CHECK(checked.passed);
}

TEST_CASE(
    "minimize leaves a saddle, says where there is no minimum, and refuses the derivative at a maximum") {
  // (x^2 - 1)^2 + y^2 from near its saddle at 0.
  const auto wells = [](const Var& z) {
    const Var x = slice(z, 1, 0, 1), y = slice(z, 1, 1, 2);
    return reshape(square(x * x - 1.0) + y * y, {1});
  };
  const Var near_saddle(Tensor::from(std::span<const double>(std::array{1e-6, 1.0}), {1, 2}));
  const auto well = minimize(wells, near_saddle);
  CHECK(well.report.converged());
  CHECK(well.z.value().at(0) == Approx(1.0).epsilon(1e-8));

  const auto slope = minimize([](const Var& z) { return reshape(exp(z), {1}); },
                              Var(Tensor::zeros({1, 1}, DType::f64)), {.tolerance = 0.0, .max_steps = 50});
  CHECK(slope.report.samples[0].status == Status::max_steps);

  const Tape tape;
  const Var theta = leaf(Tensor::ones({1}, DType::f64));
  const auto top = minimize([&](const Var& z) { return reshape(-square(z), {1}) * theta; },
                            Var(Tensor::zeros({1, 1}, DType::f64)));
  CHECK(top.report.converged());  // a stationary point, met by chance
  grad(sum(top.z), {theta}, {.cotangent = {}});
  CHECK(top.adjoint.last().samples[0].kind == GradientKind::non_differentiable);
}

TEST_CASE("minimize refuses what does not fit, and takes nothing") {
  const Var z0(Tensor::zeros({2, 3}, DType::f64));
  CHECK_THROWS_WITH(
      minimize([](const Var& z) { return sum(z); }, z0),
      Contains("[minimize] phi must have one value for each problem, shape (2): got () for z of (2,3)"));
  CHECK_THROWS_WITH(minimize([](const Var& z) { return z; }, Var(Tensor::arange(2))), Contains("[minimize]"));
  CHECK_THROWS_AS(minimize([](const Var& z) { return sum(z, {1}); }, z0, {.tolerance = -1.0}), ValueError);
  const auto phi = [](const Var& z) { return sum(square(z), {1}); };
  CHECK(minimize(phi, Var(Tensor::zeros({0, 3}, DType::f64))).report.samples.empty());
  CHECK(minimize(phi, z0 + 1.0, {.max_steps = 0}).report.samples[0].status == Status::max_steps);
}

// Problems 2, 18 and 19 of tests/solvers/nonlin_problems.hpp, whose Jacobians are singular at the root:
// Powell's singular function, and the two sample problems.
TEST_CASE("root refuses the gradient at a singular root") {
  const auto column = [](const Var& z, int i) { return slice(z, 1, i, i + 1); };
  struct Problem {
    std::vector<double> start;
    std::function<Var(const Var&, const Var&)> F;
  };
  const auto ratio = [](const Var& x) { return (1.0 - exp(-square(x))) / x; };
  const std::vector<Problem> problems{
      {{3.0, -1.0, 0.0, 1.0},
       [&](const Var& z, const Var& t) {
         const Var a = column(z, 0), b = column(z, 1), c = column(z, 2), d = column(z, 3);
         return concat({a + 10.0 * b - t, std::sqrt(5.0) * (c - d), square(b - 2.0 * c),
                        std::sqrt(10.0) * square(a - d)},
                       1);
       }},
      {{2.0, 2.0},
       [&](const Var& z, const Var& t) {
         return concat({square(column(z, 1)) * ratio(column(z, 0)) - t, column(z, 0) * ratio(column(z, 1))},
                       1);
       }},
      {{3.0, 3.0}, [&](const Var& z, const Var& t) {
         const Var squares = sum(square(z), {1}, true);
         return z * squares - t;
       }}};
  for (const Problem& problem : problems) {
    const Tape tape;
    const Var t = leaf(Tensor::zeros({1, 1}, DType::f64));
    const Var start(Tensor::from(std::span<const double>(problem.start),
                                 {1, static_cast<std::int64_t>(problem.start.size())}));
    const auto F = [&](const Var& z) { return problem.F(z, t); };
    const auto [z, report, adjoint] = root(F, start);
    INFO(problem.start.size() << " from " << problem.start[0] << ": " << report.to_string());
    CHECK(report.converged());
    CHECK(report.samples[0].singular_root);
    grad(sum(z), {t});
    CHECK(adjoint.last().samples[0].kind == GradientKind::non_differentiable);
    CHECK_FALSE(adjoint.last().exact());

    const auto nan = root(F, start, {.policy = Policy::nan});
    CHECK(std::isnan(grad(sum(nan.z), {t})[0].value().at(0)));
    const auto raise = root(F, start, {.policy = Policy::raise});
    CHECK_THROWS_AS(grad(sum(raise.z), {t}), SolveError);
  }
}

TEST_CASE("a double root of a fixed point converges with its error bound, and has no gradient") {
  const Tape tape;
  const Var t = leaf(Tensor::zeros({1, 1}, DType::f64));
  const auto [z, report, adjoint] =
      fixed_point([&](const Var& x) { return x + x * x + t; }, Var(Tensor::full({1, 1}, -0.5, DType::f64)),
                  {.solver = Picard{}, .tolerance = 0.0, .absolute_tolerance = 1e-6, .max_steps = 200000});
  INFO(report.to_string());
  CHECK(report.samples[0].singular_root);
  grad(sum(z), {t});
  CHECK(adjoint.last().samples[0].kind == GradientKind::non_differentiable);
}

TEST_CASE("a trajectory's state is the iterate also where it is the last and not the best") {
  // z = 2 z + 1 from 0 runs away: 0, 1, 3, 7; the answer is the first.
  const auto solved = fixed_point_trajectory([](const Var& z) { return 2.0 * z + 1.0; },
                                             Var(Tensor::zeros({1, 1}, DType::f64)),
                                             std::vector<int>{2, 4, 5}, {.solver = Picard{}, .max_steps = 4});
  REQUIRE(solved.report.samples[0].nstep == 4);
  REQUIRE(solved.report.samples[0].best_step == 1);
  CHECK(solved.states[0].item() == 1.0);
  CHECK(solved.states[1].item() == 7.0);
  CHECK(solved.states[2].item() == 0.0);  // none was evaluated any more: the answer
}

TEST_CASE("a state without axes is one problem for every implicit operation") {
  const Tape tape;
  const Var t = leaf(scalar(0.5, DType::f64)), start(scalar(0.1, DType::f64));
  const auto fixed = fixed_point([&](const Var& z) { return 0.5 * z + t; }, start, {.tolerance = 1e-10});
  const auto rooted = root([&](const Var& z) { return z * z * z - 8.0 * t * t; }, start + 1.0);
  const auto least = minimize([&](const Var& z) { return square(z - 3.0 * t); }, start);
  const auto solved = linear_solve([&](const Var& x) { return 4.0 * x * t; }, t + 0.5);
  CHECK(fixed.z.item() == Approx(1.0));
  CHECK(rooted.z.item() == Approx(std::cbrt(2.0)));
  CHECK(least.z.item() == Approx(1.5));
  CHECK(solved.z.item() == Approx(0.5));
  for (const auto* solution : {&fixed, &rooted, &least, &solved}) {
    CHECK(solution->z.shape() == Shape{});
    CHECK(solution->report.samples.size() == 1);
    CHECK(solution->report.converged());
  }
  CHECK(grad(fixed.z, {t})[0].item() == Approx(2.0));
  CHECK(grad(rooted.z, {t})[0].item() == Approx(2.0 * std::cbrt(8.0) / 3.0 * std::pow(0.5, -1.0 / 3.0)));
  CHECK(grad(least.z, {t})[0].item() == Approx(3.0));
  CHECK(grad(solved.z, {t})[0].item() == Approx(-0.5));  // (t + 1/2) / (4 t)
}

TEST_CASE("linear_solve: a map that is linear only near b has not converged elsewhere") {
  // 0.1 x up to 5, steeper from there; the solution of the linear part is 10.
  const auto bent = [](const Var& x) { return 0.1 * x + 0.7 * (relu(x - 5.0) - relu(-x - 5.0)); };
  for (const LinearSolver& solver : {LinearSolver(Gmres{}), LinearSolver(Dense{}), LinearSolver(Cg{})}) {
    CHECK_FALSE(
        linear_solve(bent, Var(Tensor::ones({1, 2}, DType::f64)), {.solver = solver}).report.converged());
    const auto near = linear_solve(bent, Var(Tensor::full({1, 2}, 0.4, DType::f64)), {.solver = solver});
    CHECK(near.report.converged());
    CHECK(near.z.value().at(0) == Approx(4.0));
  }
}
