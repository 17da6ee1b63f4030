// Quadratic programs as fixed points of ADMM: the solution of qp_solve, and gradients that are what their
// rules say.
#include <banach/engine/grad.hpp>
#include <banach/ops/implicit/qp_admm.hpp>
#include <banach/ops/ops.hpp>
#include <tests/ops/qp_gradients.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

// Q, p, G, h, A, b of a batch; regular for most seeds.
Vars problem(std::uint64_t seed, std::int64_t batch, std::int64_t n, std::int64_t m, std::int64_t e) {
  Random random(seed);
  const Var root(normal(random, {batch, n, n}, 0.7)), x(normal(random, {batch, n, 1}));
  const Var G(normal(random, {batch, m, n})), A(normal(random, {batch, e, n}));
  const Var room = abs(Var(normal(random, {batch, m})));
  Vars all{matmul(root, root, {.transpose_b = true}) + Var(Tensor::eye(n, DType::f64)),
           Var(normal(random, {batch, n})),
           G,
           reshape(matmul(G, x), {batch, m}) + room,
           A,
           reshape(matmul(A, x), {batch, e})};
  for (Var& v : all) v = Var(v.value());
  return all;
}

Var values(const std::vector<double>& v, const Shape& shape) { return Var(tensor(v, shape)); }

QpParameters as_parameters(const Vars& v) { return {v[0], v[1], v[2], v[3], v[4], v[5]}; }

// A smooth function of all four outputs.
template <class Solved>
Var loss(const Solved& s) {
  return sum(square(s.z)) + sum(sin(s.nu)) + sum(square(s.lambda)) + sum(s.slack * s.slack);
}

template <class F>
Vars gradients(const Vars& at, const F& f) {
  const Tape tape;
  Vars leaves;
  for (const Var& v : at) leaves.push_back(leaf(v.value()));
  Vars result = grad(f(as_parameters(leaves)), leaves);
  for (Var& g : result) g = Var(g.value());
  return result;
}

double largest(const Vars& a, const Vars& b) {
  double most = 0.0;
  for (std::size_t k = 0; k < a.size(); ++k)
    if (a[k].size() > 0) most = std::max(most, largest_difference(a[k], b[k]));
  return most;
}

// Steps of OSQP as its paper has them, in z, w and y, each by one solve with its KKT matrix; of one problem
// without batch axis, from a state (z, v) with w = P(v), y = R (v - w).
struct Osqp {
  Var z, w, y;
  Var C, bound;
  std::int64_t m;

  Osqp(const Vars& v, const Var& z0, const Var& v0) : m(v[3].size()) {
    C = concat({v[2], v[4]}, 0), bound = concat({v[3], v[5]}, 0);
    z = z0, w = projected(v0), y = R() * (v0 - w);
  }
  Var R() const {
    Tensor weights = Tensor::full({bound.size()}, 1e3, DType::f64);
    std::fill_n(weights.mutable_data<double>(), m, 1.0);
    return Var(weights);
  }
  Var projected(const Var& v) const {
    const std::int64_t all = v.size();
    return concat({minimum(slice(v, 0, 0, m), slice(bound, 0, 0, m)), slice(bound, 0, m, all)}, 0);
  }
  void step(const Vars& v) {
    const std::int64_t n = z.size(), k = bound.size();
    const double sigma = 1e-6, alpha = 1.6;
    const Var upper =
        concat({0.5 * (v[0] + transpose(v[0])) + sigma * Var(Tensor::eye(n, DType::f64)), transpose(C)}, 1);
    const Var kkt = concat({upper, concat({C, -diagonal_matrix(1.0 / R())}, 1)}, 0);
    const Var found = solve(kkt, concat({sigma * z - v[1], w - y / R()}, 0));
    const Var next = slice(found, 0, 0, n), next_w = w + (slice(found, 0, n, n + k) - y) / R();
    const Var mixed = alpha * next_w + (1.0 - alpha) * w;
    z = alpha * next + (1.0 - alpha) * z;
    w = projected(mixed + y / R());
    y = y + R() * (mixed - w);
  }
  QpSolved outputs() const {
    const std::int64_t k = bound.size();
    return {z, slice(y, 0, m, k), slice(y, 0, 0, m), slice(bound - w, 0, 0, m), {}, {}};
  }
};

