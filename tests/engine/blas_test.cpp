// BLAS and LAPACK against plain loops in long double, and against defining equations.
#include <banach/engine/blas.hpp>
#include <banach/engine/error.hpp>
#include <banach/engine/parallel.hpp>
#include <tests/threads.hpp>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include <cblas.h>

namespace blas = banach::blas;

namespace {

template <class T>
std::vector<T> random_vector(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<T> normal;
  std::vector<T> x(static_cast<std::size_t>(n));
  for (auto& v : x) v = normal(random);
  return x;
}

/// Row-major matrix with a plain product, the oracle of this file.
template <class T>
struct Matrix {
  std::int64_t rows, columns;
  std::vector<T> data;

  T operator()(std::int64_t i, std::int64_t j) const {
    return data[static_cast<std::size_t>(i * columns + j)];
  }
  T& operator()(std::int64_t i, std::int64_t j) { return data[static_cast<std::size_t>(i * columns + j)]; }
};

template <class T>
Matrix<T> random_matrix(std::int64_t rows, std::int64_t columns, unsigned seed) {
  return {rows, columns, random_vector<T>(rows * columns, seed)};
}

template <class T>
Matrix<T> transposed(const Matrix<T>& a) {
  Matrix<T> t{a.columns, a.rows, a.data};
  for (std::int64_t i = 0; i < a.rows; ++i)
    for (std::int64_t j = 0; j < a.columns; ++j) t(j, i) = a(i, j);
  return t;
}

template <class T>
Matrix<T> product(const Matrix<T>& a, const Matrix<T>& b) {
  Matrix<T> c{a.rows, b.columns, std::vector<T>(static_cast<std::size_t>(a.rows * b.columns))};
  for (std::int64_t i = 0; i < c.rows; ++i)
    for (std::int64_t j = 0; j < c.columns; ++j) {
      long double sum = 0;
      for (std::int64_t p = 0; p < a.columns; ++p) sum += static_cast<long double>(a(i, p)) * b(p, j);
      c(i, j) = static_cast<T>(sum);
    }
  return c;
}

template <class T>
double largest_difference(const std::vector<T>& a, const std::vector<T>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= largest)) largest = d;  // NaN shows
  }
  return largest;
}

template <class T>
constexpr double eps = static_cast<double>(std::numeric_limits<T>::epsilon());

template <class T>
constexpr T nan_of = std::numeric_limits<T>::quiet_NaN();

}  // namespace

TEST_CASE("OpenBLAS runs on one thread", "[blas]") {
  CHECK(openblas_get_num_threads() == 1);
  openblas_set_num_threads(2);
  CHECK_NOTHROW(blas::ensure_single_threaded());
  CHECK(openblas_get_num_threads() == 1);
}

