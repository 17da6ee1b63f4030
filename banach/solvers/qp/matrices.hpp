#pragma once
// Internal: matrix kernels of the interior point on row-major matrices of N, for sizes at which everything
// stays in cache. Blocks of four by four sums live in registers.

#include <banach/solvers/qp/numbers.hpp>

#include <algorithm>

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

  /// y -= A x, z = -w y, v -= A' z, in one pass.
  static void subtract_both(Index m, Index n, const N* A, const N* w, const N* x, N* y, N* z, N* v) {
    for (Index i = 0; i < m; i += 4) {
      const Index rows = std::min<Index>(4, m - i);
      subtract(rows, n, A + i * n, x, y + i);
      for (Index r = i; r < i + rows; ++r) z[r] = -w[r] * y[r];
      subtract_transposed(rows, n, A + i * n, z + i, v);
    }
  }

  /// The lower triangle of H += A' diag(w) A, A (m x n); a null w stands for ones.
  static void add_gram(Index n, Index m, const N* A, const N* w, N* H) {
    if (w)
      gram(n, m, A, H, [&](Index k, N a) { return w[k] * a; });
    else
      gram(n, m, A, H, [](Index, N a) { return a; });
  }
  /// The lower triangle of H -= A'A
  static void subtract_gram(Index n, Index m, const N* A, N* H) {
    gram(n, m, A, H, [](Index, N a) { return -a; });
  }

  /// H = L L' in place, lower triangles only, with the inverse of each diagonal entry in its place. False
  /// where a pivot is not positive (it is taken for 1 then).
  static Mask<N> cholesky(Index n, N* L) {
    Mask<N> good = number<N>(0.0) == number<N>(0.0);
    for (Index first = 0; first < n; first += panel) {
      const Index end = std::min(n, first + panel);
      if (first > 0) subtract_product(n, first, end, L);
      for (Index j = first; j < end; j += 4)
        sized(n - j, [&](auto width) {
          constexpr int W = decltype(width)::value;
          N corner[W][W];
          load(L + j * n + j, n, corner);
          subtract_rows(j - first, L + j * n + first, L + j * n + first, n, corner);
          good = good & factor(corner);
          store(corner, L + j * n + j, n);
          for (Index i = j + W; i < n; i += 4)
            sized(n - i, [&](auto height) {
              N block[decltype(height)::value][W];
              load(L + i * n + j, n, block);
              subtract_rows(j - first, L + i * n + first, L + j * n + first, n, block);
              for (auto& row : block)
                for (int c = 0; c < W; ++c) {
                  for (int k = 0; k < c; ++k) row[c] -= row[k] * corner[c][k];
                  row[c] *= corner[c][c];
                }
              store(block, L + i * n + j, n);
            });
        });
    }
    return good;
  }

  /// B = L^-1 B, B (n x k). Zeros before the first entry of rows of L are skipped, as a diagonal Q leaves
  /// them.
  static void lower_solve(Index n, Index k, const N* L, N* B) {
    for (Index left = 0; left < k; left += panel)
      for (Index top = 0; top < n; top += panel)
        for (Index i = top; i < n; i += 4) {
          const Index end = std::min(i, top + panel), height = std::min<Index>(4, n - i),
                      first = first_entry(L + i * n, n, height, top, end);
          const bool last = i < top + panel;
          if (first == end && !last) continue;
          for (Index c = left; c < std::min(k, left + panel); c += 4)
            sized(height, [&](auto rows) {
              sized(k - c, [&](auto columns) {
                constexpr int H = decltype(rows)::value, W = decltype(columns)::value;
                N block[H][W];
                load(B + i * k + c, k, block);
                for (Index j = first; j < end; ++j) {
                  const N *l = L + i * n + j, *b = B + j * k + c;
                  for (int r = 0; r < H; ++r)
                    for (int q = 0; q < W; ++q) block[r][q] -= l[r * n] * b[q];
                }
                for (int r = 0; r < H && last; ++r)
                  for (int q = 0; q < W; ++q) {
                    for (int j = 0; j < r; ++j) block[r][q] -= L[(i + r) * n + i + j] * block[j][q];
                    block[r][q] *= L[(i + r) * (n + 1)];
                  }
                store(block, B + i * k + c, k);
              });
            });
        }
  }

  /// x = L^-T x
  static void upper_solve(Index n, const N* L, N* x) {
    Index i = n;
    for (; i >= 4; i -= 4) {
      const N *l0 = L + (i - 4) * n, *l1 = l0 + n, *l2 = l1 + n, *l3 = l2 + n;
      N* y = x + i - 4;
      y[3] *= l3[i - 1];
      y[2] = (y[2] - l3[i - 2] * y[3]) * l2[i - 2];
      y[1] = (y[1] - l3[i - 3] * y[3] - l2[i - 3] * y[2]) * l1[i - 3];
      y[0] = (y[0] - l3[i - 4] * y[3] - l2[i - 4] * y[2] - l1[i - 4] * y[1]) * l0[i - 4];
      const N y0 = y[0], y1 = y[1], y2 = y[2], y3 = y[3];
      for (Index j = 0; j < i - 4; ++j) x[j] -= (l0[j] * y0 + l1[j] * y1) + (l2[j] * y2 + l3[j] * y3);
    }
    while (i-- > 0) {
      x[i] *= L[i * n + i];
      for (Index j = 0; j < i; ++j) x[j] -= L[i * n + j] * x[i];
    }
  }

  /// B = A', A (m x n)
  static void transpose(Index m, Index n, const N* A, N* B) {
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j) B[j * m + i] = A[i * n + j];
  }

 private:
  // Rows or columns that are worked on together, so that they stay in the second cache. What is summed into
  // one number is summed in the same order with any.
  static constexpr Index panel = 32;

  // Columns first ... end of L, at and below the diagonal, less the products of the columns before.
  static void subtract_product(Index n, Index first, Index end, N* L) {
    for (Index from = 0; from < first; from += 2 * panel)
      for (Index i = first; i < n; i += 4)
        sized(n - i, [&](auto height) {
          constexpr int H = decltype(height)::value;
          for (Index j = first; j < std::min(i + H, end); j += 4)
            sized(n - j, [&](auto width) {
              N block[H][decltype(width)::value];
              load(L + i * n + j, n, block);
              subtract_rows(std::min(first - from, 2 * panel), L + i * n + from, L + j * n + from, n, block);
              store(block, L + i * n + j, n);
            });
        });
  }

  // The first column from `begin` on with an entry that is not 0, in so many rows; at most `end`.
  static Index first_entry(const N* A, Index stride, Index rows, Index begin, Index end) {
    for (Index j = begin; j < end; ++j)
      for (Index r = 0; r < rows; ++r)
        if (!zeros(A + r * stride + j, 1)) return j;
    return end;
  }
  static bool zeros(const N* v, Index count) {
    for (Index i = 0; i < count; ++i)
      if (any(v[i] != number<N>(0.0))) return false;
    return true;
  }

  template <int K>
  struct Int {
    static constexpr int value = K;
  };
  // f(Int<min(count, 4)>())
  template <class F>
  static void sized(Index count, const F& f) {
    if (count >= 4)
      f(Int<4>());
    else if (count == 3)
      f(Int<3>());
    else if (count == 2)
      f(Int<2>());
    else
      f(Int<1>());
  }
  template <int H, int W>
  static void load(const N* from, Index stride, N (&block)[H][W]) {
    for (int r = 0; r < H; ++r)
      for (int c = 0; c < W; ++c) block[r][c] = from[r * stride + c];
  }
  template <int H, int W>
  static void store(const N (&block)[H][W], N* to, Index stride) {
    for (int r = 0; r < H; ++r)
      for (int c = 0; c < W; ++c) to[r * stride + c] = block[r][c];
  }
  // block -= A B', A (H x k), B (W x k), rows so far apart.
  template <int H, int W>
  static void subtract_rows(Index k, const N* A, const N* B, Index stride, N (&block)[H][W]) {
    for (Index j = 0; j < k; ++j)
      for (int r = 0; r < H; ++r)
        for (int c = 0; c < W; ++c) block[r][c] -= A[r * stride + j] * B[c * stride + j];
  }
  // H += A' weighted(A). Blocks on the diagonal are written whole.
  template <class Weighted>
  static void gram(Index n, Index m, const N* A, N* H, const Weighted& weighted) {
    for (Index top = 0; top < m; top += panel)
      for (Index i = 0; i < n; i += 4)
        sized(n - i, [&](auto height) {
          constexpr int K = decltype(height)::value;
          // Columns of bounds are zero but for a few rows.
          Index first = top, end = std::min(m, top + panel);
          while (first < end && zeros(A + first * n + i, K)) ++first;
          while (first < end && zeros(A + (end - 1) * n + i, K)) --end;
          for (Index j = 0; j <= i && first < end; j += 4)
            sized(i + K - j, [&](auto width) {
              constexpr int W = decltype(width)::value;
              N block[K][W];
              load(H + i * n + j, n, block);
              for (Index k = first; k < end; ++k) {
                const N *a = A + k * n + i, *b = A + k * n + j;
                for (int r = 0; r < K; ++r) {
                  const N left = weighted(k, a[r]);
                  for (int c = 0; c < W; ++c) block[r][c] += left * b[c];
                }
              }
              store(block, H + i * n + j, n);
            });
        });
  }
  // As cholesky.
  template <int W>
  static Mask<N> factor(N (&block)[W][W]) {
    const N one = number<N>(1.0), zero = number<N>(0.0);
    Mask<N> good = one == one;
    for (int c = 0; c < W; ++c) {
      const Mask<N> fine = block[c][c] > zero;
      good = good & fine;
      const N inverse = one / square_root(select(fine, block[c][c], one));
      block[c][c] = inverse;
      for (int r = c + 1; r < W; ++r) block[r][c] *= inverse;
      for (int r = c + 1; r < W; ++r)
        for (int q = c + 1; q <= r; ++q) block[r][q] -= block[r][c] * block[q][c];
    }
    return good;
  }
};

}  // namespace
}  // namespace banach::qp
