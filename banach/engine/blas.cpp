#include <banach/engine/blas.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <cblas.h>

#include <banach/engine/error.hpp>
#include <banach/engine/memory.hpp>
#include <banach/engine/packed.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>

// LAPACK by its Fortran names. The lengths of character arguments follow the others, as gfortran passes them.
#define BANACH_LAPACK(prefix, T)                                                                            \
  void prefix##getrf_(const blasint* m, const blasint* n, T* a, const blasint* lda, blasint* pivots,        \
                      blasint* info);                                                                       \
  void prefix##getrs_(const char* trans, const blasint* n, const blasint* nrhs, const T* a,                 \
                      const blasint* lda, const blasint* pivots, T* b, const blasint* ldb, blasint* info,   \
                      std::size_t);                                                                         \
  void prefix##gecon_(const char* norm, const blasint* n, const T* a, const blasint* lda, const T* anorm,   \
                      T* rcond, T* work, blasint* iwork, blasint* info, std::size_t);                       \
  void prefix##potrf_(const char* uplo, const blasint* n, T* a, const blasint* lda, blasint* info,          \
                      std::size_t);                                                                         \
  void prefix##potrs_(const char* uplo, const blasint* n, const blasint* nrhs, const T* a,                  \
                      const blasint* lda, T* b, const blasint* ldb, blasint* info, std::size_t);            \
  void prefix##gelsd_(const blasint* m, const blasint* n, const blasint* nrhs, T* a, const blasint* lda,    \
                      T* b, const blasint* ldb, T* s, const T* rcond, blasint* rank, T* work,               \
                      const blasint* lwork, blasint* iwork, blasint* info);                                 \
  void prefix##syevd_(const char* jobz, const char* uplo, const blasint* n, T* a, const blasint* lda, T* w, \
                      T* work, const blasint* lwork, blasint* iwork, const blasint* liwork, blasint* info,  \
                      std::size_t, std::size_t);                                                            \
  void prefix##geev_(const char* jobvl, const char* jobvr, const blasint* n, T* a, const blasint* lda,      \
                     T* wr, T* wi, T* vl, const blasint* ldvl, T* vr, const blasint* ldvr, T* work,         \
                     const blasint* lwork, blasint* info, std::size_t, std::size_t);                        \
  void prefix##gesdd_(const char* jobz, const blasint* m, const blasint* n, T* a, const blasint* lda, T* s, \
                      T* u, const blasint* ldu, T* vt, const blasint* ldvt, T* work, const blasint* lwork,  \
                      blasint* iwork, blasint* info, std::size_t);

extern "C" {
BANACH_LAPACK(s, float)
BANACH_LAPACK(d, double)
}
#undef BANACH_LAPACK

