#include <banach/engine/blas.hpp>
#include <banach/engine/error.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>
#include <banach/solvers/qp.hpp>
#include <banach/solvers/qp/group.hpp>
#include <banach/solvers/qp/irregular.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
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
  Tensor values = {};     // f64; undefined: absent
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

// Shapes: `rank` counts the axes of one problem. `who` refuses them.
void take(std::string_view who, Part& part, const Tensor& t, int rank, Problems& all) {
  if (!t.defined()) return;
  const std::string given = fmt::format("{} {}", part.name, t.shape().to_string());
  if (t.rank() != rank && t.rank() != rank + 1)
    fail<ShapeError>(who, fmt::format("{} must have {}, or one more for the batch: {}", part.name,
                                      rank == 1 ? "1 axis" : "2 axes", given));
  part.batched = t.rank() == rank + 1;
  if (part.batched) {
    if (all.batched && all.count != t.shape()[0])
      fail<ShapeError>(who, fmt::format("batches must agree: {} after others of {}", given, all.count));
    all.batched = true;
    all.count = t.shape()[0];
  }
  part.size = 1;
  for (int axis = t.rank() - rank; axis < t.rank(); ++axis) part.size *= t.shape()[axis];
  part.values = t.to(DType::f64);
}

void expect(std::string_view who, bool holds, const Part& part, const Tensor& t,
            const std::string& expected) {
  if (!holds)
    fail<ShapeError>(who,
                     fmt::format("{} must have shape {}: {}", part.name, expected, t.shape().to_string()));
}

