#include <banach/solvers/qp/certificates.hpp>
#include <banach/solvers/qp/packed.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace banach::qp {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

// One problem written out.
struct Single {
  std::int64_t n = 0, e = 0, m = 0;
  Numbers Q, p, A, b, G, h;

  struct Answer {
    Numbers x, y, z;
  };
  Answer solve(int max_steps) const {
    Packed packed(single(), n, e, m, 0, nullptr, 1e-12, max_steps, 0.0, false);
    Group& g = packed.group();
    const auto fill = [](const Numbers& from, double* to) { std::copy(from.begin(), from.end(), to); };
    fill(Q, g.Q), fill(p, g.p), fill(A, g.A), fill(b, g.b), fill(G, g.G), fill(h, g.h);
    packed.solve();
    return {Numbers(g.x, g.x + n), Numbers(g.y, g.y + e), Numbers(g.z, g.z + m)};
  }
};

constexpr double proof = 1e-9;

// What should vanish is at most `most`, a sum of terms up to this size, and `value` should be positive.
// That proves something for all z (or multipliers) up to 1 / proof; and nothing beyond rounding may be
// left.
bool proves(double value, double most, double size) {
  return value > 0.0 && most <= proof * value && most <= proof * size;
}

// min 1/2 |t|^2 + 1/2 |r|^2 with Az - t = b, Gz - r <= h always has a solution; at it A'nu + G'lambda = 0
// with nu = t and lambda = r, which proves that r = t = 0 cannot be if b'nu + h'lambda < 0 (Farkas).
bool cannot_be_met(const Problems& given, std::int64_t i, int max_steps, bool unit_rows, const Answer& to) {
  const auto rows = finite_rows(given, i);
  const std::int64_t n = given.n, e = given.e, m = std::ssize(rows), all = n + e + m;
  if (e + m == 0) return false;
  Single s{all,
           e,
           m,
           Numbers(static_cast<std::size_t>(all * all), 0.0),
           Numbers(static_cast<std::size_t>(all), 0.0),
           Numbers(static_cast<std::size_t>(e * all), 0.0),
           Numbers(given.b.of(i), given.b.of(i) + e),
           Numbers(static_cast<std::size_t>(m * all), 0.0),
           {}};
  for (std::int64_t k = n; k < all; ++k) s.Q[static_cast<std::size_t>(k * all + k)] = 1.0;
  const double *A = given.A.of(i), *G = given.G.of(i), *h = given.h.of(i);
  for (std::int64_t k = 0; k < e; ++k) {
    std::copy_n(A + k * n, n, s.A.begin() + k * all);
    s.A[static_cast<std::size_t>(k * all + n + k)] = -1.0;
  }
  for (std::int64_t k = 0; k < m; ++k) {
    const std::int64_t row = rows[static_cast<std::size_t>(k)];
    std::copy_n(G + row * n, n, s.G.begin() + k * all);
    s.G[static_cast<std::size_t>(k * all + n + e + k)] = -1.0;
    s.h.push_back(h[row]);
  }
  Numbers unit(static_cast<std::size_t>(e + m), 1.0);  // of each constraint
  if (unit_rows)
    for (std::int64_t k = 0; k < e + m; ++k) {
      double* const row = k < e ? s.A.data() + k * all : s.G.data() + (k - e) * all;
      double most = 0.0;
      for (std::int64_t j = 0; j < n; ++j) most = std::max(most, std::abs(row[j]));
      if (most == 0.0) continue;
      unit[static_cast<std::size_t>(k)] = 1.0 / most;
      for (std::int64_t j = 0; j < n; ++j) row[j] /= most;
      (k < e ? s.b[static_cast<std::size_t>(k)] : s.h[static_cast<std::size_t>(k - e)]) /= most;
    }
  Single::Answer a = s.solve(max_steps);
  const double* b = given.b.of(i);
  double value = 0.0, weight = 0.0;
  Numbers left(static_cast<std::size_t>(n), 0.0), entry(static_cast<std::size_t>(n), 0.0);
  const auto take = [&](const double* row, double w) {
    weight = std::max(weight, std::abs(w));
    for (std::int64_t j = 0; j < n; ++j) {
      const auto column = static_cast<std::size_t>(j);
      left[column] += row[j] * w;
      entry[column] = std::max(entry[column], std::abs(row[j]));
    }
  };
  for (std::int64_t k = 0; k < e; ++k) {
    a.y[static_cast<std::size_t>(k)] *= unit[static_cast<std::size_t>(k)];
    value -= b[k] * a.y[static_cast<std::size_t>(k)];
    take(A + k * n, a.y[static_cast<std::size_t>(k)]);
  }
  for (std::int64_t k = 0; k < m; ++k) {
    const double w = a.z[static_cast<std::size_t>(k)] *= unit[static_cast<std::size_t>(e + k)];
    value -= h[rows[static_cast<std::size_t>(k)]] * w;
    take(G + rows[static_cast<std::size_t>(k)] * n, w);
  }
  if (!proves(value, 0.0, 0.0)) return false;
  // Each variable beside its own entries: others may be in other units.
  for (std::size_t j = 0; j < left.size(); ++j)
    if (!proves(value, std::abs(left[j]), entry[j] * weight)) return false;
  for (std::int64_t k = 0; k < e; ++k) to.nu[k] = a.y[static_cast<std::size_t>(k)] / value;
  std::fill_n(to.lambda, given.m, 0.0);
  for (std::int64_t k = 0; k < m; ++k)
    to.lambda[rows[static_cast<std::size_t>(k)]] = a.z[static_cast<std::size_t>(k)] / value;
  std::copy_n(a.x.begin(), n, to.z);
  for (std::int64_t k = 0; k < given.m; ++k) {
    double gap = h[k];
    for (std::int64_t j = 0; j < n; ++j) gap -= G[k * n + j] * to.z[j];
    to.slack[k] = gap;
  }
  QpSampleReport& r = to.report;
  r = {QpStatus::primal_infeasible, r.steps, 0.0, nan, nan, nan};
  for (std::int64_t k = 0; k < given.m; ++k) r.primal = std::max(r.primal, -to.slack[k]);
  for (std::int64_t k = 0; k < e; ++k) {
    double off = -b[k];
    for (std::int64_t j = 0; j < n; ++j) off += A[k * n + j] * to.z[j];
    r.primal = std::max(r.primal, std::abs(off));
  }
  return true;
}

}  // namespace

