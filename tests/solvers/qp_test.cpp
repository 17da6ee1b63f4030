// Quadratic programs against optimality conditions, known answers, and certificates that prove themselves.
#include <banach/engine/error.hpp>
#include <banach/engine/simd.hpp>
#include <banach/solvers/qp.hpp>
#include <banach/solvers/qp/irregular.hpp>
#include <tests/isa.hpp>
#include <tests/solvers/qp_conditions.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

const double inf = std::numeric_limits<double>::infinity();

Tensor values(const std::vector<double>& v, const Shape& shape) { return tensor(v, shape); }

// A share of the entries of a matrix becomes 0.
void thin_out(Tensor& matrix, double share, Random& random) {
  for (std::int64_t k = 0; k < matrix.size(); ++k)
    if (random.uniform() < share) matrix.mutable_data<double>()[k] = 0.0;
}

// Feasible by construction: h and b follow from a point x0. Q has the rank given, and is made strictly convex
// by `shift`.
QpData random_problems(std::int64_t batch, std::int64_t n, std::int64_t m, std::int64_t e, std::int64_t rank,
                       double shift, std::uint64_t seed, double zeros = 0.0) {
  Random random(seed);
  QpData d{Tensor::zeros({batch, n, n}, DType::f64),
           normal(random, {batch, n}),
           normal(random, {batch, m, n}),
           Tensor::zeros({batch, m}, DType::f64),
           normal(random, {batch, e, n}),
           Tensor::zeros({batch, e}, DType::f64)};
  if (zeros > 0.0) thin_out(d.G, zeros, random), thin_out(d.A, zeros, random);
  const Tensor root = normal(random, {batch, n, std::max<std::int64_t>(rank, 1)}),
               x0 = normal(random, {batch, n});
  double *Q = d.Q.mutable_data<double>(), *h = d.h.mutable_data<double>(), *b = d.b.mutable_data<double>();
  for (std::int64_t i = 0; i < batch; ++i) {
    for (std::int64_t r = 0; r < n; ++r)
      for (std::int64_t c = 0; c < n; ++c) {
        double sum = r == c ? shift : 0.0;
        for (std::int64_t k = 0; k < rank; ++k)
          sum +=
              root.at((i * n + r) * rank + k) * root.at((i * n + c) * rank + k) / static_cast<double>(rank);
        Q[(i * n + r) * n + c] = sum;
      }
    const auto x = row(x0, i), gx = times(d.G, i, x, false), ax = times(d.A, i, x, false);
    for (std::int64_t k = 0; k < m; ++k)
      h[i * m + k] = gx[static_cast<std::size_t>(k)] + (k % 3 == 0 ? 0.0 : std::abs(random.normal()));
    for (std::int64_t k = 0; k < e; ++k) b[i * e + k] = ax[static_cast<std::size_t>(k)];
  }
  return d;
}

// The same problems with every row multiplied by 10^U(-rows, rows) and every variable divided by
// 10^U(-columns, columns), which is `unit`.
QpData in_units(const QpData& d, double rows, double columns, Random& random, Tensor& unit) {
  const auto draw = [&](double decades) { return std::pow(10.0, decades * (2.0 * random.uniform() - 1.0)); };
  QpData r{d.Q.clone(), d.p.clone(), d.G.clone(), d.h.clone(), d.A.clone(), d.b.clone()};
  const std::int64_t batch = d.p.size(0), n = d.p.size(1);
  unit = Tensor::empty({batch, n}, DType::f64);
  for (std::int64_t k = 0; k < batch * n; ++k) {
    unit.mutable_data<double>()[k] = draw(columns);
    r.p.mutable_data<double>()[k] *= unit.at(k);
  }
  const auto scale = [&](Tensor& matrix, const auto& by) {
    const std::int64_t count = matrix.size(1);
    for (std::int64_t i = 0; i < batch; ++i)
      for (std::int64_t k = 0; k < count; ++k) {
        const double factor = by(i, k);
        for (std::int64_t j = 0; j < n; ++j)
          matrix.mutable_data<double>()[(i * count + k) * n + j] *= factor * unit.at(i * n + j);
      }
  };
  scale(r.Q, [&](std::int64_t i, std::int64_t k) { return unit.at(i * n + k); });
  for (const auto& [matrix, right] : {std::pair(&r.G, &r.h), std::pair(&r.A, &r.b)})
    scale(*matrix, [&, right = right](std::int64_t i, std::int64_t k) {
      const double factor = draw(rows);
      right->mutable_data<double>()[i * right->size(1) + k] *= factor;
      return factor;
    });
  return r;
}

// A linear program of sparse rows in units that lie far apart, every third row nearly the one before, with a
// known solution.
QpData linear_program(std::uint64_t seed, std::int64_t n, std::int64_t m) {
  Random random(seed);
  QpData d{Tensor::zeros({n, n}, DType::f64),
           Tensor::zeros({n}, DType::f64),
           Tensor::zeros({m, n}, DType::f64),
           Tensor::zeros({m}, DType::f64),
           {},
           {}};
  const Tensor x = normal(random, {n}), units = normal(random, {n});
  double *const p = d.p.mutable_data<double>(), *const h = d.h.mutable_data<double>();
  for (std::int64_t i = 0; i < m; ++i) {
    double* const row = d.G.mutable_data<double>() + i * n;
    const double unit = std::pow(10.0, 1.5 * random.normal());
    const bool active = random.uniform() < 0.6;
    for (std::int64_t j = 0; j < n; ++j) {
      const double entry = random.normal();
      if (i % 3 == 2)
        row[j] = row[j - n] * (1.0 + 1e-6 * entry);
      else if (std::abs(entry) >= 0.6)
        row[j] = entry * unit * std::pow(10.0, units.at(j));
    }
    const double multiplier = active ? random.uniform() / unit : 0.0;
    h[i] = active ? 0.0 : unit * random.uniform();
    for (std::int64_t j = 0; j < n; ++j) h[i] += row[j] * x.at(j), p[j] -= multiplier * row[j];
  }
  return d;
}