TEMPLATE_TEST_CASE("gemm and matmul agree with plain loops", "[blas]", float, double) {
  using T = TestType;
  const auto [m, n, k] = GENERATE(table<std::int64_t, std::int64_t, std::int64_t>({{1, 1, 1},
                                                                                   {2, 3, 4},
                                                                                   {6, 6, 7},
                                                                                   {6, 7, 7},
                                                                                   {1, 40, 50},
                                                                                   {40, 1, 50},
                                                                                   {33, 17, 65},
                                                                                   {16, 8, 3},
                                                                                   {5, 4, 0},
                                                                                   {0, 3, 2},
                                                                                   {3, 0, 2}}));
  const bool transpose_a = GENERATE(false, true), transpose_b = GENERATE(false, true);
  const auto a = random_matrix<T>(m, k, 1), b = random_matrix<T>(k, n, 2);
  const auto stored_a = transpose_a ? transposed(a) : a, stored_b = transpose_b ? transposed(b) : b;
  // Rows further apart than they are long, the gaps filled with NaN: nothing may read or write them.
  const std::int64_t gap = 3;
  const auto spread = [&](const Matrix<T>& x) {
    std::vector<T> data(static_cast<std::size_t>(x.rows * (x.columns + gap)), nan_of<T>);
    for (std::int64_t i = 0; i < x.rows; ++i)
      for (std::int64_t j = 0; j < x.columns; ++j)
        data[static_cast<std::size_t>(i * (x.columns + gap) + j)] = x(i, j);
    return data;
  };
  const auto wide_a = spread(stored_a), wide_b = spread(stored_b);
  const auto exact = product(a, b);
  for (const T beta : {T(0), T(1), T(-0.5)}) {
    for (const auto& [alpha, parallel] : {std::pair(T(1), false), std::pair(T(1), true),
                                          std::pair(T(1.25), false), std::pair(T(1.25), true)}) {
      auto start = random_matrix<T>(m, n, 3);
      if (beta == 0) std::fill(start.data.begin(), start.data.end(), nan_of<T>);  // must not be read
      auto c = spread(start);
      const auto multiply = [&](auto... arguments) {
        parallel ? blas::matmul(arguments...) : blas::gemm(arguments...);
      };
      multiply(transpose_a, transpose_b, m, n, k, alpha, wide_a.data(), stored_a.columns + gap, wide_b.data(),
               stored_b.columns + gap, beta, c.data(), n + gap);
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          const T expected = alpha * exact(i, j) + (beta == 0 ? T(0) : beta * start(i, j));
          REQUIRE(std::abs(static_cast<double>(c[static_cast<std::size_t>(i * (n + gap) + j)] - expected)) <=
                  20 * eps<T> * static_cast<double>(k + 1));
        }
        for (std::int64_t j = n; j < n + gap; ++j)
          REQUIRE(std::isnan(c[static_cast<std::size_t>(i * (n + gap) + j)]));
      }
    }
  }
}

TEMPLATE_TEST_CASE("matmul gives the same bits for any number of threads", "[blas]", float, double) {
  using T = TestType;
  const banach::test::KeepThreads keep;
  const auto [m, n, k] = GENERATE(
      table<std::int64_t, std::int64_t, std::int64_t>({{300, 90, 200}, {70, 530, 150}, {200, 200, 200}}));
  const bool transpose_a = GENERATE(false, true), transpose_b = GENERATE(false, true);
  const auto a = random_matrix<T>(m, k, 1), b = random_matrix<T>(k, n, 2);
  const auto stored_a = transpose_a ? transposed(a) : a, stored_b = transpose_b ? transposed(b) : b;
  std::vector<T> first;
  for (const int threads : {1, 2, 5}) {
    banach::set_threads(threads);
    std::vector<T> c(static_cast<std::size_t>(m * n), nan_of<T>);
    blas::matmul(transpose_a, transpose_b, m, n, k, T(1), stored_a.data.data(), stored_a.columns,
                 stored_b.data.data(), stored_b.columns, T(0), c.data(), n);
    if (threads == 1) {
      first = c;
      CHECK(largest_difference(c, product(a, b).data) < 40 * eps<T> * std::sqrt(static_cast<double>(k)));
    }
    CHECK(c == first);
  }
}

TEMPLATE_TEST_CASE("gemv agrees with plain loops", "[blas]", float, double) {
  using T = TestType;
  const auto [m, n] = GENERATE(table<std::int64_t, std::int64_t>({{1, 1}, {5, 3}, {40, 70}, {3, 0}, {0, 3}}));
  const bool transpose = GENERATE(false, true);
  const auto a = random_matrix<T>(m, n, 1);
  const auto op = transpose ? transposed(a) : a;
  const Matrix<T> x{op.columns, 1, random_vector<T>(op.columns, 2)};
  const auto exact = product(op, x);
  for (const T beta : {T(0), T(2)}) {
    auto y = beta == 0 ? std::vector<T>(static_cast<std::size_t>(op.rows), nan_of<T>)
                       : random_vector<T>(op.rows, 3);
    const auto start = y;
    blas::gemv(transpose, m, n, T(-1.5), a.data.data(), n, x.data.data(), beta, y.data());
    for (std::size_t i = 0; i < y.size(); ++i) {
      const T expected = T(-1.5) * exact.data[i] + (beta == 0 ? T(0) : beta * start[i]);
      CHECK(std::abs(static_cast<double>(y[i] - expected)) <= 100 * eps<T>);
    }
  }
}