namespace banach::blas {
namespace {

static_assert(sizeof(blasint) >= sizeof(int));

/// One overloaded name per routine.
#define BANACH_OVERLOAD(name)                 \
  template <class... Arguments>               \
  void name(float, Arguments... arguments) {  \
    s##name##_(arguments...);                 \
  }                                           \
  template <class... Arguments>               \
  void name(double, Arguments... arguments) { \
    d##name##_(arguments...);                 \
  }
BANACH_OVERLOAD(getrf)
BANACH_OVERLOAD(getrs)
BANACH_OVERLOAD(gecon)
BANACH_OVERLOAD(potrf)
BANACH_OVERLOAD(potrs)
BANACH_OVERLOAD(gelsd)
BANACH_OVERLOAD(syevd)
BANACH_OVERLOAD(geev)
BANACH_OVERLOAD(gesdd)
#undef BANACH_OVERLOAD

bool single_threaded() {
  openblas_set_num_threads(1);
  return openblas_get_num_threads() == 1;
}

/// Pinned before main, so that no product can run on threads of OpenBLAS; a failure is kept, not thrown,
/// since nobody could catch it here.
const bool pinned_at_start = single_threaded();

blasint narrow(const char* name, const char* what, std::int64_t size) {
  if (size < 0 || size > std::numeric_limits<blasint>::max())
    fail<ValueError>(name, std::string(what) + " must be between 0 and " +
                               std::to_string(std::numeric_limits<blasint>::max()) +
                               ", the largest integer of BLAS: " + std::to_string(size));
  return static_cast<blasint>(size);
}

/// A leading dimension, at least the length of a row (and 1, as BLAS wants it).
blasint leading(const char* name, const char* what, std::int64_t ld, std::int64_t row) {
  if (ld < row)
    fail<ValueError>(name, std::string(what) + " must be at least the length of a row: " +
                               std::to_string(ld) + " for rows of " + std::to_string(row));
  return std::max<blasint>(1, narrow(name, what, ld));
}

/// LAPACK reports a wrong argument as a negative info; that is a mistake of this file, never of the data.
int checked(const char* name, blasint info) {
  if (info < 0) throw Error("[" + std::string(name) + "] LAPACK refused argument " + std::to_string(-info));
  return static_cast<int>(info);
}

template <class T>
bool all_finite(const T* x, std::int64_t n) {
  // NaN as soon as one entry is not finite; eight sums at once, so that additions do not wait for each other
  T zeros[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) zeros[j] += x[i + j] * 0;
  for (; i < n; ++i) zeros[0] += x[i] * 0;
  return std::all_of(zeros, zeros + 8, [](T zero) { return zero == 0; });
}

template <class T>
PoolVector<T> buffer(std::int64_t n) {
  return PoolVector<T>(static_cast<std::size_t>(std::max<std::int64_t>(n, 1)));
}

// ---- Products
// --------------------------------------------------------------------------------------------------

/// m n k up to which a plain loop beats a call, whose fixed cost is about 80 ns (measured at 6 x 6 x 6).
constexpr std::int64_t plain_limit = 256;

template <class T>
void plain_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
                const T* a, std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  const std::int64_t a_row = transpose_a ? 1 : lda, a_column = transpose_a ? lda : 1;
  const std::int64_t b_row = transpose_b ? 1 : ldb, b_column = transpose_b ? ldb : 1;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      T sum = 0;
      for (std::int64_t p = 0; p < k; ++p) sum += a[i * a_row + p * a_column] * b[p * b_row + j * b_column];
      T& entry = c[i * ldc + j];
      entry = beta == 0 ? alpha * sum : alpha * sum + beta * entry;
    }
  }
}

/// True if m n k <= limit, without overflow. Any size 0 counts as small.
bool small_product(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t limit) {
  if (m == 0 || n == 0 || k == 0) return true;
  return m <= limit && n <= limit && k <= limit && m * n <= limit && m * n * k <= limit;
}