// As a learned layer meets them: z >= 0, near a corner where more constraints nearly meet than there are
// variables. The further from it by `away`, the better is what they depend on told apart.
QpData problems_near_corners(std::int64_t batch, std::int64_t n, double away) {
  Random random(7);
  const std::int64_t e = n * 5 / 8;
  QpData d{Tensor::zeros({n, n}, DType::f64),        Tensor::zeros({batch, n}, DType::f64),
           Tensor::zeros({n, n}, DType::f64),        Tensor::zeros({n}, DType::f64),
           Tensor::zeros({batch, e, n}, DType::f64), Tensor::zeros({batch, e}, DType::f64)};
  double *p = d.p.mutable_data<double>(), *A = d.A.mutable_data<double>(), *b = d.b.mutable_data<double>();
  for (std::int64_t k = 0; k < n; ++k) {
    d.Q.mutable_data<double>()[k * (n + 1)] = 0.1;
    d.G.mutable_data<double>()[k * (n + 1)] = -1.0;
  }
  for (std::int64_t i = 0; i < batch; ++i) {
    std::vector<double> point;
    for (std::int64_t c = 0; c < n; ++c) {
      point.push_back((c < n / 4 ? 1.0 : 0.0) + away * random.uniform());
      p[i * n + c] = c < n / 4 && c % 2 == 1 ? -1.0 : 0.0;
    }
    for (std::int64_t k = 0; k < e * n; ++k) A[i * e * n + k] = random.uniform();
    const auto az = times(d.A, i, point, false);
    std::copy(az.begin(), az.end(), b + i * e);
  }
  return d;
}

}  // namespace

TEST_CASE("solutions of random problems satisfy the optimality conditions", "[qp]") {
  struct Size {
    std::int64_t n, m, e, rank;
  };
  for (const auto [n, m, e, rank] :
       {Size{1, 1, 0, 1}, Size{5, 0, 2, 5}, Size{6, 10, 0, 6}, Size{10, 20, 3, 10}, Size{33, 40, 7, 33},
        Size{12, 40, 4, 3}, Size{100, 30, 20, 100}}) {
    const QpData d = random_problems(19, n, m, e, rank, rank == n ? 0.1 : 1e-3, 7);
    const QpSolution s = solve_qp(d);
    INFO("n " << n << ", m " << m << ", e " << e << ": " << s.report.to_string());
    CHECK(s.report.solved());
    for (std::int64_t i = 0; i < 19; ++i) {
      CHECK(violation(d, s, i) <= 1e-9);
      CHECK(s.report.samples[static_cast<std::size_t>(i)].largest() <= 1e-9);
    }
  }
}

// The rules of a 4x4 Sudoku as 64 equations of rank 40, blurred until their rank is full: only z = 1/4 obeys
// them, and multipliers are large on the way there.
TEST_CASE("equations that nearly depend on each other leave one point", "[qp]") {
  const std::int64_t batch = 50, n = 64;
  Random random(24);
  QpData d{Tensor::zeros({n, n}, DType::f64),
           Tensor::zeros({batch, n}, DType::f64),
           Tensor::zeros({n, n}, DType::f64),
           Tensor::zeros({n}, DType::f64),
           normal(random, {n, n}),
           Tensor::zeros({n}, DType::f64)};
  double *Q = d.Q.mutable_data<double>(), *G = d.G.mutable_data<double>(), *p = d.p.mutable_data<double>();
  double *A = d.A.mutable_data<double>(), *b = d.b.mutable_data<double>();
  for (std::int64_t i = 0; i < n * n; ++i) A[i] *= 0.02;
  for (std::int64_t r = 0; r < 4; ++r)
    for (std::int64_t c = 0; c < 4; ++c)
      for (std::int64_t digit = 0; digit < 4; ++digit) {
        const std::int64_t column = (r * 4 + c) * 4 + digit, block = r / 2 * 2 + c / 2;
        for (const std::int64_t rule :
             {r * 4 + c, 16 + r * 4 + digit, 32 + c * 4 + digit, 48 + block * 4 + digit})
          A[rule * n + column] += 1.0;
      }
  for (std::int64_t i = 0; i < n; ++i) {
    Q[i * n + i] = 0.1, G[i * n + i] = -1.0;
    for (std::int64_t j = 0; j < n; ++j) b[i] += 0.25 * A[i * n + j];
  }
  const int solved[] = {0, 1, 2, 3, 2, 3, 0, 1, 1, 0, 3, 2, 3, 2, 1, 0};
  for (std::int64_t i = 0; i < batch * 16; ++i)
    if (random.uniform() < 0.45) p[i * 4 + solved[i % 16]] = -1.0;
  const QpSolution found = solve_qp(d);
  INFO(found.report.to_string());
  REQUIRE(found.report.solved());
  for (std::int64_t i = 0; i < batch * n; ++i) CHECK(found.z.at(i) == Approx(0.25).margin(1e-5));
}

