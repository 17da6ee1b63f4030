#include <banach/engine/blas.hpp>
#include <banach/engine/error.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>
#include <banach/solvers/qp.hpp>
#include <banach/solvers/qp/group.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace banach {
namespace {

constexpr std::string_view op = "qp_solve";
constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

using Numbers = PoolVector<double>;

// One part of the data: so many numbers for each problem, or for all of them.
struct Part {
  const char* name;
  Tensor values = {};        // f64; undefined: absent
  std::int64_t size = 0;  // of one problem
  bool batched = false;

  /// Null if absent.
  const double* of(std::int64_t problem) const {
    return values.defined() ? values.data<double>() + (batched ? problem * size : 0) : nullptr;
  }
};

struct Problems {
  std::int64_t count = 1, n = 0, m = 0, e = 0;
  bool batched = false;
  DType dtype = DType::f64;
  Part Q{"Q"}, p{"p"}, G{"G"}, h{"h"}, A{"A"}, b{"b"};
};

// Shapes: `rank` counts the axes of one problem.
void take(Part& part, const Tensor& t, int rank, Problems& all) {
  if (!t.defined()) return;
  const std::string given = fmt::format("{} {}", part.name, t.shape().to_string());
  if (t.rank() != rank && t.rank() != rank + 1)
    fail<ShapeError>(
        op, fmt::format("{} must have {} axes, or one more for the batch: {}", part.name, rank, given));
  part.batched = t.rank() == rank + 1;
  if (part.batched) {
    if (all.batched && all.count != t.shape()[0])
      fail<ShapeError>(op, fmt::format("batches must agree: {} after others of {}", given, all.count));
    all.batched = true;
    all.count = t.shape()[0];
  }
  part.size = 1;
  for (int axis = t.rank() - rank; axis < t.rank(); ++axis) part.size *= t.shape()[axis];
  part.values = t.to(DType::f64);
}

void expect(bool holds, const Part& part, const Tensor& t, const std::string& expected) {
  if (!holds)
    fail<ShapeError>(op,
                     fmt::format("{} must have shape {}: {}", part.name, expected, t.shape().to_string()));
}

Problems problems_of(const QpData& data) {
  Problems all;
  const Tensor* given[] = {&data.Q, &data.p, &data.G, &data.h, &data.A, &data.b};
  const Tensor* first = nullptr;
  const char* names[] = {"Q", "p", "G", "h", "A", "b"};
  for (int i = 0; i < 6; ++i) {
    if (!given[i]->defined()) continue;
    if (!is_floating(given[i]->dtype()))
      fail<DTypeError>(op, fmt::format("{} must be floating: {}", names[i], name(given[i]->dtype())));
    if (!first) first = given[i];
    if (given[i]->dtype() != first->dtype())
      fail<DTypeError>(op, fmt::format("all must have one dtype: {} is {}, others {}", names[i],
                                       name(given[i]->dtype()), name(first->dtype())));
  }
  if (!first) fail<ValueError>(op, "some part of the problem must be given");
  all.dtype = first->dtype();
  take(all.Q, data.Q, 2, all), take(all.p, data.p, 1, all), take(all.G, data.G, 2, all);
  take(all.h, data.h, 1, all), take(all.A, data.A, 2, all), take(all.b, data.b, 1, all);

  const auto last = [](const Tensor& t) { return t.shape()[t.rank() - 1]; };
  const auto rows = [](const Tensor& t) { return t.shape()[t.rank() - 2]; };
  const Tensor* wide = data.p.defined()   ? &data.p
                       : data.Q.defined() ? &data.Q
                       : data.G.defined() ? &data.G
                                          : &data.A;
  if (!wide->defined()) fail<ValueError>(op, "one of p, Q, G and A must be given");
  all.n = last(*wide);
  const auto square = fmt::format("(...,{},{})", all.n, all.n), across = fmt::format("(...,rows,{})", all.n);
  if (data.Q.defined()) expect(last(data.Q) == all.n && rows(data.Q) == all.n, all.Q, data.Q, square);
  const auto constraints = [&](Part& matrix, const Tensor& left, Part& vector, const Tensor& right,
                               std::int64_t& count) {
    if (left.defined() != right.defined())
      fail<ValueError>(op, fmt::format("{} and {} must be given together", matrix.name, vector.name));
    if (!left.defined()) return;
    expect(last(left) == all.n, matrix, left, across);
    count = rows(left);
    expect(last(right) == count, vector, right, fmt::format("(...,{}), as {} has rows", count, matrix.name));
  };
  constraints(all.G, data.G, all.h, data.h, all.m);
  constraints(all.A, data.A, all.b, data.b, all.e);
  return all;
}

// Rows of G with at most one entry, in the same column in every problem, come first.
struct Bounds {
  PoolVector<std::int64_t> rows;     // of G, in the order in which they are solved
  PoolVector<std::int64_t> columns;  // of the first ones
};

Bounds bounds_of(const Problems& all) {
  PoolVector<std::int64_t> column(static_cast<std::size_t>(all.m), -1);
  PoolVector<char> single(static_cast<std::size_t>(all.m), 1);
  const std::int64_t copies = all.G.batched ? all.count : 1;
  for (std::int64_t c = 0; c < copies && all.m > 0; ++c) {
    const double* G = all.G.of(c);
    for (std::int64_t i = 0; i < all.m; ++i) {
      const auto row = static_cast<std::size_t>(i);
      for (std::int64_t j = 0; j < all.n && single[row]; ++j) {
        if (G[i * all.n + j] == 0.0) continue;
        if (column[row] >= 0 && column[row] != j) single[row] = 0;
        column[row] = j;
      }
    }
  }
  Bounds result;
  for (std::int64_t i = 0; i < all.m; ++i)
    if (const auto row = static_cast<std::size_t>(i); single[row] && all.n > 0) {
      result.rows.push_back(i);
      result.columns.push_back(std::max<std::int64_t>(0, column[row]));
    }
  for (std::int64_t i = 0; i < all.m; ++i)
    if (!single[static_cast<std::size_t>(i)] || all.n == 0) result.rows.push_back(i);
  return result;
}

enum class Fitness { good, non_finite, never };  // never: some h is -infinity

Fitness fitness(const Problems& all, std::int64_t problem) {
  const auto finite = [&](const Part& part) {
    const double* v = part.of(problem);
    return !v || std::all_of(v, v + part.size, [](double x) { return std::isfinite(x); });
  };
  for (const Part* part : {&all.Q, &all.p, &all.G, &all.A, &all.b})
    if (!finite(*part)) return Fitness::non_finite;
  const double* h = all.h.of(problem);
  Fitness result = Fitness::good;
  for (std::int64_t i = 0; i < all.m; ++i) {
    if (std::isnan(h[i])) return Fitness::non_finite;
    if (h[i] == -infinity) result = Fitness::never;
  }
  return result;
}

// A group's numbers, `width` problems side by side.
class Packed {
 public:
  Packed(const qp::Solver& solver, std::int64_t n, std::int64_t e, std::int64_t m, std::int64_t bounds,
         const std::int64_t* columns, double target, int max_steps)
      : solver_(solver), width_(solver.width) {
    const std::int64_t dense = m - bounds;
    const std::int64_t numbers = n * n + n + e * n + e + bounds + dense * n + m + n + e + 2 * m + 7;
    const std::int64_t all = numbers * width_ + solver.workspace(n, e, m);
    memory_.resize(static_cast<std::size_t>(all));  // aligned to 64 by the pool
    double* next = memory_.data();
    const auto part = [&](std::int64_t count) {
      double* result = next;
      next += count * width_;
      return result;
    };
    group_ = {n,       e,           m,       bounds,       columns,         part(n * n),
              part(n), part(e * n), part(e), part(bounds), part(dense * n), part(m),
              target,  max_steps,   part(n), part(e),      part(m),         part(m),
              part(7)};
    work_ = next;
  }

