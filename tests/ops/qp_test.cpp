// The quadratic program as a node: derivatives against differences, closed forms, and degenerate problems.
#include <banach/engine/gradcheck.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/qp.hpp>
#include <banach/ops/ops.hpp>
#include <tests/ops/qp_gradients.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

Tensor values(const std::vector<double>& v, const Shape& shape) { return tensor(v, shape); }
Tensor number(double v) { return values({v}, {1}); }

// Roots of Q, so that it stays positive definite when they move; h and b from a point.
struct Problem {
  Tensor root, p, G, h, A, b;

  Problem(std::int64_t batch, std::int64_t n, std::int64_t m, std::int64_t e, std::uint64_t seed) {
    Random random(seed);
    root = normal(random, {batch, n, n}, 0.7), p = normal(random, {batch, n});
    G = normal(random, {batch, m, n}), A = normal(random, {batch, e, n});
    const Var x(normal(random, {batch, n, 1}));
    const Var room(Tensor::full({batch, m}, 0.3, DType::f64));
    h = (reshape(matmul(Var(G), x), {batch, m}) + room * abs(Var(normal(random, {batch, m})))).value();
    b = reshape(matmul(Var(A), x), {batch, e}).value();
  }
  Vars all() const { return {Var(root), Var(p), Var(G), Var(h), Var(A), Var(b)}; }
};

// Q from its root, not symmetric: the symmetric part counts.
QpParameters parameters(const Vars& v) {
  const Var root = v[0], n_root = root;
  const Var Q = matmul(root, n_root, {.transpose_b = true}) + 0.2 * root +
                2.0 * Var(Tensor::eye(root.shape()[root.rank() - 1], DType::f64));
  return {Q, v[1], v[2], v[3], v[4], v[5]};
}

}  // namespace

TEST_CASE("gradients of every parameter through every output agree with differences", "[qp]") {
  int checked = 0;
  for (const auto& [n, m, e] :
       {std::array<std::int64_t, 3>{3, 4, 1}, {5, 3, 2}, {4, 6, 0}, {2, 0, 1}, {6, 9, 2}})
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      const Problem problem(3, n, m, e, 10 + seed);
      const auto f = [](const Vars& v) {
        const auto [z, nu, lambda, slack, report, adjoint] = qp_solve(parameters(v));
        return Vars{z, nu, lambda, slack};
      };
      // Differences are those of the solution only where no constraint is near to a change.
      const QpSolved s = qp_solve(parameters(problem.all()));
      REQUIRE(s.report.solved());
      if (!clear_of_changes(s.lambda, s.slack)) continue;
      INFO("n " << n << ", m " << m << ", e " << e << ", seed " << seed);
      const GradcheckReport report =
          gradcheck(f, problem.all(), {.order = 2, .step = 1e-4, .tolerance = 1e-5});
      INFO(report.to_string());
      CHECK(report.passed);
      ++checked;
    }
  CHECK(checked >= 8);  // batches of three
}

TEST_CASE("every entry of every parameter's gradient is that of central differences, 27 times", "[qp]") {
  int checked = 0;
  for (std::uint64_t seed = 0; checked < 27; ++seed) {
    REQUIRE(seed < 200);
    Random random(seed);
    const std::int64_t n = 2 + random.below(5), m = 1 + random.below(2 * n), e = random.below(n / 2 + 1);
    const QpParameters given = parameters(Problem(1, n, m, e, seed).all());
    const QpSolved s = qp_solve(given);
    REQUIRE(s.report.solved());
    if (!clear_of_changes(s.lambda, s.slack)) continue;
    INFO("n " << n << ", m " << m << ", e " << e << ", seed " << seed);
    check_every_entry(given, {}, normal(random, {n + e + 2 * m}));
    ++checked;
  }
}