TEST_CASE("problems of one batch do not touch each other", "[qp]") {
  const QpData d = random_problems(13, 8, 12, 2, 8, 0.1, 3);
  const QpSolution all = solve_qp(d);
  REQUIRE(all.report.solved());
  for (std::int64_t i = 0; i < 13; ++i) {
    const auto one = [&](const Tensor& t) {
      const Tensor part = t.rows(i, i + 1);
      return part.reshape(Shape(Ints(std::span<const std::int64_t>(t.shape().begin() + 1, t.shape().end()))));
    };
    const QpSolution alone = solve_qp({one(d.Q), one(d.p), one(d.G), one(d.h), one(d.A), one(d.b)});
    CHECK(alone.z.shape() == Shape{8});
    CHECK(same_bits(alone.z, one(all.z)));
    CHECK(same_bits(alone.lambda, one(all.lambda)));
  }
  // One that is infeasible, one with NaN, one that is not convex: the others keep their bits.
  QpData spoilt = d;
  spoilt.p.mutable_data<double>()[2 * 8] = std::nan("");
  for (int k = 0; k < 8; ++k) spoilt.Q.mutable_data<double>()[(4 * 8 + k) * 8 + k] = -1.0;
  for (int k = 0; k < 8; ++k) spoilt.G.mutable_data<double>()[(6 * 12 + 0) * 8 + k] = 0.0;
  spoilt.h.mutable_data<double>()[6 * 12] = -1.0;
  const QpSolution mixed = solve_qp(spoilt);
  CHECK(mixed.report.samples[2].status == QpStatus::non_finite);
  CHECK(mixed.report.samples[4].status == QpStatus::non_convex);
  CHECK(mixed.report.samples[6].status == QpStatus::primal_infeasible);
  CHECK(mixed.report.count(QpStatus::solved) == 10);
  for (std::int64_t i = 0; i < 13; ++i)
    if (i != 2 && i != 4 && i != 6) CHECK(same_bits(mixed.z.rows(i, i + 1), all.z.rows(i, i + 1)));
  check_threads([&] {
    const QpSolution s = solve_qp(spoilt);
    return Vars{s.z, s.nu, s.lambda, s.slack};
  });
}

TEST_CASE("shared data serve every problem, and dtypes come back", "[qp]") {
  const QpData d = random_problems(1, 5, 6, 2, 5, 0.1, 4);
  const Tensor p = normal({9, 5}, 5);
  const auto flat = [](const Tensor& t, const Shape& shape) { return t.reshape(shape); };
  const QpData shared{flat(d.Q, {5, 5}), p, flat(d.G, {6, 5}), flat(d.h, {6}), flat(d.A, {2, 5}),
                      flat(d.b, {2})};
  const QpSolution s = solve_qp(shared);
  CHECK(s.report.solved());
  CHECK(s.z.shape() == Shape{9, 5});
  for (std::int64_t i = 0; i < 9; ++i) CHECK(violation(shared, s, i) <= 1e-9);
  const auto f32 = [](const Tensor& t) { return t.to(DType::f32); };
  const QpSolution single =
      solve_qp({f32(shared.Q), f32(p), f32(shared.G), f32(shared.h), f32(shared.A), f32(shared.b)});
  CHECK(single.z.dtype() == DType::f32);
  CHECK(largest_difference(single.z, s.z) <= 1e-4);
}

TEST_CASE("problems with known answers", "[qp]") {
  const Tensor one = values({1}, {1, 1}), minus = values({-1}, {1, 1}), square = values({1, 0, 0, 1}, {2, 2});
  const auto number = [](double v) { return values({v}, {1}); };
  const auto status = [](const QpSolution& s) { return s.report.samples.at(0).status; };

  const QpSolution weak = solve_qp({one, number(0), minus, number(0)});
  CHECK(status(weak) == QpStatus::solved);
  CHECK(std::abs(weak.z.item()) <= 1e-12);

  const QpSolution twice = solve_qp({one, number(-2), values({1, 1}, {2, 1}), values({1, 1}, {2})});
  CHECK(twice.z.item() == Approx(1.0).epsilon(1e-12));
  CHECK(twice.lambda.at(0) == Approx(0.5).epsilon(1e-9));
  CHECK(twice.lambda.at(1) == Approx(0.5).epsilon(1e-9));
  CHECK(twice.slack.at(0) == 0.0);

  const Tensor dependent = values({1, 1, 2, 2}, {2, 2}), zero = values({0, 0}, {2});
  const QpSolution consistent = solve_qp({square, zero, {}, {}, dependent, values({1, 2}, {2})});
  CHECK(status(consistent) == QpStatus::solved);
  CHECK(consistent.z.at(0) == Approx(0.5));
  CHECK(consistent.nu.at(0) == Approx(-0.1));  // of least norm
  CHECK(consistent.nu.at(1) == Approx(-0.2));
  const QpSolution off = solve_qp({square, zero, {}, {}, dependent, values({1, 2.1}, {2})});
  REQUIRE(status(off) == QpStatus::primal_infeasible);
  CHECK(off.nu.at(0) + 2.0 * off.nu.at(1) == Approx(0.0).margin(1e-9));
  CHECK(off.nu.at(0) + 2.1 * off.nu.at(1) == Approx(-1.0));

  const QpSolution apart = solve_qp({one, number(0), values({1, -1}, {2, 1}), values({-1, -1}, {2})});
  REQUIRE(status(apart) == QpStatus::primal_infeasible);
  CHECK(apart.lambda.at(0) == Approx(0.5));
  CHECK(std::abs(apart.z.item()) <= 1e-9);  // half way between the two

  const QpSolution endless = solve_qp({values({0}, {1, 1}), number(-1), minus, number(0)});
  REQUIRE(status(endless) == QpStatus::dual_infeasible);
  CHECK(endless.z.item() == Approx(1.0));

  const QpSolution saddle = solve_qp({values({1, 0, 0, -1}, {2, 2}), zero});
  CHECK(status(saddle) == QpStatus::non_convex);
  CHECK(std::isnan(saddle.z.at(0)));
  CHECK(status(solve_qp({values({0, 0, 0, 0}, {2, 2}), zero})) == QpStatus::solved);
  const QpSolution vertex =
      solve_qp({{}, values({1, 1}, {2}), values({-1, 0, 0, -1}, {2, 2}), values({1, 2}, {2})});
  CHECK(status(vertex) == QpStatus::solved);
  CHECK(vertex.z.at(0) == Approx(-1.0));
  CHECK(vertex.z.at(1) == Approx(-2.0));

  const QpSolution open = solve_qp({one, number(-2), one, number(inf)});
  CHECK(status(open) == QpStatus::solved);
  CHECK(open.z.item() == Approx(2.0));
  CHECK(open.lambda.item() == 0.0);
  CHECK(open.slack.item() == inf);
  const QpSolution wide = solve_qp({one, number(-1), one, number(1e200)});
  CHECK(status(wide) == QpStatus::solved);
  CHECK(wide.z.item() == Approx(1.0));
  CHECK(wide.slack.item() == 1e200);
  const QpSolution overflow = solve_qp({one, number(1e200)});
  CHECK((status(overflow) != QpStatus::solved || overflow.z.item() == Approx(-1e200)));
  CHECK(status(solve_qp({one, number(-2), one, number(-inf)})) == QpStatus::primal_infeasible);
  CHECK(status(solve_qp({one, number(std::nan(""))})) == QpStatus::non_finite);
  CHECK(solve_qp({one, number(1)}).z.item() == Approx(-1.0));
  // Held by two inequalities, where nothing pulls: the start satisfies all but Gz + slack = h.
  const QpSolution pinned = solve_qp({one, number(0), values({1, -1}, {2, 1}), values({0, 0}, {2})});
  CHECK(status(pinned) == QpStatus::solved);
  CHECK(pinned.slack.at(0) <= 1e-9);
  CHECK(pinned.slack.at(1) <= 1e-9);
  const Tensor none = values({0}, {1, 1});
  const QpSolution empty_rows = solve_qp({one, number(1), none, number(0), none, number(0)});
  CHECK(status(empty_rows) == QpStatus::solved);
  CHECK(empty_rows.z.item() == Approx(-1.0));
  CHECK(status(solve_qp({one, number(1), none, number(-1)})) == QpStatus::primal_infeasible);
}