  std::int64_t width() const { return width_; }
  qp::Group& group() { return group_; }
  void put(double* to, std::int64_t i, std::int64_t lane, double value) const {
    to[i * width_ + lane] = value;
  }
  double get(const double* from, std::int64_t i, std::int64_t lane) const { return from[i * width_ + lane]; }
  void solve() { solver_.solve(group_, work_); }

 private:
  const qp::Solver& solver_;
  std::int64_t width_;
  PoolVector<double> memory_;
  qp::Group group_{};
  double* work_ = nullptr;
};

// One problem written out, for the searches for certificates.
struct Single {
  std::int64_t n = 0, e = 0, m = 0;
  Numbers Q, p, A, b, G, h;

  struct Answer {
    Numbers x, y, z;
    double largest;
  };
  Answer solve(int max_steps) const {
    Packed packed(qp::single(), n, e, m, 0, nullptr, 1e-12, max_steps);
    qp::Group& g = packed.group();
    const auto fill = [](const Numbers& from, double* to) { std::copy(from.begin(), from.end(), to); };
    fill(Q, g.Q), fill(p, g.p), fill(A, g.A), fill(b, g.b), fill(G, g.G), fill(h, g.h);
    packed.solve();
    return {Numbers(g.x, g.x + n), Numbers(g.y, g.y + e), Numbers(g.z, g.z + m), g.residuals[4]};
  }
};

class Batch {
 public:
  Batch(const Problems& all, const QpOptions& options)
      : all_(all), options_(options), bounds_(bounds_of(all)) {
    const auto shape = [&](std::int64_t extent) {
      return all.batched ? Shape{all.count, extent} : Shape{extent};
    };
    z_ = Tensor::empty(shape(all.n), DType::f64), nu_ = Tensor::empty(shape(all.e), DType::f64);
    lambda_ = Tensor::empty(shape(all.m), DType::f64), slack_ = Tensor::empty(shape(all.m), DType::f64);
    z = z_.mutable_data<double>(), nu = nu_.mutable_data<double>();
    lambda = lambda_.mutable_data<double>(), slack = slack_.mutable_data<double>();
    reports_.resize(static_cast<std::size_t>(all.count));
  }