TEST_CASE("gradients are those of a dense solve with the system of derivatives, to 1e-9", "[qp]") {
  // Eight at a time, with an incomplete group and without, in bounds and in rows; one at a time.
  for (const auto& [batch, n, m, e] :
       {std::array<std::int64_t, 4>{9, 10, 10, 0}, {8, 50, 50, 12}, {8, 64, 64, 20}, {1, 40, 60, 5}}) {
    INFO("batch " << batch << ", n " << n << ", m " << m << ", e " << e);
    Random random(static_cast<std::uint64_t>(n));
    Problem problem(batch, n, m, e, static_cast<std::uint64_t>(n + m));
    if (n == 64) {  // x >= -1
      problem.G = (Var(Tensor::zeros({batch, m, n}, DType::f64)) - Var(Tensor::eye(n, DType::f64))).value();
      problem.h = Tensor::full({batch, m}, 1.0, DType::f64);
      problem.b =
          reshape(matmul(Var(problem.A), 0.1 * Var(normal(random, {batch, n, 1}))), {batch, e}).value();
    }
    const QpParameters given = parameters(problem.all());
    const Tensor by_z = normal(random, {batch, n}), by_nu = normal(random, {batch, e});
    const Tape tape;
    Vars leaves;
    for (const Var& v : {given.Q, given.p, given.G, given.h, given.A, given.b})
      leaves.push_back(leaf(v.value()));
    const QpSolved s = qp_solve({leaves[0], leaves[1], leaves[2], leaves[3], leaves[4], leaves[5]});
    REQUIRE(s.report.solved());
    const Vars found = grad(sum(s.z * Var(by_z)) + sum(s.nu * Var(by_nu)), leaves);
    REQUIRE(s.adjoint.last().samples[0].kind == GradientKind::exact);

    const auto at = [](const Var& x, std::int64_t i) { return x.value().at(i); };
    double worst = 0.0;
    const auto compare = [&](int parameter, std::int64_t i, double expected) {
      worst = std::max(worst, std::abs(at(found[static_cast<std::size_t>(parameter)], i) - expected));
    };
    for (std::int64_t k = 0; k < batch; ++k) {
      const auto active = [&](std::int64_t i) { return at(s.lambda, k * m + i) > at(s.slack, k * m + i); };
      const std::int64_t size = n + e + m;  // the row of an inactive constraint says that its entry is 0
      Tensor K = Tensor::zeros({size, size}, DType::f64), right = Tensor::zeros({size, 1}, DType::f64);
      const auto set = [&](std::int64_t r, std::int64_t c, double value) {
        K.mutable_data<double>()[r * size + c] = K.mutable_data<double>()[c * size + r] = value;
      };
      for (std::int64_t r = 0; r < n; ++r)
        for (std::int64_t c = 0; c <= r; ++c)
          set(r, c, 0.5 * (at(given.Q, (k * n + r) * n + c) + at(given.Q, (k * n + c) * n + r)));
      for (std::int64_t c = 0; c < n; ++c) {
        for (std::int64_t r = 0; r < e; ++r) set(n + r, c, at(given.A, (k * e + r) * n + c));
        for (std::int64_t r = 0; r < m; ++r)
          if (active(r)) set(n + e + r, c, at(given.G, (k * m + r) * n + c));
        right.mutable_data<double>()[c] = by_z.at(k * n + c);
      }
      for (std::int64_t r = 0; r < m; ++r)
        if (!active(r)) set(n + e + r, n + e + r, 1.0);
      for (std::int64_t r = 0; r < e; ++r) right.mutable_data<double>()[n + r] = by_nu.at(k * e + r);
      const Var adjoint = solve(Var(K), Var(right));
      const auto a = [&](std::int64_t i) { return at(adjoint, i); };
      const auto z = [&](std::int64_t i) { return at(s.z, k * n + i); };
      for (std::int64_t i = 0; i < n; ++i) {
        compare(1, k * n + i, -a(i));
        for (std::int64_t j = 0; j < n; ++j)
          compare(0, (k * n + i) * n + j, -0.5 * (a(i) * z(j) + z(i) * a(j)));
      }
      const auto constraints = [&](int parameter, std::int64_t count, std::int64_t first,
                                   const Var& multipliers) {
        for (std::int64_t i = 0; i < count; ++i) {
          compare(parameter + 1, k * count + i, a(first + i));
          for (std::int64_t j = 0; j < n; ++j)
            compare(parameter, (k * count + i) * n + j,
                    -a(first + i) * z(j) - at(multipliers, k * count + i) * a(j));
        }
      };
      constraints(2, m, n + e, s.lambda), constraints(4, e, n, s.nu);
    }
    CHECK(worst < 1e-9);
  }
}