TEST_CASE("problems without a solution are named, with a certificate", "[qp]") {
  Random random(11);
  const std::int64_t batch = 60, n = 6, m = 9, e = 2;
  QpData d = random_problems(batch, n, m, e, 4, 0.0, 12);
  {  // The last row of G is a negative combination of the others, and asks for more than they leave.
    QpData bad = d;
    double *G = bad.G.mutable_data<double>(), *h = bad.h.mutable_data<double>();
    for (std::int64_t i = 0; i < batch; ++i) {
      h[i * m + m - 1] = -0.01 - std::abs(random.normal());
      std::fill_n(G + (i * m + m - 1) * n, n, 0.0);
      for (std::int64_t k = 0; k + 1 < m; ++k) {
        const double weight = std::abs(random.normal());
        h[i * m + m - 1] -= weight * h[i * m + k];
        for (std::int64_t j = 0; j < n; ++j) G[(i * m + m - 1) * n + j] -= weight * G[(i * m + k) * n + j];
      }
    }
    const QpSolution s = solve_qp(bad);
    INFO(s.report.to_string());
    CHECK(s.report.count(QpStatus::primal_infeasible) == batch);
    for (std::int64_t i = 0; i < batch; ++i) {
      const auto nu = row(s.nu, i), lambda = row(s.lambda, i);
      const auto left = times(bad.A, i, nu, true), right = times(bad.G, i, lambda, true);
      for (std::size_t k = 0; k < left.size(); ++k) CHECK(std::abs(left[k] + right[k]) <= 1e-9);
      for (double l : lambda) CHECK(l >= 0.0);
      CHECK(dot(row(bad.b, i), nu) + dot(row(bad.h, i), lambda) == Approx(-1.0));
    }
  }
  {  // Q and A vanish along d, along which G and the objective fall.
    double *Q = d.Q.mutable_data<double>(), *G = d.G.mutable_data<double>(), *A = d.A.mutable_data<double>(),
           *p = d.p.mutable_data<double>();
    for (std::int64_t i = 0; i < batch; ++i) {
      for (std::int64_t k = 0; k < n; ++k)
        Q[(i * n) * n + k] = Q[(i * n + k) * n] = 0.0;  // d is the first axis
      for (std::int64_t k = 0; k < e; ++k) A[(i * e + k) * n] = 0.0;
      for (std::int64_t k = 0; k < m; ++k) G[(i * m + k) * n] = -std::abs(G[(i * m + k) * n]);
      p[i * n] = -std::abs(p[i * n]) - 0.01;
    }
    const QpSolution s = solve_qp(d);
    INFO(s.report.to_string());
    CHECK(s.report.count(QpStatus::dual_infeasible) + s.report.count(QpStatus::primal_infeasible) == batch);
    CHECK(s.report.count(QpStatus::dual_infeasible) >= batch / 2);
    for (std::int64_t i = 0; i < batch; ++i) {
      if (s.report.samples[static_cast<std::size_t>(i)].status != QpStatus::dual_infeasible) continue;
      const auto z = row(s.z, i);
      for (double v : times(d.Q, i, z, false)) CHECK(std::abs(v) <= 1e-8);
      for (double v : times(d.A, i, z, false)) CHECK(std::abs(v) <= 1e-8);
      for (double v : times(d.G, i, z, false)) CHECK(v <= 1e-8);
      CHECK(dot(row(d.p, i), z) == Approx(-1.0));
    }
  }
}

TEST_CASE("every instruction set solves alike", "[qp]") {
  const KeepIsa keep;
  const QpData d = random_problems(10, 9, 14, 3, 9, 0.1, 6);
  const QpSolution expected = solve_qp(d);
  for (const simd::Isa isa : {simd::Isa::sse2, simd::Isa::avx2}) {
    if (!simd::supported(isa)) continue;
    simd::select(isa);
    const QpSolution s = solve_qp(d);
    CHECK(s.report.solved());
    CHECK(largest_difference(s.z, expected.z) <= 1e-10);
  }
}