TEST_CASE("sizes that BLAS cannot hold are refused", "[blas]") {
  const std::int64_t huge = std::int64_t{1} << 31;
  double x = 1;
  CHECK_THROWS_AS(blas::gemm(false, false, huge, 1, 1, 1.0, &x, 1, &x, 1, 0.0, &x, 1), banach::ValueError);
  CHECK_THROWS_AS(blas::gemm(false, false, 1, 1, 1, 1.0, &x, huge, &x, 1, 0.0, &x, 1), banach::ValueError);
  CHECK_THROWS_AS(blas::gemm(false, false, 1, 1, -1, 1.0, &x, 1, &x, 1, 0.0, &x, 1), banach::ValueError);
  CHECK_THROWS_AS(blas::gemm(false, false, 2, 2, 2, 1.0, &x, 1, &x, 2, 0.0, &x, 2), banach::ValueError);
  CHECK_THROWS_AS(blas::gemv(false, 1, huge, 1.0, &x, huge, &x, 0.0, &x), banach::ValueError);
  int pivot = 0;
  CHECK_THROWS_AS(blas::lu_factor(huge, &x, &pivot), banach::ValueError);
  CHECK_THROWS_WITH(blas::cholesky_factor(huge, &x), Catch::Contains("2147483648"));
}

TEST_CASE("the largest size that BLAS can hold is not refused", "[blas]") {
  const std::int64_t most = std::numeric_limits<int>::max();
  double x = 1;
  CHECK_NOTHROW(blas::gemm(false, false, most, 0, 0, 1.0, &x, 1, &x, 1, 0.0, &x, 1));
  CHECK_THROWS_AS(blas::gemm(false, false, most + 1, 0, 0, 1.0, &x, 1, &x, 1, 0.0, &x, 1),
                  banach::ValueError);
}

TEMPLATE_TEST_CASE("LU solves systems and their transposes", "[blas]", float, double) {
  using T = TestType;
  const std::int64_t n = GENERATE(1, 2, 7, 60), nrhs = 3;
  auto a = random_matrix<T>(n, n, 5);
  for (std::int64_t i = 0; i < n; ++i) a(i, (i + 1) % n) += T(10);  // well-conditioned, and needs pivoting
  auto lu = a;
  std::vector<int> pivots(static_cast<std::size_t>(n));
  REQUIRE(blas::lu_factor(n, lu.data.data(), pivots.data()) == 0);
  for (const bool transpose : {false, true}) {
    const auto op = transpose ? transposed(a) : a;
    const auto x = random_matrix<T>(nrhs, n, 6);  // one solution a row
    auto b = product(x, transposed(op));
    blas::lu_solve(transpose, n, nrhs, lu.data.data(), pivots.data(), b.data.data());
    CHECK(largest_difference(b.data, x.data) < 500 * eps<T>);
  }

  // The condition number against the explicit inverse; LAPACK's estimate is a lower bound, nearly always
  // attained.
  Matrix<T> inverse{n, n, std::vector<T>(static_cast<std::size_t>(n * n))};
  for (std::int64_t i = 0; i < n; ++i) inverse(i, i) = 1;
  blas::lu_solve(true, n, n, lu.data.data(), pivots.data(), inverse.data.data());  // rows solve A^T x = e_i
  const T norm = blas::norm_1(n, a.data.data());
  const double exact = 1 / (static_cast<double>(norm) * blas::norm_1(n, inverse.data.data()));
  const double estimate = blas::lu_rcond(n, lu.data.data(), norm);
  CHECK(estimate >= exact * 0.999);
  CHECK(estimate <= exact * 3);
}