Problems problems_of(const QpData& data, std::string_view who) {
  Problems all;
  const Tensor* given[] = {&data.Q, &data.p, &data.G, &data.h, &data.A, &data.b};
  const Tensor* first = nullptr;
  const char* names[] = {"Q", "p", "G", "h", "A", "b"};
  for (int i = 0; i < 6; ++i) {
    if (!given[i]->defined()) continue;
    if (!is_floating(given[i]->dtype()))
      fail<DTypeError>(who, fmt::format("{} must be floating: {}", names[i], name(given[i]->dtype())));
    if (!first) first = given[i];
    if (given[i]->dtype() != first->dtype())
      fail<DTypeError>(who, fmt::format("all must have one dtype: {} is {}, others {}", names[i],
                                        name(given[i]->dtype()), name(first->dtype())));
  }
  if (!first) fail<ValueError>(who, "some part of the problem must be given");
  all.dtype = first->dtype();
  take(who, all.Q, data.Q, 2, all), take(who, all.p, data.p, 1, all), take(who, all.G, data.G, 2, all);
  take(who, all.h, data.h, 1, all), take(who, all.A, data.A, 2, all), take(who, all.b, data.b, 1, all);

  const auto last = [](const Tensor& t) { return t.shape()[t.rank() - 1]; };
  const auto rows = [](const Tensor& t) { return t.shape()[t.rank() - 2]; };
  const Tensor* wide = data.Q.defined()   ? &data.Q
                       : data.p.defined() ? &data.p
                       : data.G.defined() ? &data.G
                                          : &data.A;
  if (!wide->defined()) fail<ValueError>(who, "one of p, Q, G and A must be given");
  all.n = last(*wide);
  const auto square = fmt::format("(...,{},{})", all.n, all.n), across = fmt::format("(...,rows,{})", all.n);
  if (data.Q.defined()) expect(who, rows(data.Q) == all.n, all.Q, data.Q, square);
  if (data.p.defined()) expect(who, last(data.p) == all.n, all.p, data.p, fmt::format("(...,{})", all.n));
  const auto constraints = [&](Part& matrix, const Tensor& left, Part& vector, const Tensor& right,
                               std::int64_t& count) {
    if (left.defined() != right.defined())
      fail<ValueError>(who, fmt::format("{} and {} must be given together", matrix.name, vector.name));
    if (!left.defined()) return;
    expect(who, last(left) == all.n, matrix, left, across);
    count = rows(left);
    expect(who, last(right) == count, vector, right,
           fmt::format("(...,{}), as {} has rows", count, matrix.name));
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
        if (G[i * all.n + j] == 0.0 || !std::isfinite(G[i * all.n + j])) continue;
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

// An active set to begin with.
struct Start {
  Part lambda{"start.lambda"}, slack{"start.slack"};

  bool known(std::int64_t i) const {
    const double *l = lambda.of(i), *s = slack.of(i);
    for (std::int64_t k = 0; k < lambda.size; ++k)
      if (std::isnan(l[k]) || std::isnan(s[k])) return false;
    return true;
  }
  bool active(std::int64_t i, std::int64_t row) const { return lambda.of(i)[row] > slack.of(i)[row]; }
};

Start start_of(const QpStart& given, const Problems& all) {
  Start start;
  if (given.lambda.defined() != given.slack.defined())
    fail<ValueError>(op, "start.lambda and start.slack must be given together");
  if (!given.lambda.defined()) return start;
  const auto take_part = [&](Part& part, const Tensor& t) {
    const bool shared = t.shape() == Shape{all.m};
    const std::string expected =
        all.batched ? fmt::format("({},{}) or ({})", all.count, all.m, all.m) : fmt::format("({})", all.m);
    expect(op, shared || (all.batched && t.shape() == Shape{all.count, all.m}), part, t, expected);
    if (!is_floating(t.dtype()))
      fail<DTypeError>(op, fmt::format("{} must be floating: {}", part.name, name(t.dtype())));
    part.values = t.to(DType::f64), part.size = all.m, part.batched = !shared;
  };
  take_part(start.lambda, given.lambda), take_part(start.slack, given.slack);
  return start;
}

enum class Fitness { good, non_finite, never };  // never: some h is -infinity

Fitness fitness(const Problems& all, std::int64_t problem) {
  const auto finite = [&](const Part& part) {
    const double* v = part.of(problem);
    bool good = true;  // no early end: this takes several at a time
    for (std::int64_t i = 0; v && i < part.size; ++i) good &= std::abs(v[i]) <= DBL_MAX;
    return good;
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
  static constexpr std::int64_t most = 8;  // problems side by side

  Packed(const qp::Solver& solver, std::int64_t n, std::int64_t e, std::int64_t m, std::int64_t bounds,
         const std::int64_t* columns, double target, int max_steps, double rounding, bool warm)
      : solver_(solver), width_(solver.width) {
    const std::int64_t dense = m - bounds;
    const std::int64_t numbers = n * n + n + e * n + e + bounds + dense * n + m + n + e + 3 * m + 7;
    const std::int64_t all = numbers * width_ + solver.workspace(n, e, m);
    memory_ = Tensor::empty({all}, DType::f64);  // aligned to 64 by the pool
    double* next = memory_.mutable_data<double>();
    const auto part = [&](std::int64_t count) {
      double* result = next;
      next += count * width_;
      return result;
    };
    group_ = {n,
              e,
              m,
              bounds,
              columns,
              part(n * n),
              part(n),
              part(e * n),
              part(e),
              part(bounds),
              part(dense * n),
              part(m),
              target,
              max_steps,
              rounding,
              warm ? part(m) : nullptr,
              part(n),
              part(e),
              part(m),
              part(m),
              part(7)};
    work_ = next;
  }

  std::int64_t width() const { return width_; }
  qp::Group& group() { return group_; }
  /// `size` numbers of each problem, side by side; zeros for a null pointer.
  void interleave(const double* const* from, std::int64_t size, double* to) const {
    if (width_ == most)
      interleave_by<most>(from, size, to);
    else
      interleave_by<1>(from, size, to);
  }
  void put(double* to, std::int64_t i, std::int64_t lane, double value) const {
    to[i * width_ + lane] = value;
  }
  double get(const double* from, std::int64_t i, std::int64_t lane) const { return from[i * width_ + lane]; }
  void solve() {
    Tensor scratch = Tensor::empty({solver_.scratch(group_.n, group_.e, group_.m)}, DType::f64);
    solver_.solve(group_, work_, scratch.mutable_data<double>());
  }
  void linearise(double* active, double* weak, double* good, double* regular) {
    solver_.linearise(work_, active, weak, good, regular);
  }
  void tangent(double* x, double* y, double* z, double* residual) {
    solver_.tangent(work_, x, y, z, residual);
  }

 private:
  template <std::int64_t width>
  static void interleave_by(const double* const* from, std::int64_t size, double* to) {
    constexpr std::int64_t piece = 64;
    constexpr double zeros[piece] = {};
    for (std::int64_t at = 0; at < size; at += piece) {
      const double* next[width];
      for (std::int64_t lane = 0; lane < width; ++lane) next[lane] = from[lane] ? from[lane] + at : zeros;
      for (std::int64_t k = 0; k < std::min(piece, size - at); ++k)
        for (std::int64_t lane = 0; lane < width; ++lane) to[(at + k) * width + lane] = next[lane][k];
    }
  }

  const qp::Solver& solver_;
  std::int64_t width_;
  Tensor memory_;
  qp::Group group_{};
  double* work_ = nullptr;
};

// One problem written out, for the searches for certificates.
struct Single {
  std::int64_t n = 0, e = 0, m = 0;
  Numbers Q, p, A, b, G, h;

  struct Answer {
    Numbers x, y, z;
  };
  Answer solve(int max_steps) const {
    Packed packed(qp::single(), n, e, m, 0, nullptr, 1e-12, max_steps, 0.0, false);
    qp::Group& g = packed.group();
    const auto fill = [](const Numbers& from, double* to) { std::copy(from.begin(), from.end(), to); };
    fill(Q, g.Q), fill(p, g.p), fill(A, g.A), fill(b, g.b), fill(G, g.G), fill(h, g.h);
    packed.solve();
    return {Numbers(g.x, g.x + n), Numbers(g.y, g.y + e), Numbers(g.z, g.z + m)};
  }
};

double symmetric(const double* Q, std::int64_t n, std::int64_t i, std::int64_t j) {
  return i == j ? Q[i * n + i] : 0.5 * (Q[i * n + j] + Q[j * n + i]);
}

}  // namespace

// The groups as their solves left them.
class QpDerivative::Parts {
 public:
  Parts(const Problems& all, const Bounds& bounds, std::int64_t groups) : all_(all), bounds_(bounds) {
    groups_.resize(static_cast<std::size_t>(groups));
    if (groups == 0 && all_.count > 0) return;
    active_ = Tensor::empty({all_.count, all_.m}, DType::f64);
    holds_ = active_.mutable_data<double>();
    regularity_.resize(static_cast<std::size_t>(all_.count));
  }
  const Bounds& bounds() const { return bounds_; }

  // A group that was just solved: its numbers are still in the cache.
  void keep(std::int64_t g, std::unique_ptr<Packed> solved) {
    Packed& packed = *solved;
    groups_[static_cast<std::size_t>(g)] = std::move(solved);
    const std::int64_t first = g * packed.width(), count = std::min(packed.width(), all_.count - first);
    Numbers holds = lanes(packed, all_.m), weak = lanes(packed, 1), good = lanes(packed, 1),
            regular = lanes(packed, 1);
    packed.linearise(holds.data(), weak.data(), good.data(), regular.data());
    for (std::int64_t lane = 0; lane < count; ++lane) {
      const auto l = static_cast<std::size_t>(lane);
      regularity_[static_cast<std::size_t>(first + lane)] = {good[l] != 0.0, regular[l] == 0.0,
                                                             static_cast<int>(weak[l])};
      for (std::int64_t k = 0; k < all_.m; ++k)
        holds_[(first + lane) * all_.m + bounds_.rows[static_cast<std::size_t>(k)]] =
            packed.get(holds.data(), k, lane);
    }
  }

  Solution solve(const Tensor& rx, const Tensor& ry, const Tensor& rz) {
    Solution result{Tensor::empty({all_.count, all_.n}, DType::f64),
                    Tensor::empty({all_.count, all_.e}, DType::f64),
                    Tensor::empty({all_.count, all_.m}, DType::f64),
                    PoolVector<double>(static_cast<std::size_t>(all_.count))};
    double *z = result.z.mutable_data<double>(), *nu = result.nu.mutable_data<double>(),
           *lambda = result.lambda.mutable_data<double>();
    const double *to_x = rx.data<double>(), *to_y = ry.data<double>(), *to_z = rz.data<double>();
    for_groups([&](Packed& packed, std::int64_t first, std::int64_t count) {
      Numbers x = lanes(packed, all_.n), y = lanes(packed, all_.e), l = lanes(packed, all_.m),
              left = lanes(packed, 1);
      const auto each = [&](auto&& f) {
        for (std::int64_t lane = 0; lane < count; ++lane) {
          const std::int64_t i = first + lane;
          for (std::int64_t k = 0; k < all_.n; ++k) f(x, k, lane, to_x, z, i * all_.n + k);
          for (std::int64_t k = 0; k < all_.e; ++k) f(y, k, lane, to_y, nu, i * all_.e + k);
          for (std::int64_t k = 0; k < all_.m; ++k)
            f(l, k, lane, to_z, lambda, i * all_.m + bounds_.rows[static_cast<std::size_t>(k)]);
        }
      };
      // A right-hand side that is not finite is no equation: its problem gets NaN, and its lane zeros.
      PoolVector<char> good(static_cast<std::size_t>(count), 1);
      each([&](Numbers&, std::int64_t, std::int64_t lane, const double* from, double*, std::int64_t at) {
        if (!std::isfinite(from[at])) good[static_cast<std::size_t>(lane)] = 0;
      });
      each([&](Numbers& v, std::int64_t k, std::int64_t lane, const double* from, double*, std::int64_t at) {
        packed.put(v.data(), k, lane, good[static_cast<std::size_t>(lane)] ? from[at] : 0.0);
      });
      packed.tangent(x.data(), y.data(), l.data(), left.data());
      each([&](Numbers& v, std::int64_t k, std::int64_t lane, const double*, double* to, std::int64_t at) {
        to[at] = good[static_cast<std::size_t>(lane)] ? packed.get(v.data(), k, lane) : nan;
      });
      for (std::int64_t lane = 0; lane < count; ++lane) {
        const std::int64_t i = first + lane;
        double& residual = result.residual[static_cast<std::size_t>(i)];
        residual = good[static_cast<std::size_t>(lane)] ? left[static_cast<std::size_t>(lane)] : infinity;
        if (good[static_cast<std::size_t>(lane)] && !(residual <= solved_to))
          residual = least_squares(i, to_x + i * all_.n, to_y + i * all_.e, to_z + i * all_.m, z + i * all_.n,
                                   nu + i * all_.e, lambda + i * all_.m);
      }
    });
    return result;
  }

  const Tensor& active() const { return active_; }
  const PoolVector<QpRegularity>& regularity() const { return regularity_; }

  PoolVector<char> unique() {
    Tensor z = Tensor::empty({all_.count, all_.n}, DType::f64);
    for (std::int64_t i = 0; i < z.size(); ++i) z.mutable_data<double>()[i] = qp::irregular(i % all_.n);
    const Solution taken = solve(z, Tensor::zeros({all_.count, all_.e}, DType::f64),
                                 Tensor::zeros({all_.count, all_.m}, DType::f64));
    PoolVector<char> result;
    for (const double left : taken.residual) result.push_back(left <= 1e-5);
    return result;
  }

 private:
  static constexpr double solved_to = 1e-8;

  Numbers lanes(const Packed& packed, std::int64_t size) const {
    return Numbers(static_cast<std::size_t>(size * packed.width()), 0.0);
  }

  template <class Body>
  void for_groups(const Body& body) {
    parallel_for(std::ssize(groups_), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t g = begin; g < end; ++g) {
        Packed& packed = *groups_[static_cast<std::size_t>(g)];
        body(packed, g * packed.width(), std::min(packed.width(), all_.count - g * packed.width()));
      }
    });
  }

  // By singular values; returns the residual's length relative to the right-hand side's.
  double least_squares(std::int64_t i, const double* rx, const double* ry, const double* rz, double* x,
                       double* y, double* z) const {
    PoolVector<std::int64_t> rows;
    for (std::int64_t k = 0; k < all_.m; ++k)
      if (active_.data<double>()[i * all_.m + k] != 0.0) rows.push_back(k);
    const std::int64_t n = all_.n, e = all_.e, a = std::ssize(rows), size = n + e + a;
    Numbers matrix(static_cast<std::size_t>(size * size), 0.0), right(rx, rx + n), found(right.size());
    const auto set = [&](std::int64_t r, std::int64_t c, double value) {
      matrix[static_cast<std::size_t>(r * size + c)] = matrix[static_cast<std::size_t>(c * size + r)] = value;
    };
    const double *Q = all_.Q.of(i), *A = all_.A.of(i), *G = all_.G.of(i);
    for (std::int64_t r = 0; Q && r < n; ++r)
      for (std::int64_t c = 0; c <= r; ++c) set(r, c, symmetric(Q, n, r, c));
    for (std::int64_t r = 0; r < e; ++r)
      for (std::int64_t c = 0; c < n; ++c) set(n + r, c, A[r * n + c]);
    for (std::int64_t r = 0; r < a; ++r)
      for (std::int64_t c = 0; c < n; ++c) set(n + e + r, c, G[rows[static_cast<std::size_t>(r)] * n + c]);
    right.insert(right.end(), ry, ry + e);
    for (const std::int64_t row : rows) right.push_back(rz[row]);
    found.resize(right.size());
    const bool finite =
        std::all_of(matrix.begin(), matrix.end(), [](double v) { return std::isfinite(v); }) &&
        std::all_of(right.begin(), right.end(), [](double v) { return std::isfinite(v); });
    if (!finite ||
        blas::least_squares(size, size, 1, matrix.data(), right.data(), found.data(), 1e-10).info != 0) {
      std::fill_n(x, n, nan), std::fill_n(y, e, nan), std::fill_n(z, all_.m, nan);
      return infinity;
    }
    std::copy_n(found.begin(), n, x), std::copy_n(found.begin() + n, e, y);
    std::fill_n(z, all_.m, 0.0);
    for (std::int64_t r = 0; r < a; ++r)
      z[rows[static_cast<std::size_t>(r)]] = found[static_cast<std::size_t>(n + e + r)];
    double left = 0.0, whole = 0.0;
    for (std::int64_t r = 0; r < size; ++r) {
      double sum = right[static_cast<std::size_t>(r)];
      whole += sum * sum;
      for (std::int64_t c = 0; c < size; ++c)
        sum -= matrix[static_cast<std::size_t>(r * size + c)] * found[static_cast<std::size_t>(c)];
      left += sum * sum;
    }
    return whole > 0.0 ? std::sqrt(left / whole) : 0.0;
  }

  Problems all_;
  Bounds bounds_;
  PoolVector<std::unique_ptr<Packed>> groups_;
  Tensor active_;
  double* holds_ = nullptr;  // its elements
  PoolVector<QpRegularity> regularity_;
};