  QpSolution run() {
    const qp::Solver& solver = all_.n <= most_in_lanes ? qp::lanes() : qp::single();
    const std::int64_t groups = (all_.count + solver.width - 1) / solver.width;
    parallel_for(groups, 1, [&](std::int64_t begin, std::int64_t end) {
      Packed packed(solver, all_.n, all_.e, all_.m, std::ssize(bounds_.columns), bounds_.columns.data(),
                    1e-10, options_.max_steps);
      for (std::int64_t g = begin; g < end; ++g) {
        const std::int64_t first = g * solver.width, count = std::min(solver.width, all_.count - first);
        for (std::int64_t lane = 0; lane < solver.width; ++lane)
          pack(packed, lane, first + lane, lane < count);
        packed.solve();
        for (std::int64_t lane = 0; lane < count; ++lane) unpack(packed, lane, first + lane);
      }
    });
    parallel_for(all_.count, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) judge(i);
    });
    const auto out = [&](const Tensor& t) { return t.to(all_.dtype); };
    return {out(z_), out(nu_), out(lambda_), out(slack_), std::move(reports_)};
  }

 private:
  static constexpr std::int64_t most_in_lanes = 96;

  QpReport& report(std::int64_t i) { return reports_[static_cast<std::size_t>(i)]; }
  double symmetric(const double* Q, std::int64_t i, std::int64_t j) const {
    return i == j ? Q[i * all_.n + i] : 0.5 * (Q[i * all_.n + j] + Q[j * all_.n + i]);
  }

  // Lanes without a problem, or with one that has no solution, hold min 1/2 |z|^2, all constraints void.
  void pack(const Packed& packed, std::int64_t lane, std::int64_t i, bool given) {
    qp::Group& g = const_cast<Packed&>(packed).group();
    const std::int64_t n = all_.n, bounds = g.bounds;
    const bool good = given && fitness(all_, i) == Fitness::good;
    const double *Q = good ? all_.Q.of(i) : nullptr, *p = good ? all_.p.of(i) : nullptr;
    for (std::int64_t r = 0; r < n; ++r) {
      for (std::int64_t c = 0; c < n; ++c)
        packed.put(g.Q, r * n + c, lane, Q ? symmetric(Q, r, c) : good || r != c ? 0.0 : 1.0);
      packed.put(g.p, r, lane, p ? p[r] : 0.0);
    }
    const double *A = good ? all_.A.of(i) : nullptr, *b = good ? all_.b.of(i) : nullptr;
    for (std::int64_t k = 0; k < all_.e * n; ++k) packed.put(g.A, k, lane, A ? A[k] : 0.0);
    for (std::int64_t k = 0; k < all_.e; ++k) packed.put(g.b, k, lane, b ? b[k] : 0.0);
    const double *G = good ? all_.G.of(i) : nullptr, *h = good ? all_.h.of(i) : nullptr;
    for (std::int64_t k = 0; k < all_.m; ++k) {
      const std::int64_t row = bounds_.rows[static_cast<std::size_t>(k)];
      const bool real = G && h[row] != infinity;
      packed.put(g.h, k, lane, real ? h[row] : 1.0);
      if (k < bounds)
        packed.put(g.bound, k, lane, real ? G[row * n + g.column[k]] : 0.0);
      else
        for (std::int64_t c = 0; c < n; ++c)
          packed.put(g.G, (k - bounds) * n + c, lane, real ? G[row * n + c] : 0.0);
    }
  }

  void unpack(Packed& packed, std::int64_t lane, std::int64_t i) {
    const qp::Group& g = packed.group();
    for (std::int64_t k = 0; k < all_.n; ++k) z[i * all_.n + k] = packed.get(g.x, k, lane);
    for (std::int64_t k = 0; k < all_.e; ++k) nu[i * all_.e + k] = packed.get(g.y, k, lane);
    const double* h = all_.h.of(i);
    for (std::int64_t k = 0; k < all_.m; ++k) {
      const std::int64_t row = bounds_.rows[static_cast<std::size_t>(k)];
      lambda[i * all_.m + row] = packed.get(g.z, k, lane);
      slack[i * all_.m + row] = h[row] == infinity ? infinity : packed.get(g.s, k, lane);
    }
    const auto about = [&](int k) { return packed.get(g.residuals, k, lane); };
    QpReport& r = report(i);
    r = {QpStatus::max_steps, static_cast<int>(about(5)), about(0), about(1), about(2), about(3)};
    if (about(6) == 0.0 && !convex(i))
      r.status = QpStatus::non_convex;
    else if (r.largest() <= options_.tolerance)
      r.status = QpStatus::solved;
  }

  bool convex(std::int64_t i) const {
    const double* Q = all_.Q.of(i);
    if (!Q) return true;
    const auto n = static_cast<std::size_t>(all_.n);
    Numbers matrix(n * n), values(n);
    double most = 0.0;
    for (std::size_t r = 0; r < n; ++r)
      for (std::size_t c = 0; c < n; ++c) {
        matrix[r * n + c] = symmetric(Q, static_cast<std::int64_t>(r), static_cast<std::int64_t>(c));
        most = std::max(most, std::abs(matrix[r * n + c]));
      }
    return blas::symmetric_eigen(all_.n, matrix.data(), values.data(), false) == 0 &&
           values[0] >= -1e-8 * most;
  }

  // What the interior point did not settle.
  void judge(std::int64_t i) {
    QpReport& r = report(i);
    const Fitness fit = fitness(all_, i);
    if (fit == Fitness::non_finite) {
      r = {QpStatus::non_finite, 0, nan, nan, nan, nan};
    } else if (fit == Fitness::never) {
      r = {QpStatus::primal_infeasible, 0, infinity, nan, nan, nan};
      impossible(i);
      return;
    } else if (r.status == QpStatus::max_steps) {
      const bool primal_first = r.primal > r.dual;
      if (primal_first ? cannot_be_met(i) || has_no_end(i) : has_no_end(i) || cannot_be_met(i)) return;
    }
    if (r.status != QpStatus::non_finite && r.status != QpStatus::non_convex) return;
    std::fill_n(z + i * all_.n, all_.n, nan), std::fill_n(nu + i * all_.e, all_.e, nan);
    std::fill_n(lambda + i * all_.m, all_.m, nan), std::fill_n(slack + i * all_.m, all_.m, nan);
  }

  // A constraint with h = -infinity: its multiplier is the certificate.
  void impossible(std::int64_t i) {
    const double* h = all_.h.of(i);
    std::fill_n(z + i * all_.n, all_.n, nan), std::fill_n(nu + i * all_.e, all_.e, 0.0);
    for (std::int64_t k = 0; k < all_.m; ++k) {
      lambda[i * all_.m + k] = h[k] == -infinity ? 1.0 : 0.0;
      slack[i * all_.m + k] = nan;
    }
  }

  // Rows of G that bind at all.
  PoolVector<std::int64_t> finite_rows(std::int64_t i) const {
    PoolVector<std::int64_t> rows;
    const double* h = all_.h.of(i);
    for (std::int64_t k = 0; k < all_.m; ++k)
      if (h[k] != infinity) rows.push_back(k);
    return rows;
  }

  // min 1/2 |t|^2 + 1/2 |r|^2 with Az - t = b, Gz - r <= h always has a solution; at it A'nu + G'lambda = 0
  // with nu = t and lambda = r, which proves that r = t = 0 cannot be if b'nu + h'lambda < 0 (Farkas).
  bool cannot_be_met(std::int64_t i) {
    const auto rows = finite_rows(i);
    const std::int64_t n = all_.n, e = all_.e, m = std::ssize(rows), all = n + e + m;
    if (e + m == 0) return false;
    Single s{all,
             e,
             m,
             Numbers(static_cast<std::size_t>(all * all), 0.0),
             Numbers(static_cast<std::size_t>(all), 0.0),
             Numbers(static_cast<std::size_t>(e * all), 0.0),
             Numbers(all_.b.of(i), all_.b.of(i) + e),
             Numbers(static_cast<std::size_t>(m * all), 0.0),
             {}};
    for (std::int64_t k = n; k < all; ++k) s.Q[static_cast<std::size_t>(k * all + k)] = 1.0;
    const double *A = all_.A.of(i), *G = all_.G.of(i), *h = all_.h.of(i);
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
    const Single::Answer a = s.solve(options_.max_steps);
    double value = 0.0;
    Numbers left(static_cast<std::size_t>(n), 0.0);
    for (std::int64_t k = 0; k < e; ++k) {
      value -= s.b[static_cast<std::size_t>(k)] * a.y[static_cast<std::size_t>(k)];
      for (std::int64_t j = 0; j < n; ++j)
        left[static_cast<std::size_t>(j)] += A[k * n + j] * a.y[static_cast<std::size_t>(k)];
    }
    for (std::int64_t k = 0; k < m; ++k) {
      const double w = a.z[static_cast<std::size_t>(k)];
      value -= s.h[static_cast<std::size_t>(k)] * w;
      for (std::int64_t j = 0; j < n; ++j)
        left[static_cast<std::size_t>(j)] += G[rows[static_cast<std::size_t>(k)] * n + j] * w;
    }
    double most = 0.0;
    for (double x : left) most = std::max(most, std::abs(x));
    if (!(value > 0.0) || !(most <= proof * value)) return false;
    for (std::int64_t k = 0; k < e; ++k) nu[i * e + k] = a.y[static_cast<std::size_t>(k)] / value;
    std::fill_n(lambda + i * all_.m, all_.m, 0.0);
    for (std::int64_t k = 0; k < m; ++k)
      lambda[i * all_.m + rows[static_cast<std::size_t>(k)]] = a.z[static_cast<std::size_t>(k)] / value;
    std::copy_n(a.x.begin(), n, z + i * n);
    for (std::int64_t k = 0; k < all_.m; ++k) {
      double gap = h[k];
      for (std::int64_t j = 0; j < n; ++j) gap -= G[k * n + j] * z[i * n + j];
      slack[i * all_.m + k] = gap;
    }
    report(i).status = QpStatus::primal_infeasible;
    return true;
  }

  // min 1/2 |d|^2 + p'd with Qd = 0, Ad = 0, Gd <= 0: its solution is 0, or else a direction of descent
  // without end.
  bool has_no_end(std::int64_t i) {
    const double* p = all_.p.of(i);
    if (!p) return false;
    const auto rows = finite_rows(i);
    const std::int64_t n = all_.n, e = all_.e, m = std::ssize(rows);
    const auto cells = [](std::int64_t count) { return Numbers(static_cast<std::size_t>(count), 0.0); };
    Single s{
        n,       n + e, m, cells(n * n), Numbers(p, p + n), cells((n + e) * n), cells(n + e), cells(m * n),
        cells(m)};
    const double *Q = all_.Q.of(i), *A = all_.A.of(i), *G = all_.G.of(i);
    for (std::int64_t j = 0; j < n; ++j) s.Q[static_cast<std::size_t>(j * n + j)] = 1.0;
    for (std::int64_t r = 0; Q && r < n; ++r)
      for (std::int64_t c = 0; c < n; ++c) s.A[static_cast<std::size_t>(r * n + c)] = symmetric(Q, r, c);
    if (A) std::copy_n(A, e * n, s.A.begin() + n * n);
    for (std::int64_t k = 0; k < m; ++k)
      std::copy_n(G + rows[static_cast<std::size_t>(k)] * n, n, s.G.begin() + k * n);
    const Single::Answer a = s.solve(options_.max_steps);
    double value = 0.0, most = 0.0;
    for (std::int64_t j = 0; j < n; ++j) value -= p[j] * a.x[static_cast<std::size_t>(j)];
    const auto along = [&](const Numbers& matrix, std::int64_t row) {
      double sum = 0.0;
      for (std::int64_t j = 0; j < n; ++j)
        sum += matrix[static_cast<std::size_t>(row * n + j)] * a.x[static_cast<std::size_t>(j)];
      return sum;
    };
    for (std::int64_t k = 0; k < n + e; ++k) most = std::max(most, std::abs(along(s.A, k)));
    for (std::int64_t k = 0; k < m; ++k) most = std::max(most, along(s.G, k));
    if (!(value > 0.0) || !(most <= proof * value)) return false;
    for (std::int64_t j = 0; j < n; ++j) z[i * n + j] = a.x[static_cast<std::size_t>(j)] / value;
    std::fill_n(nu + i * e, e, 0.0), std::fill_n(lambda + i * all_.m, all_.m, 0.0);
    std::fill_n(slack + i * all_.m, all_.m, nan);
    report(i).status = QpStatus::dual_infeasible;
    return true;
  }

  // A certificate proves something for all z (or multipliers) up to 1 / proof.
  static constexpr double proof = 1e-9;

  const Problems& all_;
  QpOptions options_;
  Bounds bounds_;
  Tensor z_, nu_, lambda_, slack_;
  double *z, *nu, *lambda, *slack;
  PoolVector<QpReport> reports_;
};

}  // namespace

