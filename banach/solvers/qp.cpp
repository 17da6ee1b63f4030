#include <banach/engine/blas.hpp>
#include <banach/engine/error.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>
#include <banach/solvers/qp.hpp>
#include <banach/solvers/qp/certificates.hpp>
#include <banach/solvers/qp/derivative.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

namespace banach {
namespace {

using qp::Bounds, qp::Fitness, qp::Numbers, qp::Packed, qp::Part, qp::Problems, qp::Start, qp::symmetric;

constexpr std::string_view op = "qp_solve";
constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

class Batch {
 public:
  Batch(const Problems& all, const QpOptions& options)
      : all_(all), options_(options), bounds_(qp::bounds_of(all)), start_(qp::start_of(options.start, all)) {
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
  qp::Answer answer(std::int64_t i) {
    return {z + i * all_.n, nu + i * all_.e, lambda + i * all_.m, slack + i * all_.m, report(i)};
  }

  // Lanes without a problem, or with one that has no solution, hold min 1/2 |z|^2, all constraints void.
  void pack(Packed& packed, std::int64_t first, std::int64_t count) {
    qp::Group& g = packed.group();
    const std::int64_t n = all_.n, bounds = g.bounds, width = packed.width();
    bool good[Packed::most] = {};
    for (std::int64_t lane = 0; lane < count; ++lane) {
      Fitness& fit = fitness_[static_cast<std::size_t>(first + lane)];
      good[lane] = (fit = qp::fitness(all_, first + lane)) == Fitness::good;
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
      if (qp::cannot_be_met(all_, i, options_.max_steps, answer(i)) ||
          qp::has_no_end(all_, i, options_.max_steps, answer(i)))
        return;
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

  // Q made of products in f32 has negative eigenvalues of this size, beside its largest entry.
  double rounding() const { return all_.dtype == DType::f32 ? 6e-8 * static_cast<double>(all_.n) : 0.0; }

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

QpSizes sizes(const QpData& data, std::string_view who) {
  const Problems all = qp::problems_of(data, who);
  return {all.count, all.n, all.m, all.e, all.batched, all.dtype};
}

QpSolution solve_qp(const QpData& data, const QpOptions& options) {
  if (!(options.tolerance > 0.0) || !std::isfinite(options.tolerance))
    fail<ValueError>(op, fmt::format("tolerance must be positive: {}", options.tolerance));
  if (options.max_steps < 1)
    fail<ValueError>(op, fmt::format("max_steps must be at least 1: {}", options.max_steps));
  const Problems all = qp::problems_of(data, op);
  return Batch(all, options).run();
}

}  // namespace banach
