#pragma once

#include <complex>
#include <cstdint>

/// Dense linear algebra on raw row-major arrays: the one door to CBLAS and LAPACK, always on one BLAS thread.
///
/// `lda` is the distance between the starts of consecutive rows. Sizes are checked against the 32-bit
/// integers of the library; a size too large, or a leading dimension too small, throws ValueError. Functions
/// that return `info` follow LAPACK: 0 is success, a positive value is a numerical failure described at the
/// function. They also return `non_finite`, leaving everything as it was, for a matrix with a NaN or
/// infinity, on which LAPACK may misbehave. Arrays of different arguments must not overlap.
namespace banach::blas {

/// The info of a factorisation whose input holds a NaN or an infinity.
inline constexpr int non_finite = -1;

/// Sets OpenBLAS to one thread and checks that it obeyed; throws std::runtime_error if not. Runs once at
/// start too (a failure then is reported by the first product), since parallelism is ours.
void ensure_single_threaded();

/// C = alpha op(A) op(B) + beta C, with op(A) of m x k (A itself is k x m if transpose_a) and op(B) of k x n.
/// With beta = 0, C is not read. Products of a few hundred multiplications run a plain loop, larger ones
/// the faster of OpenBLAS and our own kernels (packed.hpp).
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc);
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
          const double* a, std::int64_t lda, const double* b, std::int64_t ldb, double beta, double* c,
          std::int64_t ldc);

/// As gemm, cut into blocks of rows or columns of C that depend on the sizes alone and run by parallel_for.
void matmul(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
            const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
            std::int64_t ldc);
void matmul(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
            const double* a, std::int64_t lda, const double* b, std::int64_t ldb, double beta, double* c,
            std::int64_t ldc);

/// y = alpha op(A) x + beta y with A of m x n, row-major (x has n entries, y has m; swapped if transpose).
/// With beta = 0, y is not read.
void gemv(bool transpose, std::int64_t m, std::int64_t n, float alpha, const float* a, std::int64_t lda,
          const float* x, float beta, float* y);
void gemv(bool transpose, std::int64_t m, std::int64_t n, double alpha, const double* a, std::int64_t lda,
          const double* x, double beta, double* y);

/// LU with partial pivoting of the row-major n x n matrix a, in place (getrf on A^T). The factor is only
/// meaningful to lu_solve and lu_rcond. info > 0: the info-th pivot is exactly zero, A is singular. `pivots`
/// has n entries.
int lu_factor(std::int64_t n, float* a, int* pivots);
int lu_factor(std::int64_t n, double* a, int* pivots);

/// Solves A X = B (or A^T X = B if transposed) in place, with the factor of lu_factor. b holds nrhs
/// right-hand sides one after another, n entries each: row-major (nrhs, n), that is B^T.
void lu_solve(bool transposed, std::int64_t n, std::int64_t nrhs, const float* lu, const int* pivots,
              float* b);
void lu_solve(bool transposed, std::int64_t n, std::int64_t nrhs, const double* lu, const int* pivots,
              double* b);

/// Estimated reciprocal condition number of A in the 1-norm, 0 (singular) to 1, from the factor of lu_factor
/// and norm1 = norm_1(n, A) taken before factoring.
float lu_rcond(std::int64_t n, const float* lu, float norm1);
double lu_rcond(std::int64_t n, const double* lu, double norm1);

/// The 1-norm (largest column sum of magnitudes) of a row-major n x n matrix; NaN if it holds one.
float norm_1(std::int64_t n, const float* a);
double norm_1(std::int64_t n, const double* a);

/// Solves op(A) X = B in place by substitution, reading one triangle of the row-major n x n matrix a only
/// (without its diagonal, taken for ones, if unit_diagonal); b is row-major n x nrhs. A zero on the diagonal
/// gives infinities and NaN.
void triangular_solve(bool upper, bool transposed, bool unit_diagonal, std::int64_t n, std::int64_t nrhs,
                      const float* a, float* b);
void triangular_solve(bool upper, bool transposed, bool unit_diagonal, std::int64_t n, std::int64_t nrhs,
                      const double* a, double* b);

/// A = L L^T of a symmetric positive definite matrix, in place: L in the lower triangle of the row-major a,
/// zeros above. Only the lower triangle is read. info = i > 0: the leading minor of order i is not positive;
/// a is spoilt.
int cholesky_factor(std::int64_t n, float* a);
int cholesky_factor(std::int64_t n, double* a);

/// Solves L L^T X = B in place; b holds nrhs right-hand sides one after another, n entries each, as in
/// lu_solve.
void cholesky_solve(std::int64_t n, std::int64_t nrhs, const float* l, float* b);
void cholesky_solve(std::int64_t n, std::int64_t nrhs, const double* l, double* b);

/// What a least-squares solve found.
struct LeastSquares {
  int info = 0;           ///< > 0: the singular values did not converge
  std::int64_t rank = 0;  ///< number of singular values above rcond times the largest
};

/// Minimum-norm solution of min ||A x - b|| for a row-major m x n matrix of any rank (gelsd). a and b are
/// read only; b holds nrhs vectors of m entries one after another; x receives nrhs vectors of n entries.
/// Singular values below rcond * largest count as zero (rcond < 0: the machine epsilon).
LeastSquares least_squares(std::int64_t m, std::int64_t n, std::int64_t nrhs, const float* a, const float* b,
                           float* x, float rcond = -1.0f);
LeastSquares least_squares(std::int64_t m, std::int64_t n, std::int64_t nrhs, const double* a,
                           const double* b, double* x, double rcond = -1.0);

/// Eigenvalues, ascending, of the symmetric matrix a (lower triangle read; a is overwritten). With `vectors`,
/// row i of a becomes the unit eigenvector of values[i]. info > 0: no convergence.
int symmetric_eigen(std::int64_t n, float* a, float* values, bool vectors);
int symmetric_eigen(std::int64_t n, double* a, double* values, bool vectors);

/// Eigenvalues of a general real matrix, in LAPACK's order (conjugate pairs adjacent); a is overwritten.
/// info > 0: the QR algorithm did not converge.
int eigenvalues(std::int64_t n, float* a, std::complex<float>* values);
int eigenvalues(std::int64_t n, double* a, std::complex<double>* values);

/// The same with vectors: row i of the row-major n x n `vectors` becomes a unit right eigenvector of
/// values[i].
int eigenvectors(std::int64_t n, float* a, std::complex<float>* values, std::complex<float>* vectors);
int eigenvectors(std::int64_t n, double* a, std::complex<double>* values, std::complex<double>* vectors);

/// Singular values, descending, min(m, n) of them, of a row-major m x n matrix, which is overwritten.
/// info > 0: no convergence.
int singular_values(std::int64_t m, std::int64_t n, float* a, float* values);
int singular_values(std::int64_t m, std::int64_t n, double* a, double* values);

/// Thin singular value decomposition A = U diag(values) V^T with r = min(m, n): u is row-major m x r, vt is
/// row-major r x n; a is overwritten. info > 0: no convergence.
int svd(std::int64_t m, std::int64_t n, float* a, float* u, float* values, float* vt);
int svd(std::int64_t m, std::int64_t n, double* a, double* u, double* values, double* vt);

}  // namespace banach::blas