TEMPLATE_TEST_CASE("singular and non-finite matrices are reported", "[blas]", float, double) {
  using T = TestType;
  std::vector<T> singular{1, 2, 2, 4}, empty, bad{1, nan_of<T>, 0, 1};
  std::vector<int> pivots(2);
  const T norm = blas::norm_1(2, singular.data());
  CHECK(norm == T(6));
  CHECK(std::isnan(blas::norm_1(2, bad.data())));
  CHECK(blas::lu_factor(2, singular.data(), pivots.data()) == 2);
  CHECK(blas::lu_rcond(2, singular.data(), norm) == 0);
  CHECK(std::isnan(blas::lu_rcond(2, singular.data(), nan_of<T>)));
  CHECK(blas::lu_factor(0, empty.data(), pivots.data()) == 0);

  CHECK(blas::lu_factor(2, bad.data(), pivots.data()) == blas::non_finite);
  std::vector<T> infinite{1, 0, 0, std::numeric_limits<T>::infinity()}, values(2), x(2), b{1, 1};
  std::vector<std::complex<T>> complex(2);
  CHECK(blas::cholesky_factor(2, infinite.data()) == blas::non_finite);
  CHECK(blas::symmetric_eigen(2, infinite.data(), values.data(), true) == blas::non_finite);
  CHECK(blas::eigenvalues(2, bad.data(), complex.data()) == blas::non_finite);
  CHECK(blas::singular_values(2, 2, bad.data(), values.data()) == blas::non_finite);
  CHECK(blas::least_squares(2, 2, 1, bad.data(), b.data(), x.data()).info == blas::non_finite);

  std::vector<T> indefinite{1, 0, 0, 3, 1, 0, 0, 0, 1};  // the leading minor of order 2 is 1 - 9
  CHECK(blas::cholesky_factor(3, indefinite.data()) == 2);
}

TEMPLATE_TEST_CASE("Cholesky factors and solves", "[blas]", float, double) {
  using T = TestType;
  const std::int64_t n = GENERATE(1, 3, 40), nrhs = 2;
  const auto root = random_matrix<T>(n, n, 8);
  auto a = product(root, transposed(root));
  for (std::int64_t i = 0; i < n; ++i) a(i, i) += static_cast<T>(n);
  auto l = a;
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = i + 1; j < n; ++j) l(i, j) = nan_of<T>;  // not read
  REQUIRE(blas::cholesky_factor(n, l.data.data()) == 0);
  CHECK(largest_difference(product(l, transposed(l)).data, a.data) < 20 * eps<T> * static_cast<double>(n));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = i + 1; j < n; ++j) REQUIRE(l(i, j) == 0);
  const auto x = random_matrix<T>(nrhs, n, 9);
  auto b = product(x, a);
  blas::cholesky_solve(n, nrhs, l.data.data(), b.data.data());
  CHECK(largest_difference(b.data, x.data) < 1000 * eps<T>);
}

TEMPLATE_TEST_CASE("triangular systems, plain and by BLAS", "[blas]", float, double) {
  using T = TestType;
  const std::int64_t n = GENERATE(1, 3, 40), nrhs = GENERATE(1, 5);
  const bool upper = GENERATE(false, true), turned = GENERATE(false, true), unit = GENERATE(false, true);
  auto a = random_matrix<T>(n, n, 10);
  for (auto& entry : a.data) entry /= static_cast<T>(n);
  for (std::int64_t i = 0; i < n; ++i) a(i, i) = 2;
  auto triangle = a;
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      if (i == j && unit) triangle(i, j) = 1;
      if (i == j ? unit : upper != (j > i)) a(i, j) = nan_of<T>;  // not read
      if (i != j && upper != (j > i)) triangle(i, j) = 0;
    }
  const auto x = random_matrix<T>(n, nrhs, 11);
  auto b = product(turned ? transposed(triangle) : triangle, x);
  blas::triangular_solve(upper, turned, unit, n, nrhs, a.data.data(), b.data.data());
  CHECK(largest_difference(b.data, x.data) < 100 * eps<T>);
}

