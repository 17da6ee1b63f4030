// Quadratic programs begun from an earlier solution: the same answers, in fewer steps.
#include <banach/engine/error.hpp>
#include <banach/solvers/qp.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

Tensor values(const std::vector<double>& v, const Shape& shape) { return tensor(v, shape); }

// A strictly convex Q, and room of about one around the origin; with equations if e > 0.
QpData problems(std::int64_t batch, std::int64_t n, std::int64_t m, std::int64_t e, std::uint64_t seed) {
  Random random(seed);
  QpData d{Tensor::zeros({batch, n, n}, DType::f64),
           normal(random, {batch, n}),
           normal(random, {batch, m, n}),
           normal(random, {batch, m}),
           normal(random, {batch, e, n}),
           Tensor::zeros({batch, e}, DType::f64)};
  const Tensor root = normal(random, {batch, n, n});
  double *Q = d.Q.mutable_data<double>(), *h = d.h.mutable_data<double>();
  for (std::int64_t i = 0; i < batch; ++i)
    for (std::int64_t r = 0; r < n; ++r)
      for (std::int64_t c = 0; c < n; ++c) {
        double sum = r == c ? 0.1 : 0.0;
        for (std::int64_t k = 0; k < n; ++k)
          sum += root.at((i * n + r) * n + k) * root.at((i * n + c) * n + k);
        Q[(i * n + r) * n + c] = sum / static_cast<double>(n);
      }
  for (std::int64_t k = 0; k < batch * m; ++k) h[k] = std::abs(h[k]);
  return d;
}

int steps(const QpSolution& s) {
  int sum = 0;
  for (const QpSampleReport& r : s.report.samples) sum += r.steps;
  return sum;
}

double difference(const QpSolution& a, const QpSolution& b) {
  return std::max({largest_difference(a.z, b.z), largest_difference(a.nu, b.nu),
                   largest_difference(a.lambda, b.lambda), largest_difference(a.slack, b.slack)});
}

bool same(const QpSolution& a, const QpSolution& b) {
  return same_bits(a.z, b.z) && same_bits(a.nu, b.nu) && same_bits(a.lambda, b.lambda) &&
         same_bits(a.slack, b.slack);
}

}  // namespace

TEST_CASE("a repeated solve takes one factorisation", "[qp]") {
  for (const std::int64_t n : {1, 7, 40}) {
    const QpData d = problems(11, n, n + 1, n / 4, 3);
    const QpSolution cold = solve_qp(d), warm = solve_qp(d, {.start = {cold.lambda, cold.slack}});
    REQUIRE(cold.report.solved());
    CHECK(warm.report.solved());
    for (const QpSampleReport& r : warm.report.samples) {
      CHECK(r.steps == 1);
      CHECK(r.largest() <= 1e-9);
    }
    CHECK(difference(warm, cold) <= 1e-9);
    // Only the set counts: numbers in f32, or rough ones, lead to the same bits.
    const Tensor rough = cold.lambda.to(DType::f32), none = cold.slack.to(DType::f32);
    CHECK(same(solve_qp(d, {.start = {rough, none}}), warm));
  }
}

TEST_CASE("a start saves steps where the problem has changed a little", "[qp]") {
  for (const auto& [n, m, e] : {std::array<std::int64_t, 3>{10, 10, 0}, {50, 50, 12}, {30, 10, 5}}) {
    const QpData d = problems(32, n, m, e, 5);
    const QpSolution before = solve_qp(d);
    QpData moved = d;
    const Tensor change = normal({32, n}, 6);
    for (std::int64_t k = 0; k < moved.p.size(); ++k)
      moved.p.mutable_data<double>()[k] += 0.02 * change.at(k);
    const QpSolution cold = solve_qp(moved),
                     warm = solve_qp(moved, {.derivative = true, .start = {before.lambda, before.slack}});
    INFO("n " << n << ": " << steps(cold) << " steps, " << steps(warm) << " from the earlier solution");
    CHECK(warm.report.solved());
    CHECK(difference(warm, cold) <= 1e-9);
    CHECK(2 * steps(warm) < steps(cold));
    // The kept factor is that of the solution.
    const QpSolution other = solve_qp(moved, {.derivative = true});
    CHECK(same_bits(warm.derivative->active(), other.derivative->active()));
    const Tensor gx = normal({32, n}, 7), gy = normal({32, e}, 8), gz = normal({32, m}, 9);
    const auto a = warm.derivative->solve(gx, gy, gz), b = other.derivative->solve(gx, gy, gz);
    CHECK(largest_difference(a.z, b.z) <= 1e-8);
    CHECK(largest_difference(a.lambda, b.lambda) <= 1e-8);
  }
}

