// Quadratic programs without a feasible point, replaced by the closest one that has.
#include <banach/engine/gradcheck.hpp>
#include <banach/ops/implicit/qp_shift.hpp>
#include <tests/ops/qp_gradients.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;

namespace {

const QpSolveOptions closest{.infeasible = Infeasible::closest};

Tensor values(const std::vector<double>& v, const Shape& shape) { return tensor(v, shape); }
Tensor number(double v) { return values({v}, {1}); }

// Independent right-hand sides: often too much is asked.
QpParameters random_problem(Random& random, std::int64_t n, std::int64_t m, std::int64_t e) {
  const Var root(normal(random, {1, n, n}));
  const Var Q = matmul(root, root, {.transpose_b = true}) + Var(Tensor::eye(n, DType::f64));
  return {Var(Q.value()),
          Var(normal(random, {1, n})),
          Var(normal(random, {1, m, n})),
          Var(normal(random, {1, m})),
          Var(normal(random, {1, e, n})),
          Var(normal(random, {1, e}))};
}

}  // namespace

TEST_CASE("two bounds that exclude each other meet half way", "[qp]") {
  // x <= h0 and -x <= h1 with h0 + h1 < 0: both move by -(h0 + h1) / 2, to x = (h0 - h1) / 2.
  const Var Q(values({1}, {1, 1})), G(values({1, -1}, {2, 1}));
  const Tape tape;
  const Var p = leaf(number(0.3)), h = leaf(values({-1, -2}, {2}));
  const QpSolved s = qp_solve({Q, p, G, h}, closest);
  REQUIRE(s.report.solved());
  CHECK(s.z.item() == Approx(0.5));
  CHECK(s.report.samples[0].shift == Approx(std::sqrt(2 * 1.5 * 1.5)));
  CHECK(s.slack.value().at(0) == 0.0);
  CHECK(s.lambda.value().at(1) - s.lambda.value().at(0) == Approx(0.8));  // x + p + l0 - l1 = 0
  const Vars g = grad(sum(s.z), {p, h});
  CHECK(std::abs(g[0].item()) <= 1e-12);
  CHECK(g[1].value().at(0) == Approx(0.5));
  CHECK(g[1].value().at(1) == Approx(-0.5));
  CHECK(s.adjoint.last().samples[0].kind == GradientKind::least_squares);
  CHECK(s.adjoint.last().samples[0].forward == Status::converged);

  const QpShift shift = qp_shift({Q, p, G, h});
  CHECK(shift.h.value().at(0) == Approx(1.5));
  CHECK(shift.h.value().at(1) == Approx(1.5));
  CHECK_FALSE(shift.kinked[0]);
  const Var by_h = grad(sum(slice(shift.h, 0, 0, 1)), {h})[0];
  CHECK(by_h.value().at(0) == Approx(-0.5));
  CHECK(by_h.value().at(1) == Approx(-0.5));
}

TEST_CASE("equations without a solution are solved in the sense of least squares", "[qp]") {
  Random random(1);
  const Tensor A = normal(random, {5, 3}), b = normal(random, {5}), p = normal(random, {3});
  const auto by_qp = [&](const Vars& v) {
    return Vars{qp_solve({Var(Tensor::eye(3, DType::f64)), Var(p), {}, {}, v[0], v[1]}, closest).z};
  };
  const auto by_normal_equations = [](const Vars& v) {
    const Var right = matmul(v[0], reshape(v[1], {5, 1}), {.transpose_a = true});
    return Vars{reshape(solve_spd(matmul(v[0], v[0], {.transpose_a = true}), right), {3})};
  };
  const auto gradients = [&](const auto& f) {
    const Tape tape;
    const Vars leaves{leaf(A), leaf(b)};
    const Var z = f(leaves)[0];
    Vars all = grad(sum(z * Var(values({1, -2, 3}, {3}))), leaves);
    all.push_back(z);
    return Vars{Var(all[0].value()), Var(all[1].value()), Var(z.value())};
  };
  const Vars one = gradients(by_qp), other = gradients(by_normal_equations);
  for (std::size_t k = 0; k < 3; ++k) CHECK(largest_difference(one[k], other[k]) <= 1e-10);
  const GradcheckReport second = gradcheck(by_qp, {Var(A), Var(b)}, {.order = 2, .step = 1e-4});
  INFO(second.to_string());
  CHECK(second.passed);
}

TEST_CASE("shifts are the least, and gradients through them agree with differences", "[qp]") {
  int infeasible = 0, compared = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const std::int64_t n = 1 + random.below(5), m = random.below(4 * n), e = random.below(n + 3);
    const QpParameters given = random_problem(random, n, m, e);
    const QpSolved plain = qp_solve(given);
    if (plain.report.solved()) continue;
    REQUIRE(plain.report.count(QpStatus::primal_infeasible) == 1);
    ++infeasible;
    INFO("n " << n << ", m " << m << ", e " << e << ", seed " << seed);
    const QpSolved s = qp_solve(given, closest);
    CHECK(s.report.solved());
    CHECK(s.report.samples[0].largest() <= 1e-9);

    // The violation at the point of least violation, which the certificate comes with.
    const QpShift shift = qp_shift(given);
    CHECK(largest_difference(shift.h, maximum(-plain.slack, 0.0)) <= 1e-9);
    const Var az = reshape(matmul(given.A, reshape(plain.z, {1, n, 1})), {1, e});
    CHECK(largest_difference(shift.b, az - given.b) <= 1e-9);

    // An inequality that is not shifted must hold, or have slack, by a margin.
    const Var held = s.lambda + greater(shift.h, 0.05);
    if (shift.kinked[0] || !clear_of_changes(held, s.slack) || ++compared > 60) continue;
    const Tensor weights =
        concat({Var(normal(random, {n})), Var(Tensor::zeros({e + m}, DType::f64)), Var(normal(random, {m}))},
               0)
            .value();
    check_every_entry(given, closest, weights);
  }
  CHECK(infeasible >= 150);
  CHECK(compared >= 60);
}

