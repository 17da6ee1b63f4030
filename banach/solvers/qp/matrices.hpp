#pragma once
// Internal: matrix kernels of the interior point on row-major matrices of N, for sizes at which everything
// stays in cache. Blocks of four by four sums live in registers.

#include <banach/solvers/qp/numbers.hpp>

namespace banach::qp {
namespace {

template <class N>
struct Matrices {
  /// y -= A x, A (m x n)
  static void subtract(Index m, Index n, const N* A, const N* x, N* y) {
    Index i = 0;
    for (; i + 4 <= m; i += 4) {
      const N *a0 = A + i * n, *a1 = a0 + n, *a2 = a1 + n, *a3 = a2 + n;
      N y0 = y[i], y1 = y[i + 1], y2 = y[i + 2], y3 = y[i + 3];
      for (Index j = 0; j < n; ++j)
        y0 -= a0[j] * x[j], y1 -= a1[j] * x[j], y2 -= a2[j] * x[j], y3 -= a3[j] * x[j];
      y[i] = y0, y[i + 1] = y1, y[i + 2] = y2, y[i + 3] = y3;
    }
    for (; i < m; ++i)
      for (Index j = 0; j < n; ++j) y[i] -= A[i * n + j] * x[j];
  }

  /// y -= A' x
  static void subtract_transposed(Index m, Index n, const N* A, const N* x, N* y) {
    Index i = 0;
    for (; i + 4 <= m; i += 4) {
      const N *a0 = A + i * n, *a1 = a0 + n, *a2 = a1 + n, *a3 = a2 + n;
      const N x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3];
      for (Index j = 0; j < n; ++j) y[j] -= (a0[j] * x0 + a1[j] * x1) + (a2[j] * x2 + a3[j] * x3);
    }
    for (; i < m; ++i)
      for (Index j = 0; j < n; ++j) y[j] -= A[i * n + j] * x[i];
  }
  static void add_transposed(Index m, Index n, const N* A, const N* x, N* y) {
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j) y[j] += A[i * n + j] * x[i];
  }

  /// The lower triangle of H += A' diag(w) A, A (m x n); a null w stands for ones.
  static void add_gram(Index n, Index m, const N* A, const N* w, N* H) {
    const N one = number<N>(1.0);
    Index i = 0;
    for (; i + 4 <= n; i += 4) {
      Index j = 0;
      for (; j + 4 <= i + 4; j += 4) {
        N sums[4][4];
        for (int r = 0; r < 4; ++r)
          for (int c = 0; c < 4; ++c) sums[r][c] = H[(i + r) * n + j + c];
        for (Index k = 0; k < m; ++k) {
          const N *a = A + k * n + i, *b = A + k * n + j;
          const N v = w ? w[k] : one;
          const N b0 = b[0], b1 = b[1], b2 = b[2], b3 = b[3];
          for (int r = 0; r < 4; ++r) {
            const N left = v * a[r];
            sums[r][0] += left * b0, sums[r][1] += left * b1, sums[r][2] += left * b2,
                sums[r][3] += left * b3;
          }
        }
        for (int r = 0; r < 4; ++r)
          for (int c = 0; c < 4; ++c) H[(i + r) * n + j + c] = sums[r][c];
      }
    }
    for (; i < n; ++i)
      for (Index j = 0; j <= i; ++j) {
        N sum = H[i * n + j];
        for (Index k = 0; k < m; ++k) sum += (w ? w[k] : one) * A[k * n + i] * A[k * n + j];
        H[i * n + j] = sum;
      }
  }

  /// H = L L' in place, lower triangles only, with the inverse of each diagonal entry in its place. False
  /// where a pivot is not positive (it is taken for 1 then).
  static Mask<N> cholesky(Index n, N* L) {
    const N one = number<N>(1.0), zero = number<N>(0.0);
    Mask<N> good = one == one;
    for (Index j = 0; j < n; j += 4) {
      const Index width = n - j < 4 ? n - j : 4;
      // Columns j to j + width, less what the columns before them contribute.
      for (Index i = j; i < n; i += 4) {
        const Index height = n - i < 4 ? n - i : 4;
        if (width == 4 && height == 4) {
          N sums[4][4];
          for (int r = 0; r < 4; ++r)
            for (int c = 0; c < 4; ++c) sums[r][c] = L[(i + r) * n + j + c];
          for (Index k = 0; k < j; ++k) {
            const N *a = L + i * n + k, *b = L + j * n + k;
            const N b0 = b[0], b1 = b[n], b2 = b[2 * n], b3 = b[3 * n];
            for (int r = 0; r < 4; ++r) {
              const N left = a[r * n];
              sums[r][0] -= left * b0, sums[r][1] -= left * b1, sums[r][2] -= left * b2,
                  sums[r][3] -= left * b3;
            }
          }
          for (int r = 0; r < 4; ++r)
            for (int c = 0; c < 4; ++c) L[(i + r) * n + j + c] = sums[r][c];
        } else {
          for (Index r = i; r < i + height; ++r)
            for (Index c = j; c < j + width; ++c) {
              N sum = L[r * n + c];
              for (Index k = 0; k < j; ++k) sum -= L[r * n + k] * L[c * n + k];
              L[r * n + c] = sum;
            }
        }
      }
      for (Index c = j; c < j + width; ++c) {
        const Mask<N> fine = L[c * n + c] > zero;
        good = good & fine;
        const N inverse = one / square_root(select(fine, L[c * n + c], one));
        L[c * n + c] = inverse;
        for (Index r = c + 1; r < n; ++r) L[r * n + c] *= inverse;
        for (Index r = c + 1; r < n; ++r)
          for (Index q = c + 1; q < j + width && q <= r; ++q) L[r * n + q] -= L[r * n + c] * L[q * n + c];
      }
    }
    return good;
  }

  /// B = L^-1 B, B (n x k)
  static void lower_solve(Index n, Index k, const N* L, N* B) {
    for (Index i = 0; i < n; ++i) {
      Index j = 0;
      for (; j + 4 <= i; j += 4) {
        const N l0 = L[i * n + j], l1 = L[i * n + j + 1], l2 = L[i * n + j + 2], l3 = L[i * n + j + 3];
        const N* b = B + j * k;
        for (Index c = 0; c < k; ++c)
          B[i * k + c] -= (l0 * b[c] + l1 * b[k + c]) + (l2 * b[2 * k + c] + l3 * b[3 * k + c]);
      }
      for (; j < i; ++j)
        for (Index c = 0; c < k; ++c) B[i * k + c] -= L[i * n + j] * B[j * k + c];
      for (Index c = 0; c < k; ++c) B[i * k + c] *= L[i * n + i];
    }
  }

  /// x = L^-T x
  static void upper_solve(Index n, const N* L, N* x) {
    for (Index i = n - 1; i >= 0; --i) {
      x[i] *= L[i * n + i];
      const N value = x[i];
      for (Index j = 0; j < i; ++j) x[j] -= L[i * n + j] * value;
    }
  }

  /// B = A', A (m x n)
  static void transpose(Index m, Index n, const N* A, N* B) {
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j) B[j * m + i] = A[i * n + j];
  }
};

}  // namespace
}  // namespace banach::qp