TEMPLATE_TEST_CASE("least squares: normal equations and minimum norm", "[blas]", float, double) {
  using T = TestType;
  const auto [m, n] = GENERATE(table<std::int64_t, std::int64_t>({{20, 5}, {5, 20}, {6, 6}}));
  const bool deficient = GENERATE(false, true);
  const std::int64_t nrhs = 2, full = std::min(m, n), rank = deficient ? full - 1 : full;
  // Rank 'rank' by construction.
  const auto a = product(random_matrix<T>(m, rank, 1), random_matrix<T>(rank, n, 2));
  const auto b = random_matrix<T>(nrhs, m, 3);
  Matrix<T> x{nrhs, n, std::vector<T>(static_cast<std::size_t>(nrhs * n))};
  const auto found = blas::least_squares(m, n, nrhs, a.data.data(), b.data.data(), x.data.data(), T(1e-5));
  CHECK(found.info == 0);
  CHECK(found.rank == rank);
  // A^T (A x - b) = 0, in rows: (x A^T - b) A = 0.
  auto residual = product(x, transposed(a));
  for (std::size_t i = 0; i < residual.data.size(); ++i) residual.data[i] -= b.data[i];
  const auto normal = product(residual, a);
  CHECK(largest_difference(normal.data, std::vector<T>(normal.data.size())) < 3e3 * eps<T>);
  // Minimum norm: x lies in the row space of A, so solving for A^T w = x leaves no residual.
  const auto at = transposed(a);
  Matrix<T> w{nrhs, m, std::vector<T>(static_cast<std::size_t>(nrhs * m))};
  blas::least_squares(n, m, nrhs, at.data.data(), x.data.data(), w.data.data(), T(1e-5));
  const double size = largest_difference(w.data, std::vector<T>(w.data.size()));
  CHECK(largest_difference(product(w, a).data, x.data) <
        100 * eps<T> * (1 + size) * static_cast<double>(m + n));
}

TEMPLATE_TEST_CASE("symmetric eigenproblems", "[blas]", float, double) {
  using T = TestType;
  const std::int64_t n = 12;
  auto a = random_matrix<T>(n, n, 4);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < i; ++j) a(j, i) = a(i, j);
  auto vectors = a, only_values = a;
  std::vector<T> values(static_cast<std::size_t>(n)), again(values);
  REQUIRE(blas::symmetric_eigen(n, vectors.data.data(), values.data(), true) == 0);
  CHECK(std::is_sorted(values.begin(), values.end()));
  // Rows v_i: V A V^T = diag(values), V V^T = I.
  const auto diagonal = product(product(vectors, a), transposed(vectors));
  const auto gram = product(vectors, transposed(vectors));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      CHECK(std::abs(diagonal(i, j) - (i == j ? values[static_cast<std::size_t>(i)] : T(0))) < 100 * eps<T>);
      CHECK(std::abs(gram(i, j) - T(i == j)) < 50 * eps<T>);
    }
  REQUIRE(blas::symmetric_eigen(n, only_values.data.data(), again.data(), false) == 0);
  CHECK(largest_difference(again, values) < 100 * eps<T>);
}

TEMPLATE_TEST_CASE("eigenvalues of general matrices", "[blas]", float, double) {
  using T = TestType;
  // Block triangular: a rotation scaled by 2 (2 cos t +- 2 i sin t) and -3, mixed by the column above.
  const T c = 2 * std::cos(T(0.7)), s = 2 * std::sin(T(0.7));
  std::vector<T> a{c, -s, 5, s, c, -4, 0, 0, -3};
  std::vector<std::complex<T>> values(3);
  REQUIRE(blas::eigenvalues(3, a.data(), values.data()) == 0);
  std::sort(values.begin(), values.end(),
            [](auto x, auto y) { return x.real() != y.real() ? x.real() < y.real() : x.imag() < y.imag(); });
  CHECK(std::abs(values[0] - std::complex<T>(-3, 0)) < 20 * eps<T>);
  // A pair may differ in the order of its rounded real parts.
  const std::complex<T> up(c, s), down(c, -s);
  CHECK(std::min(std::abs(values[1] - up), std::abs(values[1] - down)) < 20 * eps<T>);
  CHECK(std::abs(values[2] - std::conj(values[1])) < 20 * eps<T>);
}

TEMPLATE_TEST_CASE("eigenvectors of general matrices", "[blas]", float, double) {
  using T = TestType;
  const std::int64_t n = GENERATE(1, 2, 7, 24);
  const auto a = random_matrix<T>(n, n, 12);
  const auto count = static_cast<std::size_t>(n);
  auto spoilt = a;
  std::vector<std::complex<T>> values(count), vectors(count * count);
  REQUIRE(blas::eigenvectors(n, spoilt.data.data(), values.data(), vectors.data()) == 0);
  for (std::int64_t k = 0; k < n; ++k) {
    const std::complex<T>* v = vectors.data() + k * n;
    double length = 0.0, residual = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
      std::complex<T> image = 0;
      for (std::int64_t j = 0; j < n; ++j) image += a(i, j) * v[j];
      residual = std::max<double>(residual, std::abs(image - values[static_cast<std::size_t>(k)] * v[i]));
      length += std::norm(v[i]);
    }
    CHECK(length == Approx(1.0).epsilon(20 * eps<T>));
    CHECK(residual < 50 * eps<T> * static_cast<double>(n));
  }
}