// The first problem without its batch axis.
Vars alone(const Vars& all) {
  Vars result;
  for (const Var& v : all) {
    Ints extents;
    for (int axis = 1; axis < v.rank(); ++axis) extents.push_back(v.shape()[axis]);
    result.push_back(Var(v.value().rows(0, 1).reshape(Shape(extents))));
  }
  return result;
}

}  // namespace

TEST_CASE("ADMM finds the solutions of qp_solve, and Implicit its gradient", "[qp]") {
  QpAdmmOptions options;
  options.fixed_point.tolerance = 1e-12;
  int compared = 0;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    Vars at =
        problem(seed, 3, 4 + static_cast<std::int64_t>(seed % 3), 7, static_cast<std::int64_t>(seed % 3));
    if (seed % 4 == 1) {  // Q, A and b shared
      const Vars one = alone(at);
      at[0] = one[0], at[4] = one[4], at[5] = one[5];
      at[3] = Var((abs(at[3]) + 6.0).value());
    }
    const QpSolved exact = qp_solve(as_parameters(at));
    REQUIRE(exact.report.solved());
    if (!clear_of_changes(exact.lambda, exact.slack)) continue;
    ++compared;
    INFO("seed " << seed);
    const QpAdmm s = qp_admm(as_parameters(at), options);
    CHECK(s.report.converged());
    CHECK(largest_difference(s.z, exact.z) <= 1e-8);
    CHECK(largest_difference(s.nu, exact.nu) <= 1e-7);
    CHECK(largest_difference(s.lambda, exact.lambda) <= 1e-8);
    CHECK(largest_difference(s.slack, exact.slack) <= 1e-8);
    const Vars by_admm = gradients(at, [&](const QpParameters& q) { return loss(qp_admm(q, options)); });
    CHECK(largest(by_admm, gradients(at, [](const QpParameters& q) { return loss(qp_solve(q)); })) <= 1e-6);
  }
  CHECK(compared >= 4);
}

TEST_CASE("truncated rules of ADMM are the derivatives of so many steps of OSQP", "[qp]") {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const Vars at = alone(problem(seed, 1, 4, 6, static_cast<std::int64_t>(seed % 3)));
    const std::int64_t n = 4, k = 6 + at[5].size();
    INFO("seed " << seed);
    {  // All steps from the start.
      QpAdmmOptions options;
      options.fixed_point = {.solver = Picard{}, .backward = Unrolled{}, .tolerance = 1e-14, .max_steps = 9};
      const QpAdmm s = qp_admm(as_parameters(at), options);
      const int steps = s.report.samples[0].best_step - 1;
      REQUIRE(steps >= 3);
      const auto by_hand = [&](const QpParameters& q) {
        const Vars v{q.Q, q.p, q.G, q.h, q.A, q.b};
        Osqp osqp(v, Var(Tensor::zeros({n}, DType::f64)), Var(Tensor::zeros({k}, DType::f64)));
        for (int i = 0; i < steps; ++i) osqp.step(v);
        return osqp.outputs();
      };
      const QpSolved expected = by_hand(as_parameters(at));
      CHECK(largest_difference(s.z, expected.z) <= 1e-9);
      CHECK(largest_difference(s.nu, expected.nu) <= 1e-7);
      CHECK(largest_difference(s.lambda, expected.lambda) <= 1e-9);
      CHECK(largest_difference(s.slack, expected.slack) <= 1e-9);
      const Vars g = gradients(at, [&](const QpParameters& q) { return sum(square(qp_admm(q, options).z)); });
      CHECK(largest(g, gradients(at, [&](const QpParameters& q) { return sum(square(by_hand(q).z)); })) <=
            1e-8);
    }
    {  // One step at the solution.
      QpAdmmOptions options;
      options.fixed_point.tolerance = 1e-12, options.fixed_point.backward = JacobianFree{};
      const QpAdmm s = qp_admm(as_parameters(at), options);
      REQUIRE(s.report.converged());
      const Var multipliers = concat({s.lambda, s.nu}, 0), bound = concat({at[3], at[5]}, 0);
      const Var w = bound - concat({s.slack, Var(Tensor::zeros({k - 6}, DType::f64))}, 0);
      const auto by_hand = [&](const QpParameters& q) {
        const Vars v{q.Q, q.p, q.G, q.h, q.A, q.b};
        Osqp osqp(v, Var(s.z.value()), Var((w + multipliers / Osqp(at, s.z, w).R()).value()));
        osqp.step(v);
        return loss(osqp.outputs());
      };
      const Vars one = gradients(at, by_hand);
      CHECK(largest(gradients(at, [&](const QpParameters& q) { return loss(qp_admm(q, options)); }), one) <=
            1e-6);
      options.fixed_point.backward = Neumann{1};
      CHECK(largest(gradients(at, [&](const QpParameters& q) { return loss(qp_admm(q, options)); }), one) <=
            1e-6);
    }
  }
}

