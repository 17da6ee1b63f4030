#include <bench/table/lapack_qp.hpp>

#include <cblas.h>

#include <algorithm>
#include <cmath>

extern "C" void dpotrf_(const char* triangle, const int* n, double* a, const int* lda, int* info);

namespace bench {
namespace {

using Numbers = std::vector<double>;

/// y += factor op(A) x, A (rows, n)
void add_product(bool transposed, int rows, int n, double factor, const double* A, const double* x,
                 double* y) {
  if (rows > 0 && n > 0)
    cblas_dgemv(CblasRowMajor, transposed ? CblasTrans : CblasNoTrans, rows, n, factor, A, n, x, 1, 1.0, y,
                1);
}

/// The lower triangle becomes L, H = L L'.
void cholesky(int n, double* H) {
  int info = 0;
  if (n > 0) dpotrf_("U", &n, H, &n, &info);
}

void triangular(bool transposed, int n, int columns, const double* L, double* x) {
  if (n > 0 && columns > 0)
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, transposed ? CblasTrans : CblasNoTrans, CblasNonUnit, n,
                columns, 1.0, L, n, x, columns);
}

double largest(const Numbers& v) {
  double most = 0.0;
  for (const double x : v) most = std::max(most, std::abs(x));
  return most;
}

double dot(const Numbers& a, const double* b) {
  return cblas_ddot(static_cast<int>(a.size()), a.data(), 1, b, 1);
}

void add(double factor, const Numbers& from, Numbers& to) {
  cblas_daxpy(static_cast<int>(to.size()), factor, from.data(), 1, to.data(), 1);
}

/// M += factor u v'
void add_outer(double factor, const Numbers& u, const Numbers& v, double* M) {
  if (!u.empty())
    cblas_dger(CblasRowMajor, static_cast<int>(u.size()), static_cast<int>(v.size()), factor, u.data(), 1,
               v.data(), 1, M, static_cast<int>(v.size()));
}

}  // namespace

LapackQp::LapackQp(const DenseQp& problem) : d_(problem) {
  const auto n = static_cast<std::size_t>(d_.n), m = static_cast<std::size_t>(d_.m),
             e = static_cast<std::size_t>(d_.e);
  for (Numbers* v : {&x_, &dx_, &rx_, &t_}) v->resize(n);
  for (Numbers* v : {&y_, &dy_, &ry_}) v->resize(e);
  for (Numbers* v : {&z_, &s_, &dz_, &ds_, &rz_, &rs_, &w_}) v->resize(m);
  std::fill(z_.begin(), z_.end(), 1.0), std::fill(s_.begin(), s_.end(), 1.0);
  H_.resize(n * n), V_.resize(n * e), S_.resize(e * e), scaled_.resize(m * n);
}

bool LapackQp::residuals() {
  std::fill(rx_.begin(), rx_.end(), 0.0);
  cblas_dsymv(CblasRowMajor, CblasLower, d_.n, -1.0, d_.Q, d_.n, x_.data(), 1, 0.0, rx_.data(), 1);
  const double quadratic = -dot(rx_, x_.data());
  cblas_daxpy(d_.n, -1.0, d_.p, 1, rx_.data(), 1);
  add_product(true, d_.e, d_.n, -1.0, d_.A, y_.data(), rx_.data());
  add_product(true, d_.m, d_.n, -1.0, d_.G, z_.data(), rx_.data());
  ry_.assign(d_.b, d_.b + d_.e);
  add_product(false, d_.e, d_.n, -1.0, d_.A, x_.data(), ry_.data());
  rz_.assign(d_.h, d_.h + d_.m);
  add_product(false, d_.m, d_.n, -1.0, d_.G, x_.data(), rz_.data());
  add(-1.0, s_, rz_);
  const double linear = dot(x_, d_.p);
  const double gap = std::abs(quadratic + linear + dot(y_, d_.b) + dot(z_, d_.h));
  return std::max({largest(rx_), largest(ry_), largest(rz_),
                   gap / std::max(1.0, std::abs(0.5 * quadratic + linear))}) <= 1e-9;
}

void LapackQp::factor() {
  std::copy_n(d_.Q, H_.size(), H_.begin());
  for (std::size_t i = 0; i < w_.size(); ++i) {
    w_[i] = z_[i] / s_[i];
    const double root = std::sqrt(w_[i]);
    for (int j = 0; j < d_.n; ++j) {
      const std::size_t at = i * static_cast<std::size_t>(d_.n) + static_cast<std::size_t>(j);
      scaled_[at] = root * d_.G[at];
    }
  }
  cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, d_.n, d_.m, 1.0, scaled_.data(), d_.n, 1.0, H_.data(),
              d_.n);
  cholesky(d_.n, H_.data());
  if (d_.e == 0) return;
  for (int i = 0; i < d_.e; ++i) cblas_dcopy(d_.n, d_.A + i * d_.n, 1, V_.data() + i, d_.e);
  triangular(false, d_.n, d_.e, H_.data(), V_.data());
  cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, d_.e, d_.n, 1.0, V_.data(), d_.e, 0.0, S_.data(), d_.e);
  cholesky(d_.e, S_.data());
}