namespace qp {

const Solver& lanes() {
  switch (simd::active()) {
    case simd::Isa::avx512:
      return detail::avx512_lanes;
    case simd::Isa::avx2:
      return detail::avx2_lanes;
    default:
      return detail::sse2_lanes;
  }
}

}  // namespace qp

std::string_view name(QpStatus status) {
  switch (status) {
    case QpStatus::solved:
      return "solved";
    case QpStatus::max_steps:
      return "max_steps";
    case QpStatus::primal_infeasible:
      return "primal_infeasible";
    case QpStatus::dual_infeasible:
      return "dual_infeasible";
    case QpStatus::non_convex:
      return "non_convex";
    case QpStatus::non_finite:
      return "non_finite";
  }
  return "?";
}

double QpReport::largest() const {
  const double beside = gap / std::max(1.0, std::abs(objective));
  const double most = std::max({primal, dual, beside});
  return std::isfinite(primal + dual + beside) ? most : infinity;
}

bool QpSolution::solved() const { return count(QpStatus::solved) == std::ssize(problems); }

int QpSolution::count(QpStatus status) const {
  return static_cast<int>(
      std::count_if(problems.begin(), problems.end(), [&](const QpReport& r) { return r.status == status; }));
}

std::string QpSolution::to_string() const {
  std::string text = fmt::format("{} problem{}:", problems.size(), problems.size() == 1 ? "" : "s");
  const char* separator = " ";
  for (int s = 0; s <= static_cast<int>(QpStatus::non_finite); ++s) {
    const auto status = static_cast<QpStatus>(s);
    if (const int k = count(status); k > 0) {
      text += fmt::format("{}{} {}", separator, k, name(status));
      separator = ", ";
    }
  }
  double most = 0.0;
  for (const QpReport& r : problems)
    if (r.status == QpStatus::solved) most = std::max(most, r.largest());
  return text + fmt::format("; largest residual {:.1e}", most);
}

QpSolution solve_qp(const QpData& data, const QpOptions& options) {
  if (!(options.tolerance > 0.0) || !std::isfinite(options.tolerance))
    fail<ValueError>(op, fmt::format("tolerance must be positive: {}", options.tolerance));
  if (options.max_steps < 1)
    fail<ValueError>(op, fmt::format("max_steps must be at least 1: {}", options.max_steps));
  const Problems all = problems_of(data);
  return Batch(all, options).run();
}

}  // namespace banach