namespace {

class Batch {
 public:
  Batch(const Problems& all, const QpOptions& options)
      : all_(all), options_(options), bounds_(bounds_of(all)), start_(start_of(options.start, all)) {
    const auto shape = [&](std::int64_t extent) {
      return all.batched ? Shape{all.count, extent} : Shape{extent};
    };
    z_ = Tensor::empty(shape(all.n), DType::f64), nu_ = Tensor::empty(shape(all.e), DType::f64);
    lambda_ = Tensor::empty(shape(all.m), DType::f64), slack_ = Tensor::empty(shape(all.m), DType::f64);
    z = z_.mutable_data<double>(), nu = nu_.mutable_data<double>();
    lambda = lambda_.mutable_data<double>(), slack = slack_.mutable_data<double>();
    reports_.resize(static_cast<std::size_t>(all.count));
    fitness_.resize(reports_.size());
    far_.resize(reports_.size(), 0), before_.resize(reports_.size(), 0);
    taken_.resize(reports_.size() * static_cast<std::size_t>(all.m), 0);
  }

  QpSolution run() {
    const bool side_by_side = all_.n <= (all_.count < few ? small : most_in_lanes);
    const qp::Solver& solver = side_by_side ? qp::lanes() : qp::single();
    const std::int64_t groups = (all_.count + solver.width - 1) / solver.width;
    auto parts = std::make_unique<QpDerivative::Parts>(all_, bounds_, options_.derivative ? groups : 0);
    const Bounds& bounds = parts->bounds();
    parallel_for(groups, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t g = begin; g < end; ++g) {
        const std::int64_t first = g * solver.width, count = std::min(solver.width, all_.count - first);
        auto packed = std::make_unique<Packed>(solver, all_.n, all_.e, all_.m, std::ssize(bounds.columns),
                                               bounds.columns.data(), 1e-10, options_.max_steps, rounding(),
                                               start_.lambda.values.defined());
        do {
          pack(*packed, first, count);
          packed->solve();
          for (std::int64_t lane = 0; lane < count; ++lane) unpack(*packed, lane, first + lane);
        } while (take_far_rows(first, count));
        if (options_.derivative) parts->keep(g, std::move(packed));
      }
    });
    parallel_for(all_.count, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) judge(i);
    });
    const auto out = [&](const Tensor& t) { return t.to(all_.dtype); };
    QpSolution solution{out(z_), out(nu_), out(lambda_), out(slack_), {std::move(reports_)}};
    if (options_.derivative) solution.derivative = std::make_shared<const QpDerivative>(std::move(parts));
    return solution;
  }

 private:
  // Of problems side by side LAPACK is the faster only beyond the cache, or where most lanes are empty.
  static constexpr std::int64_t most_in_lanes = 256, few = 4, small = 32;

  QpSampleReport& report(std::int64_t i) { return reports_[static_cast<std::size_t>(i)]; }

  // Lanes without a problem, or with one that has no solution, hold min 1/2 |z|^2, all constraints void.
  void pack(Packed& packed, std::int64_t first, std::int64_t count) {
    qp::Group& g = packed.group();
    const std::int64_t n = all_.n, bounds = g.bounds, width = packed.width();
    bool good[Packed::most] = {};
    for (std::int64_t lane = 0; lane < count; ++lane) {
      Fitness& fit = fitness_[static_cast<std::size_t>(first + lane)];
      good[lane] = (fit = fitness(all_, first + lane)) == Fitness::good;
    }
    const double* from[Packed::most] = {};
    const auto put = [&](const Part& part, std::int64_t size, double* to) {
      for (std::int64_t lane = 0; lane < count; ++lane)
        from[lane] = good[lane] ? part.of(first + lane) : nullptr;
      packed.interleave(from, size, to);
    };
    put(all_.Q, n * n, g.Q), put(all_.p, n, g.p), put(all_.A, all_.e * n, g.A), put(all_.b, all_.e, g.b);
    for (std::int64_t lane = 0; lane < width; ++lane)
      for (std::int64_t r = 0; r < n && !good[lane]; ++r) packed.put(g.Q, r * (n + 1), lane, 1.0);
    for (std::int64_t k = 0; k < all_.m; ++k) {
      const std::int64_t row = bounds_.rows[static_cast<std::size_t>(k)];
      for (std::int64_t lane = 0; lane < width; ++lane) {
        const double* h = good[lane] ? all_.h.of(first + lane) : nullptr;
        const bool real = h && can_hold(first + lane, row);
        if (h) taken_[static_cast<std::size_t>((first + lane) * all_.m + row)] = real;
        from[lane] = real ? all_.G.of(first + lane) + row * n : nullptr;
        packed.put(g.h, k, lane, real ? h[row] : infinity);
        if (k < bounds) packed.put(g.bound, k, lane, real ? from[lane][g.column[k]] : 0.0);
      }
      if (k >= bounds) packed.interleave(from, n, g.G + (k - bounds) * n * width);
    }
    if (!g.start) return;
    for (std::int64_t lane = 0; lane < width; ++lane) {
      const std::int64_t i = first + lane;
      const bool known = !good[lane] || start_.known(i);
      for (std::int64_t k = 0; k < all_.m; ++k) {
        const bool active = good[lane] && start_.active(i, bounds_.rows[static_cast<std::size_t>(k)]);
        packed.put(g.start, k, lane, !known ? nan : active ? 1.0 : 0.0);
      }
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
      double& room = slack[i * all_.m + row];
      room = holds(i, row) ? packed.get(g.s, k, lane) : h[row];
      if (holds(i, row) || h[row] >= qp_infinity) continue;
      for (std::int64_t j = 0; j < all_.n; ++j) room -= all_.G.of(i)[row * all_.n + j] * z[i * all_.n + j];
    }
    const auto about = [&](int k) { return packed.get(g.residuals, k, lane); };
    QpSampleReport& r = report(i);
    const int steps = static_cast<int>(about(5)) + before_[static_cast<std::size_t>(i)];
    r = {QpStatus::max_steps, steps, about(0), about(1), about(2), about(3)};
    if (about(6) == 0.0 && !convex(i))
      r = {QpStatus::non_convex, r.steps, nan, nan, nan, nan};
    else if (about(4) <= std::max(options_.tolerance, 1e-9) &&
             (r.largest() <= options_.tolerance || rounded(i)) && representable(i))
      r.status = QpStatus::solved;
  }

  // Whether the solution has values in the dtype that it was asked for in.
  bool representable(std::int64_t i) const {
    if (all_.dtype == DType::f64) return true;
    const auto fit = [](const double* v, std::int64_t count) {
      return std::all_of(v, v + count, [](double x) { return std::abs(x) <= FLT_MAX; });
    };
    return fit(z + i * all_.n, all_.n) && fit(nu + i * all_.e, all_.e) && fit(lambda + i * all_.m, all_.m);
  }

  // Whether a row of G is one of the problem that is solved. Those without an entry are not, nor those with h
  // so large beside their entries that they hardly hold anything back, until it is seen that they do.
  bool can_hold(std::int64_t i, std::int64_t row) const {
    const double h = all_.h.of(i)[row], *g = all_.G.of(i) + row * all_.n;
    if (!(h < qp_infinity)) return false;
    if (h <= 0.0) return true;
    double most = 0.0;
    for (std::int64_t j = 0; j < all_.n; ++j) most = std::max(most, std::abs(g[j]));
    return h < (far_[static_cast<std::size_t>(i)] ? DBL_MAX : 1e5) * most;
  }

  // What can_hold said when the problem was packed.
  bool holds(std::int64_t i, std::int64_t row) const {
    return taken_[static_cast<std::size_t>(i * all_.m + row)] != 0;
  }

  // After unpack: whether some problem was not solved, or its solution comes near to rows that were left
  // out for their large h. They are not from then on.
  bool take_far_rows(std::int64_t first, std::int64_t count) {
    bool again = false;
    for (std::int64_t i = first; i < first + count; ++i) {
      char& far = far_[static_cast<std::size_t>(i)];
      if (far || fitness_[static_cast<std::size_t>(i)] != Fitness::good) continue;
      bool out = report(i).status == QpStatus::max_steps, any = false;
      for (std::int64_t row = 0; row < all_.m; ++row) {
        if (holds(i, row) || all_.h.of(i)[row] >= qp_infinity) continue;
        any = true, out = out || !(slack[i * all_.m + row] >= 0.5 * all_.h.of(i)[row]);
      }
      far = any && out;
      if (far) before_[static_cast<std::size_t>(i)] = report(i).steps;
      again = again || far;
    }
    return again;
  }

  // Whether every residual is within the tolerance or within the rounding of the terms whose sum it is.
  bool rounded(std::int64_t i) const {
    const std::int64_t n = all_.n;
    const double rounding_of_sums = static_cast<double>(n + all_.m + all_.e + 20) * DBL_EPSILON;
    const double *Q = all_.Q.of(i), *p = all_.p.of(i), *at = z + i * n;
    // Two numbers: a sum, and that of the absolute values.
    struct Sum {
      double value = 0.0, terms = 0.0;
      void add(double x) { value += x, terms += std::abs(x); }
    };
    const auto fits = [&](const Sum& s, double tolerance) {
      return std::abs(s.value) <= std::max(tolerance, rounding_of_sums * s.terms);
    };
    PoolVector<Sum> pulls(static_cast<std::size_t>(n));
    Sum gap;
    double objective = 0.0;
    for (std::int64_t r = 0; r < n; ++r) {
      Sum& pull = pulls[static_cast<std::size_t>(r)];
      if (p) pull.add(p[r]), gap.add(p[r] * at[r]), objective += p[r] * at[r];
      for (std::int64_t c = 0; Q && c < n; ++c) {
        const double q = symmetric(Q, n, r, c) * at[c];
        pull.add(q), gap.add(q * at[r]), objective += 0.5 * q * at[r];
      }
    }
    bool good = true;
    const auto constraint = [&](const double* row, double multiplier, double room, double right) {
      Sum left;
      left.add(-right), left.add(room), gap.add(right * multiplier);
      for (std::int64_t j = 0; j < n; ++j) {
        left.add(row[j] * at[j]);
        pulls[static_cast<std::size_t>(j)].add(row[j] * multiplier);
      }
      good = good && fits(left, options_.tolerance);
    };
    for (std::int64_t k = 0; k < all_.e; ++k)
      constraint(all_.A.of(i) + k * n, nu[i * all_.e + k], 0.0, all_.b.of(i)[k]);
    for (std::int64_t k = 0; k < all_.m; ++k)
      if (holds(i, k))
        constraint(all_.G.of(i) + k * n, lambda[i * all_.m + k], slack[i * all_.m + k], all_.h.of(i)[k]);
    for (const Sum& pull : pulls) good = good && fits(pull, options_.tolerance);
    return good && fits(gap, options_.tolerance * std::max(1.0, std::abs(objective)));
  }

  bool convex(std::int64_t i) const {
    const double* Q = all_.Q.of(i);
    if (!Q) return true;
    const auto n = static_cast<std::size_t>(all_.n);
    Numbers matrix(n * n), values(n);
    double most = 0.0;
    for (std::size_t r = 0; r < n; ++r)
      for (std::size_t c = 0; c < n; ++c) {
        matrix[r * n + c] = symmetric(Q, all_.n, static_cast<std::int64_t>(r), static_cast<std::int64_t>(c));
        most = std::max(most, std::abs(matrix[r * n + c]));
      }
    return blas::symmetric_eigen(all_.n, matrix.data(), values.data(), false) == 0 &&
           values[0] >= -1e-8 * most;
  }

  // What the interior point did not settle.
  void judge(std::int64_t i) {
    QpSampleReport& r = report(i);
    const Fitness fit = fitness_[static_cast<std::size_t>(i)];
    if (fit == Fitness::non_finite) {
      r = {QpStatus::non_finite, 0, nan, nan, nan, nan};
    } else if (fit == Fitness::never) {
      r = {QpStatus::primal_infeasible, 0, infinity, nan, nan, nan};
      impossible(i);
      return;
    } else if (r.status == QpStatus::max_steps) {
      if (cannot_be_met(i) || has_no_end(i)) return;
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
      if (h[k] < qp_infinity) rows.push_back(k);
    return rows;
  }

  // min 1/2 |t|^2 + 1/2 |r|^2 with Az - t = b, Gz - r <= h always has a solution; at it A'nu + G'lambda = 0
  // with nu = t and lambda = r, which proves that r = t = 0 cannot be if b'nu + h'lambda < 0 (Farkas).
  // Constraints in very different units may hide that: then each is brought to entries of at most 1.
  bool cannot_be_met(std::int64_t i) { return cannot_be_met(i, false) || cannot_be_met(i, true); }

  bool cannot_be_met(std::int64_t i, bool unit_rows) {
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
    Single::Answer a = s.solve(options_.max_steps);
    const double* b = all_.b.of(i);
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
    QpSampleReport& r = report(i);
    r = {QpStatus::primal_infeasible, r.steps, 0.0, nan, nan, objective(i)};
    for (std::int64_t k = 0; k < all_.m; ++k) r.primal = std::max(r.primal, -slack[i * all_.m + k]);
    for (std::int64_t k = 0; k < e; ++k) {
      double off = -b[k];
      for (std::int64_t j = 0; j < n; ++j) off += A[k * n + j] * z[i * n + j];
      r.primal = std::max(r.primal, std::abs(off));
    }
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
      for (std::int64_t c = 0; c < n; ++c) s.A[static_cast<std::size_t>(r * n + c)] = symmetric(Q, n, r, c);
    if (A) std::copy_n(A, e * n, s.A.begin() + n * n);
    for (std::int64_t k = 0; k < m; ++k)
      std::copy_n(G + rows[static_cast<std::size_t>(k)] * n, n, s.G.begin() + k * n);
    const Single::Answer a = s.solve(options_.max_steps);
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
    for (std::int64_t j = 0; j < n; ++j) z[i * n + j] = a.x[static_cast<std::size_t>(j)] / value;
    std::fill_n(nu + i * e, e, 0.0), std::fill_n(lambda + i * all_.m, all_.m, 0.0);
    std::fill_n(slack + i * all_.m, all_.m, nan);
    report(i) = {QpStatus::dual_infeasible, report(i).steps, nan, nan, nan, -infinity};
    return true;
  }

  double objective(std::int64_t i) const {
    const double *Q = all_.Q.of(i), *p = all_.p.of(i), *at = z + i * all_.n;
    double result = 0.0;
    for (std::int64_t r = 0; r < all_.n; ++r) {
      if (p) result += p[r] * at[r];
      for (std::int64_t c = 0; Q && c < all_.n; ++c) result += 0.5 * at[r] * Q[r * all_.n + c] * at[c];
    }
    return result;
  }

  // Q made of products in f32 has negative eigenvalues of this size, beside its largest entry.
  double rounding() const { return all_.dtype == DType::f32 ? 6e-8 * static_cast<double>(all_.n) : 0.0; }

  // What should vanish is at most `most`, a sum of terms up to this size, and `value` should be positive.
  // That proves something for all z (or multipliers) up to 1 / proof; and nothing beyond rounding may be
  // left.
  static bool proves(double value, double most, double size) {
    return value > 0.0 && most <= proof * value && most <= proof * size;
  }
  static constexpr double proof = 1e-9;

  const Problems& all_;
  QpOptions options_;
  Bounds bounds_;
  Start start_;
  Tensor z_, nu_, lambda_, slack_;
  double *z, *nu, *lambda, *slack;
  PoolVector<QpSampleReport> reports_;
  PoolVector<Fitness> fitness_;
  PoolVector<char> taken_;  // of each row of G: whether it is one of the problem that is solved
  PoolVector<char> far_;    // of a problem: whether rows with a large h are taken too
  PoolVector<int> before_;  // steps taken without them
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

QpDerivative::QpDerivative(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
QpDerivative::~QpDerivative() = default;
QpDerivative::Solution QpDerivative::solve(const Tensor& z, const Tensor& nu, const Tensor& lambda) const {
  return parts_->solve(z, nu, lambda);
}
const Tensor& QpDerivative::active() const { return parts_->active(); }
const PoolVector<QpRegularity>& QpDerivative::problems() const { return parts_->regularity(); }
PoolVector<char> QpDerivative::unique() const { return parts_->unique(); }

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

double QpSampleReport::largest() const {
  const double beside = gap / std::max(1.0, std::abs(objective));
  const double most = std::max({primal, dual, beside});
  return std::isfinite(primal + dual + beside) ? most : infinity;
}

bool QpReport::solved() const { return count(QpStatus::solved) == std::ssize(samples); }

int QpReport::count(QpStatus status) const {
  return static_cast<int>(std::count_if(samples.begin(), samples.end(),
                                        [&](const QpSampleReport& r) { return r.status == status; }));
}

std::string QpReport::to_string() const {
  std::string text = fmt::format("{} problem{}{}", samples.size(), samples.size() == 1 ? "" : "s",
                                 samples.empty() ? "" : ":");
  const char* separator = " ";
  for (int s = 0; s <= static_cast<int>(QpStatus::non_finite); ++s) {
    const auto status = static_cast<QpStatus>(s);
    if (const int k = count(status); k > 0) {
      text += fmt::format("{}{} {}", separator, k, name(status));
      separator = ", ";
    }
  }
  double most = 0.0;
  for (const QpSampleReport& r : samples)
    if (r.status == QpStatus::solved) most = std::max(most, r.largest());
  if (count(QpStatus::solved) > 0) text += fmt::format("; largest residual of these solved {:.1e}", most);
  return text;
}

QpSizes sizes(const QpData& data, std::string_view who) {
  const Problems all = problems_of(data, who);
  return {all.count, all.n, all.m, all.e, all.batched, all.dtype};
}

QpSolution solve_qp(const QpData& data, const QpOptions& options) {
  if (!(options.tolerance > 0.0) || !std::isfinite(options.tolerance))
    fail<ValueError>(op, fmt::format("tolerance must be positive: {}", options.tolerance));
  if (options.max_steps < 1)
    fail<ValueError>(op, fmt::format("max_steps must be at least 1: {}", options.max_steps));
  const Problems all = problems_of(data, op);
  return Batch(all, options).run();
}

}  // namespace banach