TEST_CASE("badly scaled problems are solved in their own units", "[qp]") {
  QpData d = random_problems(8, 6, 8, 2, 6, 0.1, 8);
  const QpSolution plain = solve_qp(d);
  REQUIRE(plain.report.solved());
  double *G = d.G.mutable_data<double>(), *h = d.h.mutable_data<double>(), *A = d.A.mutable_data<double>(),
         *b = d.b.mutable_data<double>();
  for (std::int64_t i = 0; i < 8; ++i) {
    for (std::int64_t k = 0; k < 8; ++k) {
      const double unit = std::pow(10.0, static_cast<double>(k - 4));
      h[i * 8 + k] *= unit;
      for (std::int64_t j = 0; j < 6; ++j) G[(i * 8 + k) * 6 + j] *= unit;
    }
    for (std::int64_t k = 0; k < 2; ++k) {
      b[i * 2 + k] *= 1e5;
      for (std::int64_t j = 0; j < 6; ++j) A[(i * 2 + k) * 6 + j] *= 1e5;
    }
  }
  const QpSolution s = solve_qp(d);
  CHECK(s.report.solved());
  CHECK(largest_difference(s.z, plain.z) <= 1e-8);
}

TEST_CASE("one constraint in other units changes nothing", "[qp]") {
  // (x - 5)^2 / 2 + (y - 5)^2 / 2 with x + y <= 1 and x <= 1.
  const Tensor Q = Tensor::eye(2, DType::f64), p = values({-5, -5}, {2});
  for (const double first : {1e-14, 1e-7, 1.0, 1e7, 1e14})
    for (const double second : {1e-14, 1e-9, 1.0, 1e9, 1e11, 1e12, 1e14}) {
      const QpSolution s =
          solve_qp({Q, p, values({first, first, second, 0}, {2, 2}), values({first, second}, {2})});
      INFO(first << ", " << second << ": " << s.report.to_string());
      CHECK(s.report.solved());
      CHECK(largest_difference(s.z, values({0.5, 0.5}, {2})) <= 1e-12);
    }
}

TEST_CASE("rows and variables in units far apart: the same solution", "[qp]") {
  struct Size {
    std::int64_t n, m, e;
  };
  for (const double zeros : {0.0, 0.6})
    for (const auto [n, m, e] :
         std::vector<Size>{{1, 3, 0}, {2, 3, 1}, {4, 7, 1}, {7, 5, 2}, {6, 14, 0}, {12, 9, 3}})
      for (const auto& [rows, columns] : {std::pair(8.0, 0.0), std::pair(0.0, 4.0), std::pair(8.0, 4.0)}) {
        const QpData d = random_problems(16, n, m, e, n, 0.1, static_cast<std::uint64_t>(10 * n + m), zeros);
        const QpSolution plain = solve_qp(d);
        Random random(static_cast<std::uint64_t>(n));
        Tensor unit;
        const QpSolution s = solve_qp(in_units(d, rows, columns, random, unit));
        INFO(n << ", " << m << ", " << e << ", zeros " << zeros << ", units " << rows << ", " << columns
               << ": " << plain.report.to_string() << "; " << s.report.to_string());
        CHECK(s.report.solved());
        for (std::int64_t k = 0; k < plain.z.size(); ++k)
          CHECK(s.z.at(k) * unit.at(k) == Approx(plain.z.at(k)).epsilon(1e-8).margin(1e-8));
      }
}

TEST_CASE("variables that stand only in bounds, or alone in Q, in other units", "[qp]") {
  // -x + y^2 / 2 - 2y with x <= 1 and y <= 1, in x = u x' and y = y' / u.
  for (const double u : {1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0}) {
    const QpSolution s =
        solve_qp({values({0.0, 0.0, 0.0, 1.0 / (u * u)}, {2, 2}), values({-u, -2.0 / u}, {2}),
                  values({u, 0.0, 0.0, 1.0 / u}, {2, 2}), values({1.0, 1.0}, {2})});
    INFO(u << ": " << s.report.to_string());
    REQUIRE(s.report.solved());
    CHECK(s.report.samples[0].objective == Approx(-2.5).epsilon(1e-9));
    CHECK(s.z.at(0) * u == Approx(1.0).epsilon(1e-9));
    CHECK(s.z.at(1) / u == Approx(1.0).epsilon(1e-9));
  }
}

TEST_CASE("boxes with semidefinite Q and linear programs in units far apart: the same objective", "[qp]") {
  for (const bool linear : {false, true})
    for (const std::int64_t n : {2, 3, 5, 8, 12}) {
      const std::int64_t batch = 16, m = (linear ? 3 : 2) * n;
      QpData d = random_problems(batch, n, m, linear ? n / 4 : 0, linear ? 0 : n / 2, 0.0,
                                 static_cast<std::uint64_t>(n));
      // -10 <= z <= 10, in the last rows.
      for (std::int64_t i = 0; i < batch; ++i)
        for (std::int64_t k = m - 2 * n; k < m; ++k) {
          for (std::int64_t j = 0; j < n; ++j)
            d.G.mutable_data<double>()[(i * m + k) * n + j] = j != k % n ? 0.0 : k < m - n ? 1.0 : -1.0;
          d.h.mutable_data<double>()[i * m + k] = 10.0;
        }
      const QpSolution plain = solve_qp(d);
      REQUIRE(plain.report.solved());
      for (const auto& [rows, columns] : {std::pair(8.0, 0.0), std::pair(0.0, 4.0)}) {
        Random random(static_cast<std::uint64_t>(n));
        Tensor unit;
        const QpSolution s = solve_qp(in_units(d, rows, columns, random, unit));
        INFO(n << (linear ? ", linear" : ", box") << ", units " << rows << ", " << columns << ": "
               << s.report.to_string());
        CHECK(s.report.solved());
        for (std::size_t i = 0; i < s.report.samples.size(); ++i)
          CHECK(s.report.samples[i].objective == Approx(plain.report.samples[i].objective).epsilon(1e-8));
      }
    }
}

