// Thousands of random quadratic programs whose end is known by construction.
#include <tests/sanitizers.hpp>
#include <tests/solvers/qp_conditions.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;

namespace {

constexpr std::int64_t thinned = BANACH_SANITIZED ? 20 : 1;

// One kind of problems, and a batch of it to be filled.
struct Kind {
  std::int64_t n, m, e;
  bool semidefinite, dependent, scaled;
};

// Kind number i of a sequence through all sizes up to n = 12, m = 24, e = 6 and all combinations.
Kind kind(Random& random, std::int64_t i, bool constrained) {
  const std::int64_t n = 1 + random.below(12);
  const std::int64_t m = constrained ? 2 + random.below(2 * n) : random.below(2 * n + 1);
  return {n, m, random.below(n / 2 + 1), i % 2 == 1, i / 2 % 2 == 1, i / 4 % 2 == 1};
}

// A problem as plain numbers, and the multipliers and point that solve it.
struct Problem {
  Kind kind;
  std::vector<double> Q, p, G, h, A, b, x, lambda, nu;

  double& entry(std::vector<double>& matrix, std::int64_t r, std::int64_t c) const {
    return matrix[r * kind.n + c];
  }
  double along(std::vector<double>& matrix, std::int64_t r) const {
    double sum = 0.0;
    for (std::int64_t c = 0; c < kind.n; ++c) sum += entry(matrix, r, c) * x[c];
    return sum;
  }
  // Row `to` becomes, or is increased by, a multiple of row `from`, right-hand side included.
  void add_row(std::vector<double>& matrix, std::vector<double>& right, std::int64_t to, double factor,
               const std::vector<double>& from_matrix, const std::vector<double>& from_right,
               std::int64_t from) const {
    for (std::int64_t c = 0; c < kind.n; ++c) entry(matrix, to, c) += factor * from_matrix[from * kind.n + c];
    right[to] += factor * from_right[from];
  }
  void clear_row(std::vector<double>& matrix, std::vector<double>& right, std::int64_t r) const {
    for (std::int64_t c = 0; c < kind.n; ++c) entry(matrix, r, c) = 0.0;
    right[r] = 0.0;
  }

  // Solved by x: each constraint is active with a multiplier, or has slack, or (one in eight) neither.
  Problem(Random& random, const Kind& k) : kind(k) {
    const auto [n, m, e, semidefinite, dependent, scaled] = k;
    const auto normals = [&](std::int64_t count) {
      std::vector<double> v(count);
      for (double& value : v) value = random.normal();
      return v;
    };
    const std::int64_t rank = semidefinite ? n / 2 : n;
    std::vector<double> root = normals(n * std::max<std::int64_t>(rank, 1));
    x = normals(n), G = normals(m * n), A = normals(e * n);
    h.resize(m), b.resize(e);
    Q.resize(n * n), p.resize(n);
    for (std::int64_t r = 0; r < n; ++r)
      for (std::int64_t c = 0; c < n; ++c)
        for (std::int64_t j = 0; j < rank; ++j)
          entry(Q, r, c) += root[r * rank + j] * root[c * rank + j] / static_cast<double>(rank);
    std::vector<double> slack(m);
    lambda = slack;
    for (std::int64_t i = 0; i < m; ++i) {
      const auto draw = random.below(8);
      (draw < 4 ? slack : lambda)[i] = draw == 0 ? 0.0 : std::abs(random.normal());
    }
    for (std::int64_t i = 0; i < m; ++i) h[i] = along(G, i) + slack[i];
    for (std::int64_t i = 0; i < e; ++i) b[i] = along(A, i);
    if (dependent) {  // The last third of the rows repeats others.
      for (std::int64_t i = m - m / 3; i < m; ++i) {
        clear_row(G, h, i);
        add_row(G, h, i, 0.5 + random.uniform(), G, h, i - m / 3);
        lambda[i] = lambda[i - m / 3];
      }
      if (e > 1) {
        clear_row(A, b, e - 1);
        for (std::int64_t i = 0; i + 1 < e; ++i) add_row(A, b, e - 1, random.normal(), A, b, i);
      }
    }
    nu = normals(e);
    set_p();
  }

  // x, lambda and nu make the Lagrangian stationary.
  void set_p() {
    for (std::int64_t c = 0; c < kind.n; ++c) {
      p[c] = -along(Q, c);
      for (std::int64_t i = 0; i < kind.m; ++i) p[c] -= entry(G, i, c) * lambda[i];
      for (std::int64_t i = 0; i < kind.e; ++i) p[c] -= entry(A, i, c) * nu[i];
    }
  }