void call_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, blasint m, blasint n, blasint k, float alpha,
               const float* a, blasint lda, const float* b, blasint ldb, float beta, float* c, blasint ldc) {
  cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void call_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, blasint m, blasint n, blasint k, double alpha,
               const double* a, blasint lda, const double* b, blasint ldb, double beta, double* c,
               blasint ldc) {
  cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void call_gemv(CBLAS_TRANSPOSE t, blasint m, blasint n, float alpha, const float* a, blasint lda,
               const float* x, blasint incx, float beta, float* y, blasint incy) {
  cblas_sgemv(CblasRowMajor, t, m, n, alpha, a, lda, x, incx, beta, y, incy);
}
void call_gemv(CBLAS_TRANSPOSE t, blasint m, blasint n, double alpha, const double* a, blasint lda,
               const double* x, blasint incx, double beta, double* y, blasint incy) {
  cblas_dgemv(CblasRowMajor, t, m, n, alpha, a, lda, x, incx, beta, y, incy);
}

/// y = alpha op(A) x + beta y with A of m x n, both at least 1, and strides of x and y.
template <class T>
void strided_gemv(bool transpose, blasint m, blasint n, T alpha, const T* a, blasint lda, const T* x,
                  blasint incx, T beta, T* y, blasint incy) {
  if (beta == 0) {
    // Scaling by 0 would keep a NaN.
    for (blasint i = 0; i < (transpose ? n : m); ++i) y[std::int64_t{i} * incy] = 0;
    beta = 1;
  }
  if (!pinned_at_start) ensure_single_threaded();
  call_gemv(transpose ? CblasTrans : CblasNoTrans, m, n, alpha, a, lda, x, incx, beta, y, incy);
}

struct GemmSizes {
  blasint m, n, k, lda, ldb, ldc;
};

GemmSizes gemm_sizes(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                     std::int64_t lda, std::int64_t ldb, std::int64_t ldc) {
  return {narrow("gemm", "m", m),
          narrow("gemm", "n", n),
          narrow("gemm", "k", k),
          leading("gemm", "lda", lda, transpose_a ? m : k),
          leading("gemm", "ldb", ldb, transpose_b ? k : n),
          leading("gemm", "ldc", ldc, n)};
}

/// Whether our kernels beat OpenBLAS, packing included: with AVX-512, by 1.2 to 2 times from these sizes on
/// (bench_gemm). Below, packing costs more than it gains; with AVX2 both are about equal.
template <class T>
bool packing_pays(std::int64_t m, std::int64_t n, T alpha, T beta) {
  constexpr std::int64_t least_rows = 4, least_columns = 8;
  return m >= least_rows && n >= least_columns && alpha == 1 && (beta == 0 || beta == 1) &&
         simd::active() == simd::Isa::avx512;
}

/// C = A B + beta C, beta being 0 or 1.
template <class T>
void multiply(const PackedMatrix<T>& b, bool transpose_a, std::int64_t m, const T* a, std::int64_t lda,
              T beta, T* c, std::int64_t ldc) {
  if (beta == 0)
    b.multiply(m, a, lda, c, ldc, transpose_a);
  else
    b.multiply_add(m, a, lda, c, ldc, c, ldc, transpose_a);
}

template <class T>
void gemm_of(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
             const T* a, std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  const auto [bm, bn, bk, blda, bldb, bldc] = gemm_sizes(transpose_a, transpose_b, m, n, k, lda, ldb, ldc);
  if (small_product(m, n, k, plain_limit))
    return plain_gemm(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  // One row or column of C: OpenBLAS' gemm would pack the matrix that gemv reads once.
  if (m == 1)
    return strided_gemv(!transpose_b, transpose_b ? bn : bk, transpose_b ? bk : bn, alpha, b, bldb, a,
                        transpose_a ? blda : 1, beta, c, 1);
  if (n == 1)
    return strided_gemv(transpose_a, transpose_a ? bk : bm, transpose_a ? bm : bk, alpha, a, blda, b,
                        transpose_b ? 1 : bldb, beta, c, bldc);
  if (packing_pays(m, n, alpha, beta))
    return multiply(PackedMatrix<T>(transpose_b, k, n, b, ldb), transpose_a, m, a, lda, beta, c, ldc);
  if (!pinned_at_start) ensure_single_threaded();
  call_gemm(transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, bm, bn, bk,
            alpha, a, blda, b, bldb, beta, c, bldc);
}

template <class T>
void matmul_of(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
               const T* a, std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  // A block is worth a task from about 2^20 multiplications on. With OpenBLAS, each block packs the other
  // factor again, so no more than 16 blocks, and at least 64 rows each; all of it decided by the sizes, so
  // that the bits are too.
  constexpr std::int64_t work = std::int64_t{1} << 20, most_blocks = 16, least = 64;
  if (small_product(m, n, k, 2 * work))
    return gemm_of(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  const bool by_rows = m >= n;
  const std::int64_t cut = by_rows ? m : n, other = by_rows ? n : m;
  // ceil(work / (other * k)), without overflow
  const std::int64_t for_work = other >= work || k >= work ? 1 : (work + other * k - 1) / (other * k);
  std::int64_t block = std::max({least, for_work, (cut + most_blocks - 1) / most_blocks});
  block = (block + 15) / 16 * 16;
  if (by_rows && packing_pays(m, n, alpha, beta)) {
    gemm_sizes(transpose_a, transpose_b, m, n, k, lda, ldb, ldc);
    const PackedMatrix<T> packed(transpose_b, k, n, b, ldb);  // once for all blocks
    return parallel_for(m, block, [&](std::int64_t begin, std::int64_t end) {
      multiply(packed, transpose_a, end - begin, a + (transpose_a ? begin : begin * lda), lda, beta,
               c + begin * ldc, ldc);
    });
  }
  parallel_for(cut, block, [&](std::int64_t begin, std::int64_t end) {
    if (by_rows) {
      gemm_of(transpose_a, transpose_b, end - begin, n, k, alpha, a + (transpose_a ? begin : begin * lda),
              lda, b, ldb, beta, c + begin * ldc, ldc);
    } else {
      gemm_of(transpose_a, transpose_b, m, end - begin, k, alpha, a, lda,
              b + (transpose_b ? begin * ldb : begin), ldb, beta, c + begin, ldc);
    }
  });
}

template <class T>
void gemv_of(bool transpose, std::int64_t m, std::int64_t n, T alpha, const T* a, std::int64_t lda,
             const T* x, T beta, T* y) {
  const auto bm = narrow("gemv", "m", m), bn = narrow("gemv", "n", n);
  const auto blda = leading("gemv", "lda", lda, n);
  if (m == 0 || n == 0) {
    for (std::int64_t i = 0; i < (transpose ? n : m); ++i) y[i] = beta == 0 ? 0 : beta * y[i];
    return;
  }
  strided_gemv(transpose, bm, bn, alpha, a, blda, x, 1, beta, y, 1);
}

// ---- Factorisations: LAPACK sees the row-major A as A^T
// ---------------------------------------------------------

template <class T>
int lu_factor_of(std::int64_t n, T* a, int* pivots) {
  const blasint size = narrow("lu_factor", "n", n);
  if (n == 0) return 0;
  if (!all_finite(a, n * n)) return non_finite;
  static_assert(sizeof(blasint) == sizeof(int), "pivots are int: link the 32-bit integer build of OpenBLAS");
  blasint info = 0;
  getrf(T(), &size, &size, a, &size, pivots, &info);
  return checked("lu_factor", info);
}

template <class T>
void lu_solve_of(bool transposed, std::int64_t n, std::int64_t nrhs, const T* lu, const int* pivots, T* b) {
  const blasint size = narrow("lu_solve", "n", n), columns = narrow("lu_solve", "nrhs", nrhs);
  if (n == 0 || nrhs == 0) return;
  blasint info = 0;
  // The factor is that of A^T, so A X = B is the transposed system.
  getrs(T(), transposed ? "N" : "T", &size, &columns, lu, &size, pivots, b, &size, &info, std::size_t{1});
  checked("lu_solve", info);
}

template <class T>
T lu_rcond_of(std::int64_t n, const T* lu, T norm1) {
  const blasint size = narrow("lu_rcond", "n", n);
  if (n == 0) return 1;
  if (std::isnan(norm1)) return norm1;
  if (std::isinf(norm1)) return 0;
  auto work = buffer<T>(4 * n);
  auto iwork = buffer<blasint>(n);
  T rcond = 0;
  blasint info = 0;
  // The 1-norm of A is the infinity-norm of A^T.
  gecon(T(), "I", &size, lu, &size, &norm1, &rcond, work.data(), iwork.data(), &info, std::size_t{1});
  checked("lu_rcond", info);
  return rcond;
}

template <class T>
T norm_1_of(std::int64_t n, const T* a) {
  auto sums = buffer<T>(n);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) sums[static_cast<std::size_t>(j)] += std::abs(a[i * n + j]);
  T largest = 0;
  for (const T sum : sums)
    if (std::isnan(sum) || sum > largest) largest = sum;  // a NaN stays: nothing is larger
  return largest;
}

void call_trsm(CBLAS_UPLO uplo, CBLAS_TRANSPOSE t, CBLAS_DIAG diagonal, blasint n, blasint nrhs,
               const float* a, float* b) {
  cblas_strsm(CblasRowMajor, CblasLeft, uplo, t, diagonal, n, nrhs, 1.0f, a, n, b, nrhs);
}
void call_trsm(CBLAS_UPLO uplo, CBLAS_TRANSPOSE t, CBLAS_DIAG diagonal, blasint n, blasint nrhs,
               const double* a, double* b) {
  cblas_dtrsm(CblasRowMajor, CblasLeft, uplo, t, diagonal, n, nrhs, 1.0, a, n, b, nrhs);
}

template <class T>
void plain_substitution(bool upper, bool transposed, bool unit_diagonal, std::int64_t n, std::int64_t nrhs,
                        const T* a, T* b) {
  const bool forward = upper == transposed;
  const std::int64_t row = transposed ? 1 : n, column = transposed ? n : 1;
  for (std::int64_t step = 0; step < n; ++step) {
    const std::int64_t i = forward ? step : n - 1 - step;
    for (std::int64_t r = 0; r < nrhs; ++r) {
      T sum = b[i * nrhs + r];
      for (std::int64_t j = forward ? 0 : i + 1; j < (forward ? i : n); ++j)
        sum -= a[i * row + j * column] * b[j * nrhs + r];
      b[i * nrhs + r] = unit_diagonal ? sum : sum / a[i * (n + 1)];
    }
  }
}

template <class T>
void triangular_solve_of(bool upper, bool transposed, bool unit_diagonal, std::int64_t n, std::int64_t nrhs,
                         const T* a, T* b) {
  const blasint size = narrow("triangular_solve", "n", n), columns = narrow("triangular_solve", "nrhs", nrhs);
  if (n == 0 || nrhs == 0) return;
  if (small_product(n, n, nrhs, plain_limit))
    return plain_substitution(upper, transposed, unit_diagonal, n, nrhs, a, b);
  if (!pinned_at_start) ensure_single_threaded();
  call_trsm(upper ? CblasUpper : CblasLower, transposed ? CblasTrans : CblasNoTrans,
            unit_diagonal ? CblasUnit : CblasNonUnit, size, columns, a, b);
}

template <class T>
int cholesky_factor_of(std::int64_t n, T* a) {
  const blasint size = narrow("cholesky_factor", "n", n);
  if (n == 0) return 0;
  for (std::int64_t i = 0; i < n; ++i)
    if (!all_finite(a + i * n, i + 1)) return non_finite;
  blasint info = 0;
  // The lower triangle by rows is the upper triangle by columns: A = U^T U with U = L^T.
  potrf(T(), "U", &size, a, &size, &info, std::size_t{1});
  for (std::int64_t i = 0; i < n; ++i) std::fill(a + i * n + i + 1, a + (i + 1) * n, T(0));
  return checked("cholesky_factor", info);
}

template <class T>
void cholesky_solve_of(std::int64_t n, std::int64_t nrhs, const T* l, T* b) {
  const blasint size = narrow("cholesky_solve", "n", n), columns = narrow("cholesky_solve", "nrhs", nrhs);
  if (n == 0 || nrhs == 0) return;
  blasint info = 0;
  potrs(T(), "U", &size, &columns, l, &size, b, &size, &info, std::size_t{1});
  checked("cholesky_solve", info);
}

// ---- Orthogonal methods
// ----------------------------------------------------------------------------------------

template <class T>
LeastSquares least_squares_of(std::int64_t m, std::int64_t n, std::int64_t nrhs, const T* a, const T* b, T* x,
                              T rcond) {
  const char* name = "least_squares";
  const blasint rows = narrow(name, "m", m), columns = narrow(name, "n", n),
                count = narrow(name, "nrhs", nrhs);
  std::fill(x, x + n * nrhs, T(0));
  if (m == 0 || n == 0 || nrhs == 0) return {};
  if (!all_finite(a, m * n) || !all_finite(b, m * nrhs)) return {.info = non_finite};
  auto by_columns = buffer<T>(m * n);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) by_columns[static_cast<std::size_t>(j * m + i)] = a[i * n + j];
  const blasint ldb = std::max(rows, columns);
  auto right = buffer<T>(std::int64_t{ldb} * nrhs);
  for (std::int64_t r = 0; r < nrhs; ++r) std::copy(b + r * m, b + (r + 1) * m, right.data() + r * ldb);
  auto values = buffer<T>(std::min(m, n));
  blasint rank = 0, info = 0, lwork = -1, liwork = 0;
  T work_size = 0;
  gelsd(T(), &rows, &columns, &count, by_columns.data(), &rows, right.data(), &ldb, values.data(), &rcond,
        &rank, &work_size, &lwork, &liwork, &info);
  checked(name, info);
  lwork = static_cast<blasint>(work_size);
  auto work = buffer<T>(lwork);
  auto iwork = buffer<blasint>(liwork);
  gelsd(T(), &rows, &columns, &count, by_columns.data(), &rows, right.data(), &ldb, values.data(), &rcond,
        &rank, work.data(), &lwork, iwork.data(), &info);
  for (std::int64_t r = 0; r < nrhs; ++r) std::copy_n(right.data() + r * ldb, n, x + r * n);
  return {.info = checked(name, info), .rank = rank};
}

template <class T>
int symmetric_eigen_of(std::int64_t n, T* a, T* values, bool vectors) {
  const blasint size = narrow("symmetric_eigen", "n", n);
  if (n == 0) return 0;
  for (std::int64_t i = 0; i < n; ++i)
    if (!all_finite(a + i * n, i + 1)) return non_finite;
  const char* job = vectors ? "V" : "N";
  blasint info = 0, lwork = -1, liwork = -1, iwork_size = 0;
  T work_size = 0;
  syevd(T(), job, "U", &size, a, &size, values, &work_size, &lwork, &iwork_size, &liwork, &info,
        std::size_t{1}, std::size_t{1});
  checked("symmetric_eigen", info);
  lwork = static_cast<blasint>(work_size);
  liwork = iwork_size;
  auto work = buffer<T>(lwork);
  auto iwork = buffer<blasint>(liwork);
  // Eigenvectors come as columns, that is as rows of the row-major array.
  syevd(T(), job, "U", &size, a, &size, values, work.data(), &lwork, iwork.data(), &liwork, &info,
        std::size_t{1}, std::size_t{1});
  return checked("symmetric_eigen", info);
}

/// vectors null: eigenvalues only.
template <class T>
int eigen_of(const char* name, std::int64_t n, T* a, std::complex<T>* values, std::complex<T>* vectors) {
  const blasint size = narrow(name, "n", n), one = 1;
  if (n == 0) return 0;
  if (!all_finite(a, n * n)) return non_finite;
  auto real = buffer<T>(n), imaginary = buffer<T>(n), left = buffer<T>(vectors ? n * n : 1);
  T* none = nullptr;
  const char* job = vectors ? "V" : "N";
  blasint info = 0, lwork = -1;
  T work_size = 0;
  // A^T has the eigenvalues of A, and the conjugates of its left eigenvectors are the right ones of A.
  geev(T(), job, "N", &size, a, &size, real.data(), imaginary.data(), left.data(), &size, none, &one,
       &work_size, &lwork, &info, std::size_t{1}, std::size_t{1});
  checked(name, info);
  lwork = static_cast<blasint>(work_size);
  auto work = buffer<T>(lwork);
  geev(T(), job, "N", &size, a, &size, real.data(), imaginary.data(), left.data(), &size, none, &one,
       work.data(), &lwork, &info, std::size_t{1}, std::size_t{1});
  const auto count = static_cast<std::size_t>(n);
  for (std::size_t i = 0; i < count; ++i) values[i] = {real[i], imaginary[i]};
  for (std::size_t i = 0; vectors && i < count; ++i) {
    // A conjugate pair takes two real vectors: u = first + i second for the value with imaginary part > 0.
    const bool first = imaginary[i] > 0, second = imaginary[i] < 0;
    const T *re = left.data() + (second ? i - 1 : i) * count, *im = left.data() + (first ? i + 1 : i) * count;
    for (std::size_t j = 0; j < count; ++j)
      vectors[i * count + j] = {re[j], first ? -im[j] : second ? im[j] : T(0)};
  }
  return checked(name, info);
}

/// u and vt null: singular values only.
template <class T>
int svd_of(const char* name, std::int64_t m, std::int64_t n, T* a, T* u, T* values, T* vt) {
  const blasint rows = narrow(name, "m", m), columns = narrow(name, "n", n);
  if (m == 0 || n == 0) return 0;
  if (!all_finite(a, m * n)) return non_finite;
  const blasint rank = std::min(rows, columns);
  const char* job = u != nullptr ? "S" : "N";
  auto iwork = buffer<blasint>(8 * std::int64_t{rank});
  blasint info = 0, lwork = -1;
  T work_size = 0;
  // LAPACK gets A^T = V diag(s) U^T, n x m by columns: its U is V, which by rows reads V^T, and its V^T is
  // U^T, which by rows reads U.
  const blasint ld_left = columns, ld_right = rank;
  gesdd(T(), job, &columns, &rows, a, &columns, values, vt, &ld_left, u, &ld_right, &work_size, &lwork,
        iwork.data(), &info, std::size_t{1});
  checked(name, info);
  lwork = static_cast<blasint>(work_size);
  auto work = buffer<T>(lwork);
  gesdd(T(), job, &columns, &rows, a, &columns, values, vt, &ld_left, u, &ld_right, work.data(), &lwork,
        iwork.data(), &info, std::size_t{1});
  return checked(name, info);
}

}  // namespace