TEST_CASE("whether z is unique does not depend on the problem's place in the batch", "[qp]") {
  // (v'z - 1)^2 / 2, whose solutions are a line; v is the right-hand side that the fourth place would have
  // if numbers were counted on over the batch, and that any Q = v v' takes.
  const double v = qp::irregular(6), w = qp::irregular(7);
  const std::int64_t batch = 9;
  Tensor p = Tensor::empty({batch, 2}, DType::f64);
  for (std::int64_t k = 0; k < p.size(); ++k) p.mutable_data<double>()[k] = k % 2 == 0 ? -v : -w;
  const QpSolution line =
      solve_qp({values({v * v, v * w, v * w, w * w}, {2, 2}), p, {}, {}, {}, {}}, {.derivative = true});
  REQUIRE(line.report.solved());
  CHECK(line.derivative->unique() == PoolVector<char>(9, 0));

  // (x - c)^2 / 2 with x <= 1 twice: x is unique, multipliers are not where c > 1.
  const QpSolution point = solve_qp({values({1.0}, {1, 1}),
                                     values({-2.0, 0.0, -3.0}, {3, 1}),
                                     values({1.0, 1.0}, {2, 1}),
                                     values({1.0, 1.0}, {2}),
                                     {},
                                     {}},
                                    {.derivative = true});
  REQUIRE(point.report.solved());
  CHECK(point.derivative->unique() == PoolVector<char>(3, 1));
  CHECK(point.derivative->problems()[0].singular);
  CHECK_FALSE(point.derivative->problems()[1].singular);
}

TEST_CASE("primal and dual steps of two lengths do not circle", "[qp]") {
  // Its minimum is far inside the constraints, past a long valley of Q.
  const Tensor Q = values({0.14119194187504147, -0.2615984867815227, 0.0063109427257186093,
                           -0.2615984867815227, 1.7912812248872585, -0.11127788938759324,
                           0.0063109427257186093, -0.11127788938759324, 0.0098143236177438836},
                          {3, 3});
  const Tensor p = values({-0.28750150464178775, 2.6769788095651217, -0.17781678056781403}, {3});
  const Tensor G = values({7.5409014119560194, 2.1581249243847052, -4.0004134437458383, -20.802385505226258,
                           -75.411405106994323, 77.220618826189266},
                          {2, 3});
  const QpSolution s = solve_qp({Q, p, G, values({-4.651071261087818, 472.9345614822509}, {2})});
  REQUIRE(s.report.solved());
  CHECK(s.z.at(0) == Approx(-0.92821673468850707).epsilon(1e-6));
  CHECK(s.z.at(1) == Approx(-1.5809533488214451).epsilon(1e-6));
  CHECK(s.z.at(2) == Approx(0.78961644655552521).epsilon(1e-6));
}

TEST_CASE("near corners where many constraints meet, solutions are exact, and regular ones are called so",
          "[qp]") {
  for (const QpSampleReport& r : solve_qp(problems_near_corners(300, 16, 1e-4)).report.samples) {
    CHECK(r.status == QpStatus::solved);
    CHECK(r.largest() <= 1e-10);
  }
  const QpSolution s = solve_qp(problems_near_corners(4000, 16, 1e-2), {.derivative = true});
  for (const QpRegularity& r : s.derivative->problems()) CHECK((r.factored && !r.singular));
}

TEST_CASE("a narrow room beside far constraints is reached", "[qp]") {
  // Between -1 and -0.99999664; the far constraints make the first multipliers of these two 1e6 times too
  // large.
  const Tensor G = values(
      {312.89199962428677, -0.0012847977424367816, 0.0012847977424367816, -24.1945623667762, 1.0}, {5, 1});
  const Tensor h = values(
      {-312.8909485496363, 0.0012847977424367816, 334.12924830154464, 62.13017088587121, 1.64131770784026},
      {5});
  const QpSolution s = solve_qp({values({0.0}, {1, 1}), values({-0.00941677044152721}, {1}), G, h});
  REQUIRE(s.report.solved());
  CHECK(s.z.at(0) == Approx(-312.8909485496363 / 312.89199962428677).epsilon(1e-12));
  CHECK(s.lambda.at(0) == Approx(0.00941677044152721 / 312.89199962428677).epsilon(1e-9));
}

TEST_CASE("linear programs in units far apart, with rows that nearly depend on each other", "[qp]") {
  int solved = 0;
  // Raising rho by 100 in place of 10 where a factor fails, refining a step once in place of four times, or
  // giving up after 20 steps without progress in place of 40 each loses four of these.
  for (const std::uint64_t seed : {5739, 4163, 4173, 7592, 4474, 6999, 7622, 320, 2950, 4178, 6706, 3388}) {
    const QpReport report = solve_qp(linear_program(seed, 10, 12)).report;
    if (report.solved() && report.samples[0].largest() <= 1e-9) ++solved;
  }
  CHECK(solved >= 11);
}

TEST_CASE("a semidefinite Q made in f32 is convex up to rounding", "[qp]") {
  for (const auto& [n, rank] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{5, 2}, {10, 5}, {100, 50}}) {
    Random random(5);
    const std::int64_t batch = 16;
    const Tensor root = normal(random, {batch, n, rank}).to(DType::f32);
    Tensor Q = Tensor::zeros({batch, n, n}, DType::f32), G = Tensor::zeros({n, n}, DType::f32);
    for (std::int64_t i = 0; i < batch; ++i)
      for (std::int64_t r = 0; r < n; ++r)
        for (std::int64_t c = 0; c < n; ++c) {
          float sum = 0.0f;
          for (std::int64_t k = 0; k < rank; ++k)
            sum += root.data<float>()[(i * n + r) * rank + k] * root.data<float>()[(i * n + c) * rank + k];
          Q.mutable_data<float>()[(i * n + r) * n + c] = sum;
        }
    for (std::int64_t k = 0; k < n; ++k) G.mutable_data<float>()[k * n + k] = -1.0f;
    const QpSolution found =
        solve_qp({Q, normal(random, {batch, n}).to(DType::f32), G, Tensor::zeros({n}, DType::f32),
                  Tensor::ones({1, n}, DType::f32), Tensor::ones({1}, DType::f32)});
    INFO(n << ", " << rank << ": " << found.report.to_string());
    CHECK(found.report.solved());
  }
  // More than rounding is not forgiven.
  const Tensor Q = tensor({1.0f, 0.0f, 0.0f, -1e-5f}, {2, 2});
  CHECK(solve_qp({.Q = Q}).report.samples[0].status == QpStatus::non_convex);
}