void LapackQp::step() {
  for (std::size_t i = 0; i < w_.size(); ++i) dz_[i] = rz_[i] - rs_[i] / z_[i], ds_[i] = w_[i] * dz_[i];
  t_ = rx_;
  add_product(true, d_.m, d_.n, 1.0, d_.G, ds_.data(), t_.data());
  triangular(false, d_.n, 1, H_.data(), t_.data());
  for (std::size_t i = 0; i < dy_.size(); ++i) dy_[i] = -ry_[i];
  add_product(true, d_.n, d_.e, 1.0, V_.data(), t_.data(), dy_.data());
  triangular(false, d_.e, 1, S_.data(), dy_.data()), triangular(true, d_.e, 1, S_.data(), dy_.data());
  add_product(false, d_.n, d_.e, -1.0, V_.data(), dy_.data(), t_.data());
  triangular(true, d_.n, 1, H_.data(), t_.data());
  dx_ = t_;
  for (double& v : dz_) v = -v;
  add_product(false, d_.m, d_.n, 1.0, d_.G, dx_.data(), dz_.data());
  for (std::size_t i = 0; i < w_.size(); ++i) {
    dz_[i] *= w_[i];
    ds_[i] = (rs_[i] - s_[i] * dz_[i]) / z_[i];
  }
}

void LapackQp::refine() {
  const Numbers dx = dx_, dy = dy_, dz = dz_, ds = ds_;
  cblas_dsymv(CblasRowMajor, CblasLower, d_.n, -1.0, d_.Q, d_.n, dx_.data(), 1, 1.0, rx_.data(), 1);
  add_product(true, d_.e, d_.n, -1.0, d_.A, dy_.data(), rx_.data());
  add_product(true, d_.m, d_.n, -1.0, d_.G, dz_.data(), rx_.data());
  for (Numbers* v : {&ry_, &rz_, &rs_}) std::fill(v->begin(), v->end(), 0.0);
  step();
  add(1.0, dx, dx_), add(1.0, dy, dy_), add(1.0, dz, dz_), add(1.0, ds, ds_);
}

double LapackQp::reach(const Numbers& v, const Numbers& dv) const {
  double most = 1.0;
  for (std::size_t i = 0; i < v.size(); ++i)
    if (dv[i] < 0.0) most = std::min(most, -v[i] / dv[i]);
  return most;
}

int LapackQp::solve() {
  for (std::size_t i = 0; i < w_.size(); ++i) z_[i] = s_[i] = 1.0, rs_[i] = 0.0;
  factor();
  for (std::size_t j = 0; j < rx_.size(); ++j) rx_[j] = -d_.p[j];
  ry_.assign(d_.b, d_.b + d_.e), rz_.assign(d_.h, d_.h + d_.m);
  step();
  x_ = dx_, y_ = dy_, z_ = dz_;
  double lift_s = 0.0, lift_z = 0.0, both = 0.0, sum_s = 0.0, sum_z = 0.0;
  for (std::size_t i = 0; i < w_.size(); ++i) {
    s_[i] = -z_[i];
    lift_s = std::max(lift_s, -1.5 * s_[i]), lift_z = std::max(lift_z, -1.5 * z_[i]);
  }
  for (std::size_t i = 0; i < w_.size(); ++i) {
    s_[i] += lift_s, z_[i] += lift_z;
    both += s_[i] * z_[i], sum_s += s_[i], sum_z += z_[i];
  }
  for (std::size_t i = 0; i < w_.size(); ++i) s_[i] += 0.5 * both / sum_z, z_[i] += 0.5 * both / sum_s;

  for (int steps = 0; steps < 100; ++steps) {
    if (residuals()) return steps;
    factor();
    const double mu = dot(s_, z_.data()) / static_cast<double>(s_.size());
    for (std::size_t i = 0; i < s_.size(); ++i) rs_[i] = -s_[i] * z_[i];
    step();
    const double by_s = reach(s_, ds_), by_z = reach(z_, dz_);
    double after = 0.0;
    for (std::size_t i = 0; i < s_.size(); ++i) after += (s_[i] + by_s * ds_[i]) * (z_[i] + by_z * dz_[i]);
    const double sigma = std::pow(after / (mu * static_cast<double>(s_.size())), 3.0);
    for (std::size_t i = 0; i < s_.size(); ++i) rs_[i] += sigma * mu - ds_[i] * dz_[i];
    step();
    refine();
    // One length for both sides: with a quadratic objective the dual residual depends on both.
    const double length = std::min(1.0, 0.99 * std::min(reach(s_, ds_), reach(z_, dz_)));
    add(length, dx_, x_), add(length, dy_, y_), add(length, dz_, z_), add(length, ds_, s_);
  }
  return -1;
}

void LapackQp::gradients(const double* g, double* Q, double* p, double* G, double* h, double* A, double* b) {
  factor();
  for (std::size_t j = 0; j < rx_.size(); ++j) rx_[j] = -g[j];
  for (Numbers* v : {&ry_, &rz_, &rs_}) std::fill(v->begin(), v->end(), 0.0);
  step();
  std::fill_n(Q, H_.size(), 0.0), std::fill_n(G, scaled_.size(), 0.0), std::fill_n(A, V_.size(), 0.0);
  add_outer(0.5, dx_, x_, Q), add_outer(0.5, x_, dx_, Q);
  add_outer(1.0, dz_, x_, G), add_outer(1.0, z_, dx_, G);
  add_outer(1.0, dy_, x_, A), add_outer(1.0, y_, dx_, A);
  std::copy(dx_.begin(), dx_.end(), p);
  for (std::size_t i = 0; i < dz_.size(); ++i) h[i] = -dz_[i];
  for (std::size_t i = 0; i < dy_.size(); ++i) b[i] = -dy_[i];
}

}  // namespace bench