TEMPLATE_TEST_CASE("singular values and vectors", "[blas]", float, double) {
  using T = TestType;
  const auto [m, n] = GENERATE(table<std::int64_t, std::int64_t>({{4, 9}, {9, 4}, {6, 6}, {1, 5}, {5, 1}}));
  const auto a = random_matrix<T>(m, n, 2);
  const std::int64_t r = std::min(m, n);
  auto spoilt = a;
  Matrix<T> u{m, r, std::vector<T>(static_cast<std::size_t>(m * r))};
  Matrix<T> vt{r, n, std::vector<T>(static_cast<std::size_t>(r * n))};
  std::vector<T> values(static_cast<std::size_t>(r)), again(values);
  REQUIRE(blas::svd(m, n, spoilt.data.data(), u.data.data(), values.data(), vt.data.data()) == 0);
  CHECK(std::is_sorted(values.rbegin(), values.rend()));
  CHECK(values.back() >= 0);
  auto scaled = u;
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < r; ++j) scaled(i, j) *= values[static_cast<std::size_t>(j)];
  CHECK(largest_difference(product(scaled, vt).data, a.data) < 100 * eps<T>);
  const auto gram_u = product(transposed(u), u), gram_v = product(vt, transposed(vt));
  for (std::int64_t i = 0; i < r; ++i)
    for (std::int64_t j = 0; j < r; ++j) {
      CHECK(std::abs(gram_u(i, j) - T(i == j)) < 50 * eps<T>);
      CHECK(std::abs(gram_v(i, j) - T(i == j)) < 50 * eps<T>);
    }
  spoilt = a;
  REQUIRE(blas::singular_values(m, n, spoilt.data.data(), again.data()) == 0);
  CHECK(largest_difference(again, values) < 100 * eps<T>);
}

TEST_CASE("least squares without right-hand sides is nothing, whatever the matrix") {
  const std::vector<double> a{1.0, 2.0, 3.0, std::nan("")};
  const auto found = blas::least_squares(2, 2, 0, a.data(), nullptr, nullptr);
  CHECK(found.info == 0);
  CHECK(found.rank == 0);
}