TEST_CASE("bounds meant for infinite ones change nothing, and far ones that bind are met", "[qp]") {
  const std::int64_t n = 6;
  const Tensor eye = Tensor::eye(n, DType::f64), none = Tensor::zeros({n, n}, DType::f64);
  Tensor G = Tensor::zeros({2 * n, n}, DType::f64), lower = Tensor::zeros({n, n}, DType::f64);
  for (std::int64_t k = 0; k < n; ++k) {
    lower.mutable_data<double>()[k * (n + 1)] = G.mutable_data<double>()[k * (n + 1)] = -1.0;
    G.mutable_data<double>()[(n + k) * n + k] = 1.0;
  }
  const Tensor p = normal({n}, 3), ones = Tensor::ones({1, n}, DType::f64),
               one = Tensor::ones({1}, DType::f64);
  for (const Tensor& Q : {eye, none}) {
    const QpSolution plain = solve_qp({Q, p, lower, Tensor::zeros({n}, DType::f64), ones, one});
    for (const double bound : {1e6, 1e8, 1e10, 1e11, 1e12, 1e14, 1e16, 1e18, 1e19, 1e20, 1e30}) {
      Tensor h = Tensor::zeros({2 * n}, DType::f64);
      std::fill_n(h.mutable_data<double>() + n, n, bound);
      const QpSolution s = solve_qp({Q, p, G, h, ones, one});
      INFO(bound << ": " << s.report.to_string());
      CHECK(s.report.solved());
      CHECK(largest_difference(s.z, plain.z) <= 1e-9);
      for (std::int64_t k = 0; k < n; ++k) CHECK(s.lambda.at(n + k) == 0.0);
    }
  }
  // min -x, x <= h; and x <= h that the equation x = 2 h leaves.
  for (const double h : {1e10, 1e15, 9e19}) {
    const Tensor row = values({1}, {1, 1}), right = values({h}, {1});
    const QpSolution end = solve_qp({{}, values({-1}, {1}), row, right});
    CHECK(end.report.solved());
    CHECK(end.z.item() == Approx(h).epsilon(1e-12));
    CHECK(end.lambda.item() == Approx(1.0).epsilon(1e-9));
    const QpSolution off = solve_qp({row, {}, row, right, row, values({2.0 * h}, {1})});
    CHECK(off.report.samples[0].status == QpStatus::primal_infeasible);
  }
}

TEST_CASE("solutions far away are found, with what stands near", "[qp]") {
  for (const double H : {1e6, 1e9, 1e12, 1e14, 1e17, 9e19}) {
    const auto check = [&](const char* what, const QpData& data, const std::vector<double>& z) {
      const QpSolution s = solve_qp(data);
      INFO(what << ", " << H << ": " << s.report.to_string());
      CHECK(s.report.solved());
      for (std::size_t k = 0; k < z.size(); ++k)
        CHECK(s.z.at(static_cast<std::int64_t>(k)) == Approx(z[k]).epsilon(1e-9).margin(1e-9));
    };
    check("a linear program", {{}, values({1, 1}, {2}), values({-1, 0, 0, -1}, {2, 2}), values({H, 0}, {2})},
          {-H, 0});
    check(
        "strictly convex",
        {Tensor::eye(2, DType::f64), values({0, -3}, {2}), Tensor::eye(2, DType::f64), values({-H, 1}, {2})},
        {-H, 1});
    check("three constraints",
          {{}, values({2, 1}, {2}), values({-1, 0, 0, -1, -1, -1}, {3, 2}), values({H, H, -3}, {3})},
          {-H, H + 3});
    check("a box with an equation",
          {{},
           values({1, 2}, {2}),
           values({1, 0, 0, 1, -1, 0, 0, -1}, {4, 2}),
           values({H, H, H, H}, {4}),
           Tensor::ones({1, 2}, DType::f64),
           values({0}, {1})},
          {H, -H});
  }
}

TEST_CASE("steps without far constraints count, where these hold after all", "[qp]") {
  const auto steps = [](double h) {
    const Tensor row = values({1}, {1, 1});
    return solve_qp({{}, values({-1}, {1}), row, values({h}, {1})}).report.samples[0].steps;
  };
  CHECK(steps(1e10) > steps(inf));
}

TEST_CASE("a constraint almost far enough to be left out does not spoil the others", "[qp]") {
  const Tensor G = values({-1.1960773081844385, 1.7348661267414336}, {2, 1});
  for (const double far : {1e4, 1e5, 1e6, 208811621.80597922, 1e9, 1e10}) {
    const QpSolution s = solve_qp({values({2.451533802752802}, {1, 1}), values({0.045399493919779772}, {1}),
                                   G, values({far, 0.40391037027251409}, {2})});
    INFO(far << ": " << s.report.to_string());
    CHECK(s.report.solved());
    CHECK(s.z.item() == Approx(-0.045399493919779772 / 2.451533802752802).epsilon(1e-9));
  }
}

TEST_CASE("tiny and huge objectives are those of the same solution", "[qp]") {
  const Tensor G = Tensor::eye(2, DType::f64), h = values({0.5, 1.0}, {2});
  for (const double unit : {1e-280, 1e-200, 1e-170, 1e-150, 1e-50, 1.0, 1e50, 1e100}) {
    const QpSolution s =
        solve_qp({values({2 * unit, 0, 0, 2 * unit}, {2, 2}), values({-2 * unit, -5 * unit}, {2}), G, h});
    INFO(unit << ": " << s.report.to_string());
    CHECK(s.report.solved());
    CHECK(largest_difference(s.z, h) <= 1e-9);
    CHECK(s.lambda.at(0) == Approx(unit).epsilon(1e-9));
    CHECK(s.lambda.at(1) == Approx(3 * unit).epsilon(1e-9));
  }
}