TEST_CASE("third derivatives of a quadratic program exist", "[qp]") {
  // min (q z^2)/2 - z: z = 1 / q, whose third derivative is -6 / q^4.
  const Tape tape;
  const Var q = leaf(number(2.0));
  const QpSolved s = qp_solve({reshape(q, {1, 1}), Var(number(-1.0))});
  Var derivative = sum(s.z);
  for (int order = 0; order < 3; ++order) derivative = sum(grad(derivative, {q}, {.create_graph = true})[0]);
  CHECK(derivative.item() == Approx(-6.0 / 16.0).epsilon(1e-9));
}

TEST_CASE("parameters shared by the batch get the sum of their gradients", "[qp]") {
  const Problem problem(4, 3, 4, 1, 3);
  const auto first = [](const Tensor& t) {
    return t.rows(0, 1).reshape(
        Shape(Ints(std::span<const std::int64_t>(t.shape().begin() + 1, t.shape().end()))));
  };
  const Tensor p = normal({4, 3}, 9);
  const auto gradients = [&](bool shared) {
    const Tape tape;
    Vars leaves;
    for (const Tensor& t : {problem.root, problem.G, problem.h, problem.A, problem.b})
      leaves.push_back(leaf(first(t)));
    const auto spread = [&](const Var& x) {
      if (shared) return x;
      Vars copies(4, x);
      return stack(copies, 0);
    };
    const QpParameters all{
        spread(parameters({leaves[0], Var(p), leaves[1], leaves[2], leaves[3], leaves[4]}).Q),
        Var(p),
        spread(leaves[1]),
        spread(leaves[2]),
        spread(leaves[3]),
        spread(leaves[4])};
    const QpSolved s = qp_solve(all);
    return grad(sum(square(s.z)) + sum(s.lambda) + sum(sin(s.nu)) + sum(square(s.slack)), leaves);
  };
  const Vars one = gradients(true), many = gradients(false);
  for (std::size_t i = 0; i < one.size(); ++i) CHECK(largest_difference(one[i], many[i]) <= 1e-10);
}