TEST_CASE("longer truncations of ADMM come nearer to the exact gradient", "[qp]") {
  const Vars at = problem(5, 2, 5, 6, 1);
  const auto f = [](const QpParameters& q) { return sum(square(qp_solve(q).z)); };
  const Vars exact = gradients(at, f);
  const auto off = [&](BackwardRule rule) {
    QpAdmmOptions options;
    options.fixed_point.tolerance = 1e-10, options.fixed_point.backward = std::move(rule);
    return largest(gradients(at, [&](const QpParameters& q) { return sum(square(qp_admm(q, options).z)); }),
                   exact);
  };
  CHECK(off(Neumann{400}) <= 1e-3 * off(JacobianFree{}));
  CHECK(off(Phantom{.steps = 400}) <= 1e-3 * off(JacobianFree{}));
  CHECK(off(TruncatedUnroll{400}) <= 1e-3 * off(JacobianFree{}));
}

TEST_CASE("ADMM without constraints, with infinite bounds, and with what it refuses", "[qp]") {
  const Var Q = values({2, 0, 0, 1}, {2, 2}), p = values({1, -1}, {2});
  const QpAdmm free = qp_admm({Q, p});
  CHECK(free.z.value().at(0) == Approx(-0.5));
  CHECK(free.z.value().at(1) == Approx(1.0));
  CHECK(free.nu.shape() == Shape{0});
  const double inf = std::numeric_limits<double>::infinity();
  const QpAdmm open = qp_admm({Q, p, Var(Tensor::eye(2, DType::f64)), values({inf, 0.5}, {2})});
  CHECK(open.z.value().at(0) == Approx(-0.5));
  CHECK(open.z.value().at(1) == Approx(0.5));
  CHECK(open.lambda.value().at(0) == 0.0);
  CHECK(open.lambda.value().at(1) == Approx(0.5));
  CHECK(open.slack.value().at(0) == inf);
  const QpAdmm none = qp_admm({Q, p, values({1, 0, -1, 0}, {2, 2}), values({-1, -1}, {2})});
  CHECK_FALSE(none.report.converged());
  const auto f32 = [](const Var& x) { return Var(x.value().to(DType::f32)); };
  QpAdmmOptions coarse;
  coarse.fixed_point.tolerance = 1e-5;
  CHECK(qp_admm({f32(Q), f32(p)}, coarse).z.dtype() == DType::f32);
  CHECK_THROWS_WITH(qp_admm({Q, values({1, 1, 1}, {3})}),
                    Contains("[qp_admm] p must have shape (...,2): (3)"));
  CHECK_THROWS_WITH(qp_admm({Q, f32(p)}),
                    Contains("[qp_admm] all must have one dtype: p is f32, others f64"));
  CHECK_THROWS_WITH(qp_admm({.Q = Q, .G = Q}), Contains("[qp_admm] G and h must be given together"));
  CHECK_THROWS_WITH(qp_admm({}), Contains("[qp_admm] some part of the problem must be given"));
  CHECK_THROWS_WITH(qp_admm({Q, p}, {.rho = 0.0}), Contains("[qp_admm] rho must be positive: 0"));
  CHECK_THROWS_WITH(qp_admm({Q, p}, {.relaxation = 2.0}), Contains("relaxation"));
}