// Constraints in very different units may hide it: then each is brought to entries of at most 1.
bool cannot_be_met(const Problems& given, std::int64_t i, int max_steps, const Answer& to) {
  return cannot_be_met(given, i, max_steps, false, to) || cannot_be_met(given, i, max_steps, true, to);
}

// min 1/2 |d|^2 + p'd with Qd = 0, Ad = 0, Gd <= 0: its solution is 0, or else a direction of descent
// without end.
bool has_no_end(const Problems& given, std::int64_t i, int max_steps, const Answer& to) {
  const double* p = given.p.of(i);
  if (!p) return false;
  const auto rows = finite_rows(given, i);
  const std::int64_t n = given.n, e = given.e, m = std::ssize(rows);
  const auto cells = [](std::int64_t count) { return Numbers(static_cast<std::size_t>(count), 0.0); };
  Single s{n,       n + e, m, cells(n * n), Numbers(p, p + n), cells((n + e) * n), cells(n + e), cells(m * n),
           cells(m)};
  const double *Q = given.Q.of(i), *A = given.A.of(i), *G = given.G.of(i);
  for (std::int64_t j = 0; j < n; ++j) s.Q[static_cast<std::size_t>(j * n + j)] = 1.0;
  for (std::int64_t r = 0; Q && r < n; ++r)
    for (std::int64_t c = 0; c < n; ++c) s.A[static_cast<std::size_t>(r * n + c)] = symmetric(Q, n, r, c);
  if (A) std::copy_n(A, e * n, s.A.begin() + n * n);
  for (std::int64_t k = 0; k < m; ++k)
    std::copy_n(G + rows[static_cast<std::size_t>(k)] * n, n, s.G.begin() + k * n);
  const Single::Answer a = s.solve(max_steps);
  double value = 0.0, most = 0.0, entry = 0.0, weight = 0.0;
  for (std::int64_t j = 0; j < n; ++j) {
    value -= p[j] * a.x[static_cast<std::size_t>(j)];
    weight = std::max(weight, std::abs(a.x[static_cast<std::size_t>(j)]));
  }
  const auto along = [&](const Numbers& matrix, std::int64_t row) {
    double sum = 0.0;
    for (std::int64_t j = 0; j < n; ++j) {
      const double x = matrix[static_cast<std::size_t>(row * n + j)];
      sum += x * a.x[static_cast<std::size_t>(j)];
      entry = std::max(entry, std::abs(x));
    }
    return sum;
  };
  for (std::int64_t k = 0; k < n + e; ++k) most = std::max(most, std::abs(along(s.A, k)));
  for (std::int64_t k = 0; k < m; ++k) most = std::max(most, along(s.G, k));
  if (!proves(value, most, entry * weight)) return false;
  for (std::int64_t j = 0; j < n; ++j) to.z[j] = a.x[static_cast<std::size_t>(j)] / value;
  std::fill_n(to.nu, e, 0.0), std::fill_n(to.lambda, given.m, 0.0);
  std::fill_n(to.slack, given.m, nan);
  to.report = {QpStatus::dual_infeasible, to.report.steps, nan, nan, nan, -infinity};
  return true;
}

}  // namespace banach::qp