TEST_CASE("where a gradient is not exact, its status says so", "[qp]") {
  const Tensor one = values({1}, {1, 1});
  {  // The same constraint twice: each gets half.
    const Tape tape;
    const Var h = leaf(values({1, 1}, {2}));
    const QpSolved s = qp_solve({Var(one), Var(number(-2)), Var(values({1, 1}, {2, 1})), h});
    const Var g = grad(sum(s.z), {h})[0];
    CHECK(g.value().at(0) == Approx(0.5));
    CHECK(g.value().at(1) == Approx(0.5));
    CHECK(s.adjoint.last().samples[0].kind == GradientKind::least_squares);
  }
  {  // x >= 0 and min x^2 / 2 + p x at p = 0: the slopes are -1 and 0; taken for inactive: -1.
    const Tape tape;
    const Var p = leaf(number(0));
    const QpSolved s = qp_solve({Var(one), p, Var(values({-1}, {1, 1})), Var(number(0))});
    CHECK(grad(sum(s.z), {p})[0].item() == Approx(-1.0));
    CHECK(s.adjoint.last().samples[0].kind == GradientKind::non_differentiable);
  }
  for (const double lambda : {0.0, 1.0}) {  // ... from every start
    const Tape tape;
    const Var p = leaf(number(0));
    const QpSolved s = qp_solve({Var(one), p, Var(values({-1}, {1, 1})), Var(number(0))},
                                {.start = {number(lambda), number(1.0 - lambda)}});
    CHECK(grad(sum(s.z), {p})[0].item() == Approx(-1.0));
    CHECK(s.adjoint.last().samples[0].kind == GradientKind::non_differentiable);
  }
  {
    const Tape tape;
    const Var p = leaf(number(0));
    const auto solve = [&](Policy policy) {
      return qp_solve({Var(one), p, Var(values({-1}, {1, 1})), Var(number(0))}, {.policy = policy});
    };
    CHECK_THROWS_AS(grad(sum(solve(Policy::raise).z), {p}), SolveError);
    CHECK(std::isnan(grad(sum(solve(Policy::nan).z), {p})[0].item()));
  }
  {  // Held by two inequalities, where nothing pulls: it cannot move, and their multipliers are not unique.
    const Tape tape;
    const Var p = leaf(number(0));
    const QpSolved s = qp_solve({Var(one), p, Var(values({1, -1}, {2, 1})), Var(values({0, 0}, {2}))});
    CHECK(std::abs(grad(sum(s.z), {p})[0].item()) <= 1e-9);
    CHECK(s.adjoint.last().samples[0].kind == GradientKind::least_squares);
  }
  {  // min x1 with 0 <= x: x2 is free, and has no derivative.
    const Tape tape;
    const Var p = leaf(values({1, 0}, {2}));
    const QpParameters free{{}, p, Var(values({-1, 0, 0, -1, 0, 1}, {3, 2})), Var(values({0, 0, 1}, {3}))};
    CHECK_THROWS_AS(grad(sum(qp_solve(free, {.policy = Policy::raise}).z), {p}), SolveError);
  }
  {  // Dependent rows of A that agree.
    const Tape tape;
    const Var b = leaf(values({1, 2}, {2}));
    const QpSolved s = qp_solve({Var(Tensor::eye(2, DType::f64)),
                                 Var(values({0, 0}, {2})),
                                 {},
                                 {},
                                 Var(values({1, 1, 2, 2}, {2, 2})),
                                 b});
    const Var g = grad(sum(s.z), {b})[0];
    CHECK(g.value().at(0) == Approx(0.2));  // of least norm: z = (1,2)'b / 5 (1/2, 1/2)
    CHECK(g.value().at(1) == Approx(0.4));
    CHECK(s.adjoint.last().samples[0].kind == GradientKind::least_squares);
  }
  {  // Regular beside infeasible and not finite.
    const Tape tape;
    const Var p = leaf(values({-2, 0, std::nan("")}, {3, 1}));
    const Var G(values({1, 1, 0}, {3, 1, 1})), h(values({1, -1, 1}, {3, 1}));
    const Var G2 = concat({G, -1.0 * G}, 1), h2 = concat({h, Var(values({5, -1, 1}, {3, 1}))}, 1);
    const QpSolved s = qp_solve({Var(one), p, G2, h2});
    CHECK(s.report.samples[0].status == QpStatus::solved);
    CHECK(s.report.samples[1].status == QpStatus::primal_infeasible);
    CHECK(s.report.samples[2].status == QpStatus::non_finite);
    const Var g = grad(sum(s.z * Var(values({1, 1, 1}, {3, 1}))), {p})[0];
    CHECK(std::abs(g.value().at(0)) <= 1e-9);  // held by its constraint
    CHECK(g.value().at(1) == 0.0);
    CHECK(g.value().at(2) == 0.0);
    CHECK(s.adjoint.last().samples[0].kind == GradientKind::exact);
    CHECK(s.adjoint.last().samples[1].kind == GradientKind::approximate);
    CHECK(s.adjoint.last().samples[1].forward == Status::singular);
    CHECK_THROWS_WITH(qp_solve({Var(one), p, G2, h2}, {.policy = Policy::raise}),
                      Contains("[qp_solve]") && Contains("primal_infeasible"));
    const QpSolved marked = qp_solve({Var(one), p, G2, h2}, {.policy = Policy::nan});
    CHECK(marked.z.value().at(0) == Approx(1.0));
    CHECK(std::isnan(marked.z.value().at(1)));
  }
}