  // Other units for every constraint, variable, and the objective.
  void rescale(Random& random) {
    const auto unit = [&](double decades) {
      return std::pow(10.0, decades * (2.0 * random.uniform() - 1.0));
    };
    const auto rows = [&](std::vector<double>& matrix, std::vector<double>& right) {
      for (std::size_t i = 0; i < right.size(); ++i) {
        const double by = unit(3.0);
        right[i] *= by;
        for (std::int64_t c = 0; c < kind.n; ++c) entry(matrix, static_cast<std::int64_t>(i), c) *= by;
      }
    };
    rows(G, h), rows(A, b);
    for (std::int64_t c = 0; c < kind.n; ++c) {
      const double by = unit(1.0);
      p[c] *= by, x[c] /= by;
      for (std::int64_t i = 0; i < kind.m; ++i) entry(G, i, c) *= by;
      for (std::int64_t i = 0; i < kind.e; ++i) entry(A, i, c) *= by;
      for (std::int64_t i = 0; i < kind.n; ++i) entry(Q, i, c) *= by, entry(Q, c, i) *= by;
    }
    const double by = unit(2.0);
    for (double& v : Q) v *= by;
    for (double& v : p) v *= by;
  }

  double objective() {
    double sum = 0.0;
    for (std::int64_t r = 0; r < kind.n; ++r) sum += x[r] * (0.5 * along(Q, r) + p[r]);
    return sum;
  }

  // The last constraint contradicts the others, by `off`.
  void contradict(Random& random, bool equality, double off) {
    const std::int64_t m = kind.m, e = kind.e;
    if (equality && e > 1) {
      clear_row(A, b, e - 1);
      for (std::int64_t i = 0; i + 1 < e; ++i) add_row(A, b, e - 1, random.normal(), A, b, i);
      b.back() += random.below(2) == 0 ? off : -off;
      set_p();
      return;
    }
    clear_row(G, h, m - 1);
    for (std::int64_t i = 0; i + 1 < m; ++i)
      if (random.below(2) == 0) add_row(G, h, m - 1, -std::abs(random.normal()), G, h, i);
    for (std::int64_t i = 0; i < e; ++i) add_row(G, h, m - 1, random.normal(), A, b, i);
    h.back() -= off;
    set_p();
  }

  // From x a direction leads down without end: neither Q nor a constraint hinders.
  void open(Random& random) {
    const std::int64_t n = kind.n, m = kind.m, e = kind.e;
    std::vector<double> d(n);
    double length = 0.0;
    for (double& v : d) v = random.normal(), length += v * v;
    for (double& v : d) v /= std::sqrt(length);
    const auto ahead = [&](std::vector<double>& matrix, std::int64_t r) {
      double sum = 0.0;
      for (std::int64_t c = 0; c < n; ++c) sum += entry(matrix, r, c) * d[c];
      return sum;
    };
    const auto add = [&](std::vector<double>& matrix, std::int64_t r, double by) {
      for (std::int64_t c = 0; c < n; ++c) entry(matrix, r, c) += by * d[c];
    };
    for (std::int64_t r = 0; r < n; ++r) add(Q, r, -ahead(Q, r));  // Q <- P Q P, P = I - d d'
    for (std::int64_t c = 0; c < n; ++c) {
      double sum = 0.0;
      for (std::int64_t r = 0; r < n; ++r) sum += entry(Q, r, c) * d[r];
      for (std::int64_t r = 0; r < n; ++r) entry(Q, r, c) -= sum * d[r];
    }
    for (std::int64_t i = 0; i < e; ++i) {
      add(A, i, -ahead(A, i));
      b[i] = along(A, i);
    }
    for (std::int64_t i = 0; i < m; ++i) {
      const double slack = h[i] - along(G, i), fall = ahead(G, i);
      if (i % 3 == 0)
        add(G, i, -fall);  // neither nearer nor farther
      else if (fall > 0.0)
        add(G, i, -2.0 * fall);
      h[i] = along(G, i) + std::max(slack, 0.0);
    }
    double slope = 0.0;
    for (std::int64_t c = 0; c < n; ++c) slope += p[c] * d[c];
    const double wanted = -(0.01 + std::abs(random.normal()));
    for (std::int64_t c = 0; c < n; ++c) p[c] += (wanted - slope) * d[c];
  }
};

QpData batch_of(const std::vector<Problem>& problems) {
  const Kind& k = problems[0].kind;
  const auto count = std::ssize(problems);
  const auto joined = [&](std::vector<double> Problem::*part, const Shape& shape) {
    Tensor t = Tensor::empty(shape, DType::f64);
    double* out = t.mutable_data<double>();
    for (const Problem& problem : problems)
      out = std::copy((problem.*part).begin(), (problem.*part).end(), out);
    return t;
  };
  return {joined(&Problem::Q, {count, k.n, k.n}), joined(&Problem::p, {count, k.n}),
          joined(&Problem::G, {count, k.m, k.n}), joined(&Problem::h, {count, k.m}),
          joined(&Problem::A, {count, k.e, k.n}), joined(&Problem::b, {count, k.e})};
}

double largest(const std::vector<double>& v) {
  double most = 0.0;
  for (double x : v) most = std::max(most, std::abs(x));
  return most;
}

std::string words(const Kind& k) {
  return "n " + std::to_string(k.n) + ", m " + std::to_string(k.m) + ", e " + std::to_string(k.e) +
         (k.semidefinite ? ", semidefinite" : "") + (k.dependent ? ", dependent rows" : "") +
         (k.scaled ? ", badly scaled" : "");
}

}  // namespace

