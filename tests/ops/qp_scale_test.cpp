// Quadratic programs in other units: of the variables, of the rows, of the objective.
#include <banach/engine/grad.hpp>
#include <banach/ops/implicit/qp.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::test;

namespace {

// x = column * space * x', rows of G and A times `row`, the objective times `objective`.
struct Units {
  std::vector<double> column, row;
  double space = 1.0, objective = 1.0;
};

struct Problem {
  std::int64_t n, m, e;
  std::vector<double> Q, p, G, h, A, b;
};

// What comes out, in the units of the problem itself.
struct Found {
  QpStatus status;
  GradientKind kind;
  std::vector<double> z, multipliers, gradients;
};

Problem random_problem(Random& random, bool linear) {
  const auto between = [&](double low, double high) { return low + (high - low) * random.uniform(); };
  const auto size = [&](double low, double high) { return static_cast<std::int64_t>(between(low, high)); };
  Problem p{size(1, 9), size(0, 10), 0, {}, {}, {}, {}, {}, {}};
  p.e = std::min(p.n - 1, size(0, 3));
  const auto fill = [&](std::vector<double>& v, std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k) v.push_back(between(-1.0, 1.0));
  };
  std::vector<double> root, x0;
  fill(root, p.n * p.n), fill(p.p, p.n), fill(p.G, p.m * p.n), fill(p.A, p.e * p.n), fill(x0, p.n);
  const auto at = [&](const std::vector<double>& matrix, std::int64_t row) {
    double sum = 0.0;
    for (std::int64_t j = 0; j < p.n; ++j)
      sum += matrix[static_cast<std::size_t>(row * p.n + j)] * x0[static_cast<std::size_t>(j)];
    return sum;
  };
  for (std::int64_t k = 0; k < p.m; ++k) p.h.push_back(at(p.G, k) + (k % 2 == 0 ? 0.0 : random.uniform()));
  for (std::int64_t k = 0; k < p.e; ++k) p.b.push_back(at(p.A, k));
  for (std::int64_t r = 0; r < p.n; ++r)
    for (std::int64_t c = 0; c < p.n; ++c) {
      double sum = r == c ? 0.05 : 0.0;
      for (std::int64_t k = 0; k < p.n; ++k)
        sum += root[static_cast<std::size_t>(r * p.n + k)] * root[static_cast<std::size_t>(c * p.n + k)];
      p.Q.push_back(linear ? 0.0 : sum);
    }
  for (std::int64_t j = 0; linear && j < p.n; ++j)
    for (const double sign : {-1.0, 1.0}) {  // bounded
      for (std::int64_t k = 0; k < p.n; ++k) p.G.push_back(k == j ? sign : 0.0);
      p.h.push_back(sign * x0[static_cast<std::size_t>(j)] + between(0.5, 2.0));
      ++p.m;
    }
  return p;
}

Found solved(Problem p, const Units& u) {
  const auto unit = [](const std::vector<double>& v, std::int64_t k) {
    return v.empty() ? 1.0 : v[static_cast<std::size_t>(k)];
  };
  const auto column = [&](std::int64_t j) { return unit(u.column, j); };
  const auto row = [&](std::int64_t k) { return unit(u.row, k); };
  for (std::int64_t r = 0; r < p.n; ++r) {
    p.p[static_cast<std::size_t>(r)] *= u.objective * column(r) * u.space;
    for (std::int64_t c = 0; c < p.n; ++c)
      p.Q[static_cast<std::size_t>(r * p.n + c)] *= u.objective * column(r) * column(c);
  }
  const auto rows = [&](std::vector<double>& matrix, std::vector<double>& right, std::int64_t first) {
    for (std::int64_t k = 0; k < std::ssize(right); ++k) {
      right[static_cast<std::size_t>(k)] *= row(first + k) * u.space;
      for (std::int64_t j = 0; j < p.n; ++j)
        matrix[static_cast<std::size_t>(k * p.n + j)] *= row(first + k) * column(j);
    }
  };
  rows(p.G, p.h, 0), rows(p.A, p.b, p.m);

  const Tape tape;
  const Var linear = leaf(tensor(p.p, {p.n})), h = leaf(tensor(p.h, {p.m})), b = leaf(tensor(p.b, {p.e}));
  const QpSolved s = qp_solve({.Q = Var(tensor(p.Q, {p.n, p.n})),
                               .p = linear,
                               .G = Var(tensor(p.G, {p.m, p.n})),
                               .h = h,
                               .A = Var(tensor(p.A, {p.e, p.n})),
                               .b = b});
  std::vector<double> weights;
  for (std::int64_t j = 0; j < p.n; ++j)
    weights.push_back((0.3 + 0.1 * static_cast<double>(j)) * column(j) / u.space);
  const Vars g = grad(sum(s.z * Var(tensor(weights, {p.n}))), {linear, h, b});
  Found found{s.report.samples[0].status, s.adjoint.last().samples[0].kind, {}, {}, {}};
  for (std::int64_t j = 0; j < p.n; ++j) {
    found.z.push_back(s.z.value().at(j) * column(j) / u.space);
    found.gradients.push_back(g[0].value().at(j) * u.objective * column(j) * u.space);
  }
  const auto constraints = [&](const Var& multiplier, const Var& gradient, std::int64_t first) {
    for (std::int64_t k = 0; k < multiplier.size(); ++k) {
      found.multipliers.push_back(multiplier.value().at(k) * row(first + k) / u.objective / u.space);
      found.gradients.push_back(gradient.value().at(k) * row(first + k) * u.space);
    }
  };
  constraints(s.lambda, g[1], 0), constraints(s.nu, g[2], p.m);
  return found;
}