TEST_CASE("closest problems stay with themselves, and say what they are", "[qp]") {
  const Var one(values({1}, {1, 1})), G(values({1, -1}, {2, 1}));
  const double inf = std::numeric_limits<double>::infinity();
  {  // Feasible, infeasible, NaN, and with a bound that nothing meets.
    const Tape tape;
    const Var p = leaf(values({0.5, 0.5, std::nan(""), 0.5}, {4, 1}));
    const Var h = leaf(values({1, 1, -1, -1, 1, 1, -inf, 1}, {4, 2}));
    const QpSolved s = qp_solve({one, p, G, h}, closest), plain = qp_solve({one, p, G, h});
    const QpStatus expected[] = {QpStatus::solved, QpStatus::solved, QpStatus::non_finite,
                                 QpStatus::primal_infeasible};
    for (std::size_t i = 0; i < 4; ++i) CHECK(s.report.samples[i].status == expected[i]);
    CHECK(same_bits(s.z.value().rows(0, 1), plain.z.value().rows(0, 1)));
    CHECK(s.report.samples[0].shift == 0.0);
    const Vars g = grad(sum(where(Var(values({1, 1, 0, 0}, {4, 1})), s.z, 0.0)), {p, h});
    const double by_p[] = {-1, 0, 0, 0}, by_h[] = {0, 0, 0.5, -0.5, 0, 0, 0, 0};
    for (std::int64_t i = 0; i < 4; ++i) CHECK(g[0].value().at(i) == Approx(by_p[i]).margin(1e-9));
    for (std::int64_t i = 0; i < 8; ++i) CHECK(g[1].value().at(i) == Approx(by_h[i]).margin(1e-9));
    const auto& samples = s.adjoint.last().samples;
    CHECK(samples[0].kind == GradientKind::exact);
    CHECK(samples[1].kind == GradientKind::least_squares);
    CHECK(samples[2].kind == GradientKind::approximate);
    CHECK(samples[3].kind == GradientKind::approximate);
  }
  {  // A right-hand side far below is a constraint, as it is to the solver.
    const QpShift shift = qp_shift({one, Var(number(0.0)), G, Var(values({-2e30, 0}, {2}))});
    CHECK(shift.length[0] == Approx(std::sqrt(2.0) * 1e30));
    for (std::int64_t i = 0; i < 2; ++i) CHECK(shift.h.value().at(i) == Approx(1e30));
    const QpSolved s = qp_solve({one, Var(number(0.0)), G, Var(values({-2e30, 0}, {2}))}, closest);
    CHECK(s.report.solved());
    CHECK(s.z.item() == Approx(-1e30));  // half way
    CHECK(s.report.samples[0].shift == Approx(std::sqrt(2.0) * 1e30));
  }
  {  // A bound that has room on neither side: the next h moves it or not.
    const Tape tape;
    const Var h = leaf(values({-1, -1, 0}, {3}));
    const QpSolved s = qp_solve({one, Var(number(0.5)), Var(values({1, -1, 1}, {3, 1})), h}, closest);
    CHECK(std::abs(s.z.item()) <= 1e-9);
    grad(sum(s.z), {h});
    CHECK(s.adjoint.last().samples[0].kind == GradientKind::non_differentiable);
    CHECK(qp_shift({one, {}, Var(values({1, -1, 1}, {3, 1})), h}).kinked[0]);
  }
  {  // One of p's batch axis, an infinite bound, and f32.
    const auto f32 = [](const Var& x) { return Var(x.value().to(DType::f32)); };
    const Var wide(values({1, -1, 1}, {3, 1})), h(values({-1, -2, inf}, {3})), p(values({0, 1}, {2, 1}));
    const QpSolved s = qp_solve({f32(one), f32(p), f32(wide), f32(h)}, closest);
    CHECK(s.report.solved());
    CHECK(s.z.dtype() == DType::f32);
    for (std::int64_t i = 0; i < 2; ++i) CHECK(s.z.value().at(i) == Approx(0.5).epsilon(1e-6));
    CHECK(std::isinf(s.slack.value().at(2)));
  }
  {  // From an earlier solution.
    const Var h(values({-1, -2}, {2})), p(number(0.3));
    QpSolveOptions options = closest;
    const QpSolved first = qp_solve({one, p, G, h}, options);
    options.start = {first.lambda.value(), first.slack.value()};
    CHECK(largest_difference(qp_solve({one, p, G, h}, options).z, first.z) <= 1e-12);
    const auto f32 = [](const Var& x) { return Var(x.value().to(DType::f32)); };
    options.start = {f32(first.lambda).value(), f32(first.slack).value()};
    CHECK(largest_difference(qp_solve({f32(one), f32(p), f32(G), f32(h)}, options).z, first.z) <= 1e-6);
  }
  CHECK_THROWS_WITH(qp_shift({one, Var(number(0)), G, Var(number(0))}),
                    Catch::Contains("[qp_shift] h must have shape"));
  CHECK_NOTHROW(qp_solve({one, Var(number(0)), G, Var(values({-1, -1}, {2}))},
                         {.policy = Policy::raise, .infeasible = Infeasible::closest}));
}