TEMPLATE_TEST_CASE("large products: rows further apart, and what was there before", "[blas]", float, double) {
  using T = TestType;
  const auto [m, n, k] = GENERATE(
      table<std::int64_t, std::int64_t, std::int64_t>({{300, 90, 100}, {70, 430, 90}, {1300, 20, 120}}));
  const bool transpose_a = GENERATE(false, true), transpose_b = GENERATE(false, true);
  const std::int64_t gap = 5;
  const auto a = random_matrix<T>(m, k, 1), b = random_matrix<T>(k, n, 2), before = random_matrix<T>(m, n, 3);
  const auto spread = [&](const Matrix<T>& x) {
    Matrix<T> wide{x.rows, x.columns + gap,
                   std::vector<T>(static_cast<std::size_t>(x.rows * (x.columns + gap)), nan_of<T>)};
    for (std::int64_t i = 0; i < x.rows; ++i)
      for (std::int64_t j = 0; j < x.columns; ++j) wide(i, j) = x(i, j);
    return wide;
  };
  const auto wide_a = spread(transpose_a ? transposed(a) : a),
             wide_b = spread(transpose_b ? transposed(b) : b);
  auto c = spread(before);
  blas::matmul(transpose_a, transpose_b, m, n, k, T(-1.5), wide_a.data.data(), wide_a.columns,
               wide_b.data.data(), wide_b.columns, T(0.5), c.data.data(), c.columns);
  const auto exact = product(a, b);
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n + gap; ++j) {
      if (j >= n)
        wrong += !std::isnan(c(i, j));
      else
        wrong += !(std::abs(static_cast<double>(c(i, j) - (T(-1.5) * exact(i, j) + T(0.5) * before(i, j)))) <
                   60 * eps<T> * std::sqrt(static_cast<double>(k)));
    }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("problems of size zero are solved, and touch nothing", "[blas]", float, double) {
  using T = TestType;
  T* none = nullptr;
  std::complex<T>* nobody = nullptr;
  CHECK(blas::lu_factor(0, none, nullptr) == 0);
  blas::lu_solve(false, 0, 3, none, nullptr, none);
  blas::lu_solve(true, 3, 0, none, nullptr, none);
  CHECK(blas::lu_rcond(0, none, T(0)) == T(1));
  CHECK(blas::lu_rcond(3, none, std::numeric_limits<T>::infinity()) == T(0));
  CHECK(blas::norm_1(0, none) == T(0));
  blas::triangular_solve(true, false, false, 0, 3, none, none);
  blas::triangular_solve(false, false, false, 3, 0, none, none);
  CHECK(blas::cholesky_factor(0, none) == 0);
  blas::cholesky_solve(0, 2, none, none);
  blas::cholesky_solve(2, 0, none, none);
  CHECK(blas::symmetric_eigen(0, none, none, true) == 0);
  CHECK(blas::eigenvalues(0, none, nobody) == 0);
  CHECK(blas::eigenvectors(0, none, nobody, nobody) == 0);
  CHECK(blas::singular_values(0, 3, none, none) == 0);
  CHECK(blas::svd(3, 0, none, none, none, none) == 0);
  std::vector<T> x(6, T(7)), a(6, T(1));
  CHECK(blas::least_squares(0, 3, 2, none, none, x.data()).info == 0);
  CHECK(x == std::vector<T>(6));  // the solution of least norm
  x.assign(6, T(7));
  blas::gemv(false, 3, 0, T(1), a.data(), 1, none, T(2), x.data());
  CHECK(x == std::vector<T>{14, 14, 14, 7, 7, 7});
  blas::gemv(true, 0, 2, T(1), a.data(), 2, none, T(0), x.data());
  CHECK(x == std::vector<T>{0, 0, 14, 7, 7, 7});
}

TEMPLATE_TEST_CASE("a NaN or an infinity is reported wherever it stands, where it is read", "[blas]", float,
                   double) {
  using T = TestType;
  const T bad = GENERATE(false, true) ? nan_of<T> : std::numeric_limits<T>::infinity();
  const std::int64_t n = 3;
  auto good = product(random_matrix<T>(n, n, 4), transposed(random_matrix<T>(n, n, 4)));
  for (std::int64_t i = 0; i < n; ++i) good(i, i) += T(1);
  for (std::size_t at = 0; at < 9; ++at) {
    auto a = good;
    a.data[at] = bad;
    const bool read = at / 3 >= at % 3;  // of a symmetric matrix, the lower triangle is
    std::vector<int> pivots(3);
    std::vector<T> values(3), u(9), vt(9), x(3), b(3, T(1));
    std::vector<std::complex<T>> complex(3), vectors(9);
    const auto copy = [&] { return a.data; };
    auto data = copy();
    CHECK(blas::lu_factor(n, data.data(), pivots.data()) == blas::non_finite);
    CHECK(blas::eigenvalues(n, (data = copy()).data(), complex.data()) == blas::non_finite);
    CHECK(blas::eigenvectors(n, (data = copy()).data(), complex.data(), vectors.data()) == blas::non_finite);
    CHECK(blas::singular_values(n, n, (data = copy()).data(), values.data()) == blas::non_finite);
    CHECK(blas::svd(n, n, (data = copy()).data(), u.data(), values.data(), vt.data()) == blas::non_finite);
    CHECK(blas::least_squares(n, n, 1, a.data.data(), b.data(), x.data()).info == blas::non_finite);
    CHECK(blas::cholesky_factor(n, (data = copy()).data()) == (read ? blas::non_finite : 0));
    CHECK(blas::symmetric_eigen(n, (data = copy()).data(), values.data(), true) ==
          (read ? blas::non_finite : 0));
    if (at < 3) {
      b[at] = bad;
      CHECK(blas::least_squares(n, n, 1, good.data.data(), b.data(), x.data()).info == blas::non_finite);
    }
  }
}