double difference(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0.0, size = 1e-3;
  for (std::size_t k = 0; k < a.size(); ++k)
    most = std::max(most, std::abs(a[k] - b[k])), size = std::max(size, std::abs(a[k]));
  return most / size;
}

}  // namespace

TEST_CASE("solutions and gradients do not depend on units", "[qp]") {
  Random random(21);
  for (int trial = 0; trial < 24; ++trial) {
    const Problem p = random_problem(random, trial % 4 == 0);
    const Found plain = solved(p, {});
    INFO("trial " << trial << ", n " << p.n << ", m " << p.m << ", e " << p.e << ": " << name(plain.kind));
    CHECK(plain.status == QpStatus::solved);
    const auto check = [&](const Units& units) {
      const Found found = solved(p, units);
      CHECK(found.status == plain.status);
      CHECK(found.kind == plain.kind);
      CHECK(difference(plain.z, found.z) <= 1e-9);
      if (plain.kind != GradientKind::exact) return;
      CHECK(difference(plain.multipliers, found.multipliers) <= 1e-9);
      CHECK(difference(plain.gradients, found.gradients) <= 1e-7);
    };
    for (const int power : {-12, -9, -6, -3, 3, 6, 9, 12}) {
      INFO("10^" << power);
      const double factor = std::pow(10.0, power);
      const auto rows = static_cast<std::size_t>(p.m + p.e);
      check({.column = {}, .row = {}, .space = factor});
      check({.column = {}, .row = {}, .objective = factor});
      check({.column = {}, .row = std::vector<double>(rows, factor)});
      Units mixed{.column = {}, .row = {}};
      for (std::int64_t j = 0; j < p.n; ++j)
        mixed.column.push_back(std::pow(factor, 0.5 * random.uniform() - 0.25));
      for (std::size_t k = 0; k < rows; ++k)
        mixed.row.push_back(std::pow(factor, 0.5 * random.uniform() - 0.25));
      check(mixed);
    }
  }
}

TEST_CASE("what has no solution has none in other units", "[qp]") {
  const Tensor one = tensor({1.0}, {1, 1});
  for (const double unit : {1e-12, 1e-9, 1e-6, 1.0, 1e6, 1e9, 1e12}) {
    INFO(unit);
    const auto status = [&](const QpData& d) { return solve_qp(d).report.samples[0].status; };
    // x <= -1 and -x <= -1; then the objective falls along x >= 0, with and without an h
    const Tensor sides = tensor({1.0, -1.0}, {2, 1});
    CHECK(status({one, {}, sides, tensor({-unit, -unit}, {2})}) == QpStatus::primal_infeasible);
    CHECK(status({tensor({0.0}, {1, 1}), tensor({-unit}, {1}), tensor({-1.0}, {1, 1}), tensor({0.0}, {1})}) ==
          QpStatus::dual_infeasible);
    CHECK(status({{}, tensor({-1.0}, {1}), tensor({-unit}, {1, 1}), tensor({unit}, {1})}) ==
          QpStatus::dual_infeasible);
    CHECK(status({one, {}, {}, {}, tensor({1.0, 1.0}, {2, 1}), tensor({unit, 2.0 * unit}, {2})}) ==
          QpStatus::primal_infeasible);
    CHECK(status({tensor({-unit}, {1, 1})}) == QpStatus::non_convex);
  }
}