TEST_CASE("gradients of problems without a regular solution", "[qp]") {
  const Tensor one = values({1}, {1, 1}), minus = values({-1}, {1, 1}), none = values({0}, {1, 1});
  struct Result {
    Tensor p, b;
    GradientStatus status;
  };
  // The gradient of z's sum in p and in the right-hand side of A, or else of G.
  const auto gradient = [](QpParameters problem) {
    const Tape tape;
    problem.p = leaf(problem.p.value());
    Var& right = problem.A.defined() ? problem.b : problem.h;
    if (!right.defined()) problem.G = Var(Tensor::zeros({0, problem.p.size()}, DType::f64));
    right = leaf(right.defined() ? right.value() : Tensor::zeros({0}, DType::f64));
    const QpSolved s = qp_solve(problem);
    const Vars g = grad(sum(s.z), {problem.p, right});
    return Result{g[0].value(), g[1].value(), s.adjoint.last().samples[0]};
  };
  const auto expect_constant = [](const Result& r, Status forward) {
    CHECK(r.status.kind == GradientKind::approximate);
    CHECK(r.status.forward == forward);
    for (std::int64_t i = 0; i < r.p.size(); ++i) CHECK(r.p.at(i) == 0.0);
    for (std::int64_t i = 0; i < r.b.size(); ++i) CHECK(r.b.at(i) == 0.0);
  };
  const Var square(Tensor::eye(2, DType::f64)), zeros(values({0, 0}, {2}));
  expect_constant(
      gradient({square, zeros, {}, {}, Var(values({1, 1, 2, 2}, {2, 2})), Var(values({1, 2.1}, {2}))}),
      Status::singular);
  expect_constant(
      gradient({Var(one), Var(number(0)), Var(values({1, -1}, {2, 1})), Var(values({-1, -1}, {2}))}),
      Status::singular);
  expect_constant(gradient({Var(none), Var(number(-1)), Var(minus), Var(number(0))}), Status::diverged);
  expect_constant(gradient({Var(values({1, 0, 0, -1}, {2, 2})), zeros}), Status::indefinite);
  expect_constant(gradient({Var(one), Var(number(std::nan("")))}), Status::non_finite);
  {  // Q = 0, p = 0: every z is a solution.
    const Result r = gradient({Var(values({0, 0, 0, 0}, {2, 2})), zeros});
    CHECK(r.status.kind == GradientKind::non_differentiable);
    CHECK(r.status.adjoint == Status::singular);
  }
  {  // A bound that is not there.
    const Result r =
        gradient({Var(one), Var(number(-2)), Var(one), Var(number(std::numeric_limits<double>::infinity()))});
    CHECK(r.p.item() == Approx(-1.0).epsilon(1e-12));
    CHECK(r.b.item() == 0.0);
    CHECK(r.status.kind == GradientKind::exact);
  }
  {  // No constraints at all.
    const Result r = gradient({Var(one), Var(number(1))});
    CHECK(r.p.item() == Approx(-1.0).epsilon(1e-12));
    CHECK(r.status.kind == GradientKind::exact);
  }
  {  // Rows of zeros; that of G is met without room, which is the same however z moves.
    const Result r =
        gradient({Var(one), Var(number(1)), Var(none), Var(number(0)), Var(none), Var(number(0))});
    CHECK(r.p.item() == Approx(-1.0).epsilon(1e-9));
    CHECK(std::abs(r.b.item()) <= 1e-9);
    CHECK(r.status.kind != GradientKind::exact);
  }
}

TEST_CASE("what is not finite is not hidden, and stays with its problem", "[qp]") {
  const Tensor one = values({1}, {1, 1});
  {  // A loss that is NaN.
    const Tape tape;
    const Var p = leaf(values({-2.0, 1.0}, {2}));
    const QpSolved s = qp_solve({Var(Tensor::eye(2, DType::f64)), p});
    const Var g = grad(sum(s.z) * std::nan(""), {p})[0];
    CHECK(std::isnan(g.value().at(0)));
    CHECK(s.adjoint.last().samples[0].kind != GradientKind::exact);
  }
  {  // ... of one problem.
    const Tape tape;
    const Var p = leaf(values({-2.0, 1.0}, {2, 1}));
    const QpSolved s = qp_solve({Var(one), p});
    const Var g = grad(sum(s.z * Var(values({std::nan(""), 1.0}, {2, 1}))), {p})[0];
    CHECK(std::isnan(g.value().at(0)));
    CHECK(g.value().at(1) == Approx(-1.0));
  }
  {  // NaN in the constraints of one problem, beside a shared parameter.
    const Tape tape;
    const Var p = leaf(number(-2.0));
    const QpSolved s =
        qp_solve({Var(one), p, Var(values({1.0, std::nan("")}, {2, 1, 1})), Var(values({5.0, 5.0}, {2, 1}))});
    CHECK(s.report.samples[1].status == QpStatus::non_finite);
    CHECK(grad(sum(s.z), {p})[0].item() == Approx(-1.0));
  }
  {  // A cotangent that no derivative answers: the two multipliers are not determined one by one.
    const Tape tape;
    const Var p = leaf(number(-2.0));
    const QpSolved s = qp_solve({Var(one), p, Var(values({1, 1}, {2, 1})), Var(values({1, 1}, {2}))});
    grad(sum(s.lambda * Var(values({1, 0}, {2}))), {p});
    const GradientStatus status = s.adjoint.last().samples[0];
    CHECK(status.adjoint == Status::singular);
    CHECK(status.adjoint_residual == Approx(std::sqrt(0.5)).epsilon(1e-6));
  }
}