void ensure_single_threaded() {
  if (!single_threaded())
    throw std::runtime_error("[blas] OpenBLAS must run on one thread: it reports " +
                             std::to_string(openblas_get_num_threads()) +
                             " (is it an OpenMP build? set OMP_NUM_THREADS=1)");
}

void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc) {
  gemm_of(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
          const double* a, std::int64_t lda, const double* b, std::int64_t ldb, double beta, double* c,
          std::int64_t ldc) {
  gemm_of(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void matmul(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
            const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
            std::int64_t ldc) {
  matmul_of(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void matmul(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
            const double* a, std::int64_t lda, const double* b, std::int64_t ldb, double beta, double* c,
            std::int64_t ldc) {
  matmul_of(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void gemv(bool transpose, std::int64_t m, std::int64_t n, float alpha, const float* a, std::int64_t lda,
          const float* x, float beta, float* y) {
  gemv_of(transpose, m, n, alpha, a, lda, x, beta, y);
}
void gemv(bool transpose, std::int64_t m, std::int64_t n, double alpha, const double* a, std::int64_t lda,
          const double* x, double beta, double* y) {
  gemv_of(transpose, m, n, alpha, a, lda, x, beta, y);
}
int lu_factor(std::int64_t n, float* a, int* pivots) { return lu_factor_of(n, a, pivots); }
int lu_factor(std::int64_t n, double* a, int* pivots) { return lu_factor_of(n, a, pivots); }
void lu_solve(bool transposed, std::int64_t n, std::int64_t nrhs, const float* lu, const int* pivots,
              float* b) {
  lu_solve_of(transposed, n, nrhs, lu, pivots, b);
}
void lu_solve(bool transposed, std::int64_t n, std::int64_t nrhs, const double* lu, const int* pivots,
              double* b) {
  lu_solve_of(transposed, n, nrhs, lu, pivots, b);
}
float lu_rcond(std::int64_t n, const float* lu, float norm1) { return lu_rcond_of(n, lu, norm1); }
double lu_rcond(std::int64_t n, const double* lu, double norm1) { return lu_rcond_of(n, lu, norm1); }
float norm_1(std::int64_t n, const float* a) { return norm_1_of(n, a); }
double norm_1(std::int64_t n, const double* a) { return norm_1_of(n, a); }
void triangular_solve(bool upper, bool transposed, bool unit_diagonal, std::int64_t n, std::int64_t nrhs,
                      const float* a, float* b) {
  triangular_solve_of(upper, transposed, unit_diagonal, n, nrhs, a, b);
}
void triangular_solve(bool upper, bool transposed, bool unit_diagonal, std::int64_t n, std::int64_t nrhs,
                      const double* a, double* b) {
  triangular_solve_of(upper, transposed, unit_diagonal, n, nrhs, a, b);
}
int cholesky_factor(std::int64_t n, float* a) { return cholesky_factor_of(n, a); }
int cholesky_factor(std::int64_t n, double* a) { return cholesky_factor_of(n, a); }
void cholesky_solve(std::int64_t n, std::int64_t nrhs, const float* l, float* b) {
  cholesky_solve_of(n, nrhs, l, b);
}
void cholesky_solve(std::int64_t n, std::int64_t nrhs, const double* l, double* b) {
  cholesky_solve_of(n, nrhs, l, b);
}
LeastSquares least_squares(std::int64_t m, std::int64_t n, std::int64_t nrhs, const float* a, const float* b,
                           float* x, float rcond) {
  return least_squares_of(m, n, nrhs, a, b, x, rcond);
}
LeastSquares least_squares(std::int64_t m, std::int64_t n, std::int64_t nrhs, const double* a,
                           const double* b, double* x, double rcond) {
  return least_squares_of(m, n, nrhs, a, b, x, rcond);
}
int symmetric_eigen(std::int64_t n, float* a, float* values, bool vectors) {
  return symmetric_eigen_of(n, a, values, vectors);
}
int symmetric_eigen(std::int64_t n, double* a, double* values, bool vectors) {
  return symmetric_eigen_of(n, a, values, vectors);
}
int eigenvalues(std::int64_t n, float* a, std::complex<float>* values) {
  return eigen_of<float>("eigenvalues", n, a, values, nullptr);
}
int eigenvalues(std::int64_t n, double* a, std::complex<double>* values) {
  return eigen_of<double>("eigenvalues", n, a, values, nullptr);
}
int eigenvectors(std::int64_t n, float* a, std::complex<float>* values, std::complex<float>* vectors) {
  return eigen_of("eigenvectors", n, a, values, vectors);
}
int eigenvectors(std::int64_t n, double* a, std::complex<double>* values, std::complex<double>* vectors) {
  return eigen_of("eigenvectors", n, a, values, vectors);
}
int singular_values(std::int64_t m, std::int64_t n, float* a, float* values) {
  return svd_of<float>("singular_values", m, n, a, nullptr, values, nullptr);
}
int singular_values(std::int64_t m, std::int64_t n, double* a, double* values) {
  return svd_of<double>("singular_values", m, n, a, nullptr, values, nullptr);
}
int svd(std::int64_t m, std::int64_t n, float* a, float* u, float* values, float* vt) {
  return svd_of("svd", m, n, a, u, values, vt);
}
int svd(std::int64_t m, std::int64_t n, double* a, double* u, double* values, double* vt) {
  return svd_of("svd", m, n, a, u, values, vt);
}

}  // namespace banach::blas