TEST_CASE("where a start could lead elsewhere, it does not count", "[qp]") {
  const Tensor one = values({1}, {1, 1});
  const auto number = [](double v) { return values({v}, {1}); };
  const QpOptions plain{.derivative = true};
  const auto from = [](const std::vector<double>& active) {
    std::vector<double> slack;
    for (const double a : active) slack.push_back(1.0 - a);
    const auto m = static_cast<std::int64_t>(active.size());
    return QpOptions{.derivative = true, .start = {values(active, {m}), values(slack, {m})}};
  };
  const auto check = [&](const QpData& d, const std::vector<std::vector<double>>& starts) {
    const QpSolution cold = solve_qp(d, plain);
    for (const auto& active : starts) {
      const QpSolution s = solve_qp(d, from(active));
      CHECK(same(s, cold));
      CHECK(same_bits(s.derivative->active(), cold.derivative->active()));
      CHECK(s.derivative->problems()[0].weak == cold.derivative->problems()[0].weak);
      CHECK(s.derivative->problems()[0].singular == cold.derivative->problems()[0].singular);
    }
    return cold;
  };
  // x >= 0 with neither multiplier nor slack; x <= 1 twice, of which one alone would do.
  CHECK(check({one, number(0), values({-1}, {1, 1}), number(0)}, {{0}, {1}}).derivative->problems()[0].weak ==
        1);
  const QpSolution twice =
      check({one, number(-2), values({1, 1}, {2, 1}), values({1, 1}, {2})}, {{0, 0}, {1, 0}, {0, 1}, {1, 1}});
  CHECK(twice.lambda.at(0) == Approx(0.5).epsilon(1e-9));
  // A face of solutions, and a saddle point that satisfies the optimality conditions.
  check({{}, values({-1, -1}, {2}), values({1, 1, -1, 0, 0, -1}, {3, 2}), values({1, 0, 0}, {3})},
        {{1, 0, 0}, {1, 1, 0}, {1, 0, 1}});
  const QpData saddle{values({1, 0, 0, -1}, {2, 2}), values({0, 0}, {2}),
                      values({1, 0, -1, 0, 0, 1, 0, -1}, {4, 2}), values({1, 1, 1, 1}, {4})};
  CHECK(solve_qp(saddle, from({0, 0, 1, 0})).report.samples[0].status == QpStatus::non_convex);
  const QpData apart{one, number(0), values({1, -1}, {2, 1}), values({-1, -1}, {2})};
  CHECK(solve_qp(apart, from({1, 0})).report.samples[0].status == QpStatus::primal_infeasible);
}

TEST_CASE("whether a start counts does not depend on the neighbours' starts", "[qp]") {
  // One at a time, min (z - c)^2 / 2 with z >= 1, 2, 3: only the last row is active. Neighbours begin with
  // other rows.
  const std::int64_t batch = 8;
  const QpData d{values({1.0}, {1, 1}),
                 values(std::vector<double>(8, 0.5), {batch, 1}),
                 values({-1.0, -1.0, -1.0}, {3, 1}),
                 values({-1.0, -2.0, -3.0}, {3}),
                 {},
                 {}};
  const QpSolution cold = solve_qp(d);
  REQUIRE(cold.report.solved());
  for (const std::int64_t wrong : {0, 1}) {
    Tensor z = Tensor::zeros({batch, 3}, DType::f64), s = Tensor::zeros({batch, 3}, DType::f64);
    for (std::int64_t i = 0; i < batch; ++i)
      for (std::int64_t k = 0; k < 3; ++k) {
        const bool on = k == (i == 0 ? 2 : wrong);
        z.mutable_data<double>()[i * 3 + k] = on ? 1.0 : 0.0;
        s.mutable_data<double>()[i * 3 + k] = on ? 0.0 : 1.0;
      }
    const QpSolution warm = solve_qp(d, {.start = {z, s}});
    REQUIRE(warm.report.solved());
    CHECK(warm.report.samples[0].steps == 1);
  }
}

TEST_CASE("no start is too bad", "[qp]") {
  const std::int64_t batch = 13, n = 6, m = 9;
  const QpData d = problems(batch, n, m, 2, 7);
  const QpSolution cold = solve_qp(d);
  REQUIRE(cold.report.solved());
  const Tensor zeros = Tensor::zeros({batch, m}, DType::f64),
               ones = Tensor::full({batch, m}, 1.0, DType::f64);
  const double inf = std::numeric_limits<double>::infinity();
  for (const QpStart& start : {QpStart{ones, zeros},
                               {zeros, ones},
                               {zeros, zeros},
                               {normal({batch, m}, 1), normal({batch, m}, 2)},
                               {Tensor::full({m}, inf, DType::f64), Tensor::full({m}, -inf, DType::f64)}}) {
    const QpSolution s = solve_qp(d, {.start = start});
    CHECK(s.report.solved());
    CHECK(difference(s, cold) <= 1e-9);
  }
  // Problems with a NaN in their start have none, and do not touch their neighbours.
  Tensor lambda = cold.lambda.clone();
  for (const std::int64_t i : {1, 8}) lambda.mutable_data<double>()[i * m + 4] = std::nan("");
  const QpSolution some = solve_qp(d, {.start = {lambda, cold.slack}}),
                   all = solve_qp(d, {.start = {cold.lambda, cold.slack}});
  for (std::int64_t i = 0; i < batch; ++i) {
    const QpSolution& expected = i == 1 || i == 8 ? cold : all;
    CHECK(same_bits(some.z.rows(i, i + 1), expected.z.rows(i, i + 1)));
    CHECK(some.report.samples[static_cast<std::size_t>(i)].steps ==
          expected.report.samples[static_cast<std::size_t>(i)].steps);
  }
  CHECK_THROWS_WITH(solve_qp(d, {.start = {zeros.rows(0, 2), zeros}}),
                    Contains("start.lambda must have shape (13,9) or (9): (2,9)"));
  CHECK_THROWS_WITH(solve_qp(d, {.start = {zeros, Tensor::zeros({n}, DType::f64)}}), Contains("start.slack"));
  CHECK_THROWS_WITH(solve_qp(d, {.start = {zeros}}), Contains("together"));
  CHECK_THROWS_WITH(solve_qp(d, {.start = {zeros.to(DType::i64), zeros}}), Contains("floating"));
}