TEST_CASE("a quadratic program in the body of a fixed point", "[qp]") {
  // z = 1/2 projection of (z + c) on the simplex; its derivative by differences.
  const auto solve = [](const Var& c, Body body) {
    const Var Q(Tensor::eye(3, DType::f64)), G = -1.0 * Q, h(values({0, 0, 0}, {3})),
                                             A(values({1, 1, 1}, {1, 3})), b(number(1));
    return fixed_point(
               [&](const Var& z) {
                 return 0.5 * qp_solve({Q, -(z + c), G, h, A, b}).z;
               },
               Var(Tensor::zeros({2, 3}, DType::f64)),
               {.solver = Picard{},
                .backward = Implicit{Dense{}},
                .tolerance = 1e-13,
                .max_steps = 300,
                .body = body})
        .z;
  };
  const Tensor at = values({0.3, -0.1, 0.2, 0.9, 0.1, -0.8}, {2, 3});
  CHECK(gradcheck([&](const Vars& v) { return Vars{solve(v[0], Body::eager)}; }, {Var(at)},
                  {.order = 2, .step = 1e-4})
            .passed);
  CHECK(largest_difference(solve(Var(at), Body::replayed), solve(Var(at), Body::eager)) <= 1e-9);
}

TEST_CASE("gradients have the same bits with any number of threads", "[qp]") {
  const Problem problem(21, 6, 8, 2, 5);
  check_threads([&] {
    const Tape tape;
    Vars leaves;
    for (const Var& v : problem.all()) leaves.push_back(leaf(v.value()));
    const QpSolved s = qp_solve(parameters(leaves));
    return grad(sum(square(s.z)) + sum(s.lambda), leaves);
  });
}

TEST_CASE("a batch of no problems has gradients of no problems", "[qp]") {
  const Tape tape;
  const Var p = leaf(Tensor::zeros({0, 2}, DType::f64)), G = leaf(Tensor::ones({1, 2}, DType::f64));
  const QpSolved s = qp_solve({Var(Tensor::eye(2, DType::f64)), p, G, Var(values({1}, {1}))});
  for (const Var& out : {s.z, s.lambda, s.slack}) {
    const Vars g = grad(sum(out), {p, G});
    CHECK(g[0].shape() == p.shape());
    CHECK(max(abs(g[1])).item() == 0.0);
  }
}

TEST_CASE("qp_solve from an earlier solution has the same gradients", "[qp]") {
  const Tensor Q = tensor({2.0, 0.5, 0.5, 1.0}, {2, 2}), G = tensor({1.0, 1.0, -1.0, 0.0}, {2, 2}),
               h = tensor({0.5, 0.25}, {2}), p = normal({5, 2}, 3);
  const auto gradient = [&](const QpStart& start, QpSolved* solved = nullptr) {
    const Tape tape;
    const Var x = leaf(p);
    const QpSolved s = qp_solve({Var(Q), x, Var(G), Var(h)}, {.start = start});
    if (solved) *solved = s;
    return grad(sum(s.z * s.z), {x})[0].value();
  };
  QpSolved earlier;
  const Tensor expected = gradient({}, &earlier);
  CHECK(largest_difference(gradient({earlier.lambda.value(), earlier.slack.value()}), expected) <= 1e-10);
}