TEST_CASE("of 20,000 feasible problems all are solved and none is called infeasible", "[qp]") {
  Random random(1);
  for (std::int64_t i = 0; i < 400 / thinned; ++i) {
    const Kind k = kind(random, i, false);
    std::vector<Problem> problems;
    for (int j = 0; j < 50; ++j) {
      problems.emplace_back(random, k);
      if (k.scaled) problems.back().rescale(random);
    }
    const QpData d = batch_of(problems);
    const QpSolution s = solve_qp(d);
    INFO(words(k) << ": " << s.report.to_string());
    CHECK(s.report.solved());
    for (std::size_t j = 0; j < problems.size(); ++j) {
      CHECK(violation(d, s, static_cast<std::int64_t>(j)) <= 1e-7);
      const double known = problems[j].objective();
      CHECK(std::abs(s.report.samples[j].objective - known) <= 1e-7 * std::max(1.0, std::abs(known)));
    }
  }
}

TEST_CASE("2,000 infeasible problems are named, with proof", "[qp]") {
  Random random(2);
  std::int64_t named = 0, all = 0;
  for (std::int64_t i = 0; i < 200 / thinned; ++i) {
    const Kind k = kind(random, i, true);
    std::vector<Problem> problems;
    for (int j = 0; j < 10; ++j) {
      problems.emplace_back(random, k);
      problems.back().contradict(random, j % 2 == 0, 0.01 + std::abs(random.normal()));
      if (k.scaled) problems.back().rescale(random);
    }
    const QpData d = batch_of(problems);
    const QpSolution s = solve_qp(d);
    INFO(words(k) << ": " << s.report.to_string());
    CHECK(s.report.count(QpStatus::solved) == 0);
    all += 10, named += s.report.count(QpStatus::primal_infeasible);
    for (std::int64_t j = 0; j < 10; ++j) {
      if (s.report.samples[static_cast<std::size_t>(j)].status != QpStatus::primal_infeasible) continue;
      const auto nu = row(s.nu, j), lambda = row(s.lambda, j);
      const auto left = times(d.A, j, nu, true), right = times(d.G, j, lambda, true);
      for (std::size_t c = 0; c < left.size(); ++c) CHECK(std::abs(left[c] + right[c]) <= 1e-8);
      CHECK(*std::min_element(lambda.begin(), lambda.end()) >= 0.0);
      CHECK(dot(row(d.b, j), nu) + dot(row(d.h, j), lambda) == Approx(-1.0).epsilon(1e-6));
    }
  }
  INFO(named << " of " << all);
  CHECK(1000 * named >= 995 * all);
}

TEST_CASE("2,000 unbounded problems are named, with proof", "[qp]") {
  Random random(3);
  std::int64_t named = 0, all = 0;
  for (std::int64_t i = 0; i < 200 / thinned; ++i) {
    const Kind k = kind(random, i, false);
    std::vector<Problem> problems;
    for (int j = 0; j < 10; ++j) {
      problems.emplace_back(random, k);
      problems.back().open(random);
      if (k.scaled) problems.back().rescale(random);
    }
    const QpData d = batch_of(problems);
    const QpSolution s = solve_qp(d);
    INFO(words(k) << ": " << s.report.to_string());
    CHECK(s.report.count(QpStatus::solved) == 0);
    all += 10, named += s.report.count(QpStatus::dual_infeasible);
    for (std::int64_t j = 0; j < 10; ++j) {
      if (s.report.samples[static_cast<std::size_t>(j)].status != QpStatus::dual_infeasible) continue;
      const auto z = row(s.z, j);
      CHECK(largest(times(d.Q, j, z, false)) <= 1e-8);
      CHECK(largest(times(d.A, j, z, false)) <= 1e-8);
      for (double v : times(d.G, j, z, false)) CHECK(v <= 1e-8);
      CHECK(dot(row(d.p, j), z) == Approx(-1.0).epsilon(1e-6));
    }
  }
  INFO(named << " of " << all);
  CHECK(1000 * named >= 995 * all);
}

TEST_CASE("a batch of problems equals the loop over its items", "[qp]") {
  Random random(4);
  for (const Kind& k : {Kind{3, 4, 1, false, false, false}, Kind{12, 20, 4, false, false, false},
                        Kind{12, 20, 4, false, true, false}, Kind{40, 30, 8, false, false, false}}) {
    std::vector<Problem> problems;
    for (int j = 0; j < 21; ++j) problems.emplace_back(random, k);
    const QpSolution all = solve_qp(batch_of(problems));
    INFO(words(k));
    for (std::int64_t j = 0; j < 21; ++j) {
      const QpSolution alone = solve_qp(batch_of({problems[static_cast<std::size_t>(j)]}));
      CHECK(largest_difference(alone.z, all.z.rows(j, j + 1)) <= 1e-12);
      CHECK(largest_difference(alone.slack, all.slack.rows(j, j + 1)) <= 1e-12);
      if (k.dependent) continue;
      CHECK(largest_difference(alone.nu, all.nu.rows(j, j + 1)) <= 1e-12);
      CHECK(largest_difference(alone.lambda, all.lambda.rows(j, j + 1)) <= 1e-12);
    }
  }
}