TEST_CASE("a variable in tiny units does not make a feasible problem infeasible", "[qp]") {
  const QpSolution s = solve_qp(
      {values({3.1222599441182051e-24, -8.6847875860182982e-13, 7.1577944437059527e-13,
               -8.6847875860182982e-13, 0.38562126774331462, 0.1710540009586824, 7.1577944437059527e-13,
               0.1710540009586824, 1.4582558405904522},
              {3, 3}),
       values({-1.1818815722741583e-12, 0.2403071783021683, -0.4323873413682745}, {3}),
       values({-1.2793978741726083e-12, 0, 0.63666854803965134, -3.4152409870758132e-13, 0, 0, 0,
               3.2829817238857673, 0, 1.5867387181687358e-12, 0, 0},
              {4, 3}),
       values({-0.98857727594837808, 0.51392222956596689, 4.0470173507432072, 1.9559418562915094}, {4}),
       values({0, 0, -0.74407342999314841}, {1, 3}), values({0.058672291510760866}, {1})});
  CHECK(s.report.samples[0].status != QpStatus::primal_infeasible);
}

TEST_CASE("what has no feasible point is primal infeasible, unbounded or not", "[qp]") {
  for (const double unit : {1.0, 1e-3, 1e-6}) {
    const QpSolution s =
        solve_qp({{}, values({0, -1}, {2}), values({1, 0, -1, 0}, {2, 2}), values({-unit, -unit}, {2})});
    CHECK(s.report.samples[0].status == QpStatus::primal_infeasible);
  }
}

TEST_CASE("bits do not depend on a neighbour that is not finite", "[qp]") {
  const Tensor Q = values({3.5, 0, 2.25, .25, 0, 3.25, 0, .25, 2.25, 0, 14.75, 2, .25, .25, 2, 6}, {4, 4}),
               p = values({-2.25, -1, -3.75, -2}, {4}), h = values({.25, .5, .5, 1}, {4});
  const auto solved = [&](double beside) {
    Tensor G = Tensor::zeros({2, 4, 4}, DType::f64);
    const double diagonal[] = {3.5, 1.5, 2.5, 3.0};
    for (std::int64_t k = 0; k < 4; ++k)
      G.mutable_data<double>()[5 * k] = G.mutable_data<double>()[16 + 5 * k] = diagonal[k];
    if (std::isnan(beside)) std::fill_n(G.mutable_data<double>() + 16, 16, beside);
    return solve_qp({Q, p, G, h});
  };
  const QpSolution good = solved(0.0), bad = solved(std::nan(""));
  CHECK(bad.report.samples[1].status == QpStatus::non_finite);
  for (std::int64_t k = 0; k < 4; ++k) {
    CHECK(bad.z.at(k) == good.z.at(k));
    CHECK(bad.lambda.at(k) == good.lambda.at(k));
  }
}

TEST_CASE("a solution beyond f32 is not called solved there", "[qp]") {
  const QpSolution s = solve_qp({values({1e-10}, {1, 1}).to(DType::f32), values({1e30}, {1}).to(DType::f32)});
  CHECK(s.report.samples[0].status != QpStatus::solved);
}

TEST_CASE("certificates prove something at the problem's own size", "[qp]") {
  // min 1/2 z'Qz with sum z = s, z >= 0: feasible and strictly convex for every s.
  for (const std::int64_t n : {2, 3, 4, 6})
    for (const double s : {1e6, 1e9, 5e10, 1e11, 1e12, 1e15}) {
      Tensor Q = Tensor::full({n, n}, 0.5, DType::f64), G = Tensor::zeros({n, n}, DType::f64);
      for (std::int64_t k = 0; k < n; ++k) {
        Q.mutable_data<double>()[k * (n + 1)] = 1.0 + 0.3 * static_cast<double>(k);
        G.mutable_data<double>()[k * (n + 1)] = -1.0;
      }
      const QpSolution found =
          solve_qp({Q, Tensor::full({n}, 0.1 * s, DType::f64), G, Tensor::zeros({n}, DType::f64),
                    Tensor::ones({1, n}, DType::f64), Tensor::full({1}, s, DType::f64)});
      INFO(n << ", " << s << ": " << found.report.to_string());
      const QpStatus status = found.report.samples[0].status;
      CHECK((status == QpStatus::solved || status == QpStatus::max_steps));
    }
}

TEST_CASE("what does not fit is refused by name", "[qp]") {
  const Tensor Q = values({1, 0, 0, 1}, {2, 2}), p = values({1, 1}, {2});
  CHECK_THROWS_WITH(solve_qp({}), Contains("[qp_solve]"));
  CHECK_THROWS_WITH(solve_qp({Q, values({1, 1, 1}, {3})}), Contains("p must have shape (...,2): (3)"));
  CHECK_THROWS_WITH(solve_qp({Q, p, values({1, 1}, {1, 2})}), Contains("G and h"));
  CHECK_THROWS_WITH(solve_qp({Q, p, values({1, 1}, {1, 2}), p}), Contains("h") && Contains("(2)"));
  CHECK_THROWS_WITH(solve_qp({Q, p, {}, {}, values({1, 1, 1}, {1, 3}), values({1}, {1})}), Contains("A"));
  CHECK_THROWS_WITH(solve_qp({Q, p.to(DType::f32)}), Contains("one dtype"));
  CHECK_THROWS_WITH(solve_qp({Q, values({1}, {1}).reshape({})}), Contains("p must have 1 ax"));
  CHECK_THROWS_WITH(solve_qp({Tensor::zeros({2, 2, 2}, DType::f64), Tensor::zeros({3, 2}, DType::f64)}),
                    Contains("batches must agree"));
  CHECK_THROWS_AS(solve_qp({Q, p}, {.tolerance = 0.0}), ValueError);
  CHECK_THROWS_AS(solve_qp({Q, p}, {.max_steps = 0}), ValueError);
  const QpSolution nobody = solve_qp({Q, Tensor::zeros({0, 2}, DType::f64)});
  CHECK(nobody.z.shape() == Shape{0, 2});
  CHECK(nobody.report.solved());
}
