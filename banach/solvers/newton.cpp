#include <banach/engine/blas.hpp>
#include <banach/solvers/derivatives.hpp>
#include <banach/solvers/line_search.hpp>
#include <banach/solvers/newton.hpp>

namespace banach {
namespace {

template <class T>
class NewtonStepper final : public LineSearchStepper<T> {
 public:
  NewtonStepper(const Newton& options, const FixedPointProblem& problem, std::int64_t batch, std::int64_t n,
                DType dtype)
      : LineSearchStepper<T>(batch, n, dtype, options.line_search), derivatives_(Newton::name, problem) {}

 private:
  using Base = LineSearchStepper<T>;
  using Base::batch_, Base::n_;

  void find_directions(const Tensor& z, const Tensor& fz, std::span<const char> wanted) override {
    PoolVector<double> a = derivatives_.identity_minus_jacobian(z, fz);
    vec::for_active(wanted, n_ * n_, [&](std::int64_t s) {
      StepInfo& info = Base::info_of(s);
      info.products += static_cast<int>(n_);
      if (derivatives_.differences()) info.evaluations += static_cast<int>(n_);
      solve(s, a.data() + s * n_ * n_, z.data<T>() + s * n_, fz.data<T>() + s * n_);
    });
  }

  // A d = g; of a singular A, the solution of least squares. Its slope is -||A d||^2 / ||g||.
  void solve(std::int64_t s, const double* a, const T* z, const T* f) {
    PoolVector<double> g(static_cast<std::size_t>(n_));
    for (std::int64_t i = 0; i < n_; ++i)
      g[static_cast<std::size_t>(i)] = static_cast<double>(f[i]) - static_cast<double>(z[i]);
    double *d = Base::direction(s), &amplification = Base::info_of(s).amplification;
    if (!vec::all_finite(a, n_ * n_)) return Base::set_slope(s, std::nan(""));
    const PoolVector<double> none(static_cast<std::size_t>(n_), 1.0);
    if (solve_lu(a, none, none, g, d, &amplification)) return Base::set_slope(s, -Base::residual(s));
    // Perhaps only the units of the rows and columns are far apart.
    PoolVector<double> rows = none, columns = none;
    equilibrate(a, rows, columns);
    if (solve_lu(a, rows, columns, g, d, nullptr)) return Base::set_slope(s, -Base::residual(s));
    amplification = std::numeric_limits<double>::infinity();
    blas::least_squares(n_, n_, 1, a, g.data(), d, lost());
    PoolVector<double> image(static_cast<std::size_t>(n_));
    blas::gemv(false, n_, n_, 1.0, a, n_, d, 0.0, image.data());
    const double length = vec::norm(image.data(), n_);
    Base::set_slope(s, length > 0.0 ? -length * (length / Base::residual(s)) : 0.0);
  }

  // With B = A, its rows and columns divided by the given numbers: d, if B is not singular to rounding, and
  // an estimate of ||B^-1|| in the 1-norm.
  bool solve_lu(const double* a, const PoolVector<double>& rows, const PoolVector<double>& columns,
                const PoolVector<double>& g, double* d, double* inverse_norm) const {
    PoolVector<double> b(a, a + n_ * n_);
    PoolVector<int> pivots(g.size());
    for (std::size_t i = 0; i < g.size(); ++i) {
      for (std::size_t j = 0; j < g.size(); ++j) b[i * g.size() + j] /= rows[i] * columns[j];
      d[i] = g[i] / rows[i];
    }
    const double norm = blas::norm_1(n_, b.data());
    if (blas::lu_factor(n_, b.data(), pivots.data()) != 0) return false;
    const double rcond = blas::lu_rcond(n_, b.data(), norm);
    if (inverse_norm) *inverse_norm = 1.0 / (rcond * norm);
    if (!(rcond > lost())) return false;
    blas::lu_solve(false, n_, 1, b.data(), pivots.data(), d);
    for (std::size_t i = 0; i < g.size(); ++i) d[i] /= columns[i];
    return true;
  }

  // Largest entries of the rows, then of the columns.
  void equilibrate(const double* a, PoolVector<double>& rows, PoolVector<double>& columns) const {
    const auto n = static_cast<std::size_t>(n_);
    const auto or_one = [](double size) { return size > 0.0 ? size : 1.0; };
    for (std::size_t i = 0; i < n; ++i) {
      double size = 0.0;
      for (std::size_t j = 0; j < n; ++j) size = std::max(size, std::abs(a[i * n + j]));
      rows[i] = or_one(size);
    }
    for (std::size_t j = 0; j < n; ++j) {
      double size = 0.0;
      for (std::size_t i = 0; i < n; ++i) size = std::max(size, std::abs(a[i * n + j]) / rows[i]);
      columns[j] = or_one(size);
    }
  }

  double lost() const { return static_cast<double>(n_) * std::numeric_limits<double>::epsilon(); }

  Derivatives derivatives_;
};

}  // namespace

std::unique_ptr<Stepper> Newton::start(const FixedPointProblem& problem, std::int64_t batch, std::int64_t n,
                                       DType dtype) const {
  return dispatch_floating(dtype, [&](auto zero) -> std::unique_ptr<Stepper> {
    return std::make_unique<NewtonStepper<decltype(zero)>>(*this, problem, batch, n, dtype);
  });
}

}  // namespace banach
