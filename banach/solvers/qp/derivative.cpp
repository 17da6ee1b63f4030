#include <banach/engine/blas.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/solvers/qp/derivative.hpp>
#include <banach/solvers/qp/irregular.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace banach {
namespace {

using qp::Bounds, qp::Numbers, qp::Packed, qp::Problems;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double solved_to = 1e-8;

}  // namespace

template <class Body>
void QpDerivative::Parts::for_groups(const Body& body) {
  parallel_for(std::ssize(groups_), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin; g < end; ++g) {
      Packed& packed = *groups_[static_cast<std::size_t>(g)];
      body(packed, g * packed.width(), std::min(packed.width(), all_.count - g * packed.width()));
    }
  });
}

QpDerivative::Parts::Parts(const Problems& all, const Bounds& bounds, std::int64_t groups)
    : all_(all), bounds_(bounds) {
  groups_.resize(static_cast<std::size_t>(groups));
  if (groups == 0 && all_.count > 0) return;
  active_ = Tensor::empty({all_.count, all_.m}, DType::f64);
  holds_ = active_.mutable_data<double>();
  regularity_.resize(static_cast<std::size_t>(all_.count));
}

void QpDerivative::Parts::keep(std::int64_t g, std::unique_ptr<Packed> solved) {
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

QpDerivative::Solution QpDerivative::Parts::solve(const Tensor& rx, const Tensor& ry, const Tensor& rz) {
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

PoolVector<char> QpDerivative::Parts::unique() {
  Tensor z = Tensor::empty({all_.count, all_.n}, DType::f64);
  for (std::int64_t i = 0; i < z.size(); ++i) z.mutable_data<double>()[i] = qp::irregular(i % all_.n);
  const Solution taken = solve(z, Tensor::zeros({all_.count, all_.e}, DType::f64),
                               Tensor::zeros({all_.count, all_.m}, DType::f64));
  PoolVector<char> result;
  for (const double left : taken.residual) result.push_back(left <= 1e-5);
  return result;
}

Numbers QpDerivative::Parts::lanes(const Packed& packed, std::int64_t size) const {
  return Numbers(static_cast<std::size_t>(size * packed.width()), 0.0);
}

// By singular values; returns the residual's length relative to the right-hand side's.
double QpDerivative::Parts::least_squares(std::int64_t i, const double* rx, const double* ry,
                                          const double* rz, double* x, double* y, double* z) const {
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
    for (std::int64_t c = 0; c <= r; ++c) set(r, c, qp::symmetric(Q, n, r, c));
  for (std::int64_t r = 0; r < e; ++r)
    for (std::int64_t c = 0; c < n; ++c) set(n + r, c, A[r * n + c]);
  for (std::int64_t r = 0; r < a; ++r)
    for (std::int64_t c = 0; c < n; ++c) set(n + e + r, c, G[rows[static_cast<std::size_t>(r)] * n + c]);
  right.insert(right.end(), ry, ry + e);
  for (const std::int64_t row : rows) right.push_back(rz[row]);
  found.resize(right.size());
  const bool finite = std::all_of(matrix.begin(), matrix.end(), [](double v) { return std::isfinite(v); }) &&
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

QpDerivative::QpDerivative(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
QpDerivative::~QpDerivative() = default;
QpDerivative::Solution QpDerivative::solve(const Tensor& z, const Tensor& nu, const Tensor& lambda) const {
  return parts_->solve(z, nu, lambda);
}
const Tensor& QpDerivative::active() const { return parts_->active(); }
const PoolVector<QpRegularity>& QpDerivative::problems() const { return parts_->regularity(); }
PoolVector<char> QpDerivative::unique() const { return parts_->unique(); }

}  // namespace banach
