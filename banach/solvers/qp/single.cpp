#include <banach/engine/blas.hpp>
#include <banach/engine/memory.hpp>
#include <banach/solvers/qp/solver.hpp>

#include <algorithm>

namespace banach::qp {
namespace {

/// The kernels of matrices.hpp by BLAS and LAPACK.
struct BlasMatrices {
  static void subtract(Index m, Index n, const double* A, const double* x, double* y) {
    if (m > 0 && n > 0) blas::gemv(false, m, n, -1.0, A, n, x, 1.0, y);
  }
  static void subtract_transposed(Index m, Index n, const double* A, const double* x, double* y) {
    if (m > 0 && n > 0) blas::gemv(true, m, n, -1.0, A, n, x, 1.0, y);
  }
  static void add_transposed(Index m, Index n, const double* A, const double* x, double* y) {
    if (m > 0 && n > 0) blas::gemv(true, m, n, 1.0, A, n, x, 1.0, y);
  }
  static void subtract_both(Index m, Index n, const double* A, const double* w, const double* x, double* y,
                            double* z, double* v) {
    subtract(m, n, A, x, y);
    for (Index i = 0; i < m; ++i) z[i] = -w[i] * y[i];
    subtract_transposed(m, n, A, z, v);
  }
  static void add_gram(Index n, Index m, const double* A, const double* w, double* H) {
    if (!w) return gram(n, m, A, 1.0, H);
    PoolVector<double> scaled;
    scaled.reserve(static_cast<std::size_t>(m * n));
    Index rows = 0;
    for (Index k = 0; k < m; ++k) {
      if (w[k] == 0.0) continue;
      const double factor = square_root(w[k]);
      for (Index j = 0; j < n; ++j) scaled.push_back(factor * A[k * n + j]);
      ++rows;
    }
    gram(n, rows, scaled.data(), 1.0, H);
  }
  static void subtract_gram(Index n, Index m, const double* A, double* H) { gram(n, m, A, -1.0, H); }
  static bool cholesky(Index n, double* L) { return n == 0 || blas::cholesky_factor(n, L) == 0; }
  static void lower_solve(Index n, Index k, const double* L, double* B) {
    if (n > 0 && k > 0) blas::triangular_solve(false, false, false, n, k, L, B);
  }
  static void upper_solve(Index n, const double* L, double* x) {
    if (n > 0) blas::triangular_solve(false, true, false, n, 1, L, x);
  }
  static void transpose(Index m, Index n, const double* A, double* B) {
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j) B[j * m + i] = A[i * n + j];
  }

 private:
  // The lower triangle of H += sign A'A, A (rows x n), in blocks.
  static void gram(Index n, Index rows, const double* A, double sign, double* H) {
    constexpr Index block = 64;
    for (Index i = 0; i < n && rows > 0; i += block) {
      const Index height = std::min(block, n - i);
      blas::gemm(true, false, height, i + height, rows, sign, A + i, n, A, n, 1.0, H + i * n, n);
    }
  }
};

constexpr Solver by_blas = solver_of<double, BlasMatrices>();

}  // namespace

const Solver& single() { return by_blas; }

}  // namespace banach::qp
