#include <banach/engine/packed.hpp>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include <banach/engine/error.hpp>
#include <banach/engine/panel_product.hpp>
#include <banach/engine/simd.hpp>
#include <tests/isa.hpp>

using banach::PackedMatrix;
namespace simd = banach::simd;
using banach::test::KeepIsa;

namespace {

/// Runs body under every instruction set of this processor.
template <class Body>
void for_each_isa(const Body& body) {
  const KeepIsa keep;
  for (const auto isa : {simd::Isa::sse2, simd::Isa::avx2, simd::Isa::avx512}) {
    if (!simd::supported(isa)) continue;
    INFO(simd::name(isa));
    simd::select(isa);
    body();
  }
}

/// A row-major matrix whose rows are `ld` entries apart.
template <class T>
struct Matrix {
  std::int64_t rows, columns, ld;
  std::vector<T> entries;

  Matrix(std::int64_t r, std::int64_t c, std::int64_t gap = 0, T value = 0)
      : rows(r), columns(c), ld(c + gap), entries(static_cast<std::size_t>(r * ld), value) {}

  T* row(std::int64_t i) { return entries.data() + i * ld; }
  const T* row(std::int64_t i) const { return entries.data() + i * ld; }
  T& operator()(std::int64_t i, std::int64_t j) { return row(i)[j]; }
  T operator()(std::int64_t i, std::int64_t j) const { return row(i)[j]; }

  Matrix transposed() const {
    Matrix result(columns, rows, ld - columns);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j) result(j, i) = (*this)(i, j);
    return result;
  }
};

template <class T>
Matrix<T> random_matrix(std::int64_t rows, std::int64_t columns, unsigned seed, std::int64_t gap = 0) {
  Matrix<T> result(rows, columns, gap);
  std::mt19937 random(seed);
  std::normal_distribution<T> normal;
  for (T& entry : result.entries) entry = normal(random);
  return result;
}

/// One step of a sum, as the active instruction set rounds it.
template <class T>
T multiply_add(T a, T b, T sum) {
  if (simd::active() != simd::Isa::sse2) return std::fma(a, b, sum);
  const volatile T product = a * b;  // volatile: never fused
  return sum + product;
}

/// start + A B by its definition; what lies between the rows is `untouched`.
template <class T>
Matrix<T> expected(const Matrix<T>& a, const Matrix<T>& b, const Matrix<T>& start, std::int64_t gap = 0,
                   T untouched = 0) {
  Matrix<T> c(a.rows, b.columns, gap, untouched);
  for (std::int64_t i = 0; i < a.rows; ++i)
    for (std::int64_t j = 0; j < b.columns; ++j) {
      T sum = start(start.rows == 1 ? 0 : i, j);
      for (std::int64_t p = 0; p < a.columns; ++p) sum = multiply_add(a(i, p), b(p, j), sum);
      c(i, j) = sum;
    }
  return c;
}

template <class T>
bool same_bits(const T* a, const T* b, std::int64_t n) {
  return n == 0 || std::memcmp(a, b, static_cast<std::size_t>(n) * sizeof(T)) == 0;
}
template <class T>
bool same_bits(const Matrix<T>& a, const Matrix<T>& b) {
  return same_bits(a.entries.data(), b.entries.data(), static_cast<std::int64_t>(a.entries.size()));
}

template <class T>
PackedMatrix<T> packed(const Matrix<T>& b) {
  return {false, b.rows, b.columns, b.entries.data(), b.ld};
}

}  // namespace

TEMPLATE_TEST_CASE("a packed product is the chain of multiply-adds of every size", "[packed]", float,
                   double) {
  using T = TestType;
  for_each_isa([] {
    for (const std::int64_t k : {0, 1, 2, 7, 16, 33})
      for (const std::int64_t n :
           {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 33, 47, 48, 64, 65, 100, 131}) {
        const auto b = random_matrix<T>(k, n, 1, 3), bt = b.transposed();
        const PackedMatrix<T> plain = packed(b), from_transposed(true, k, n, bt.entries.data(), bt.ld);
        REQUIRE(plain.rows() == k);
        REQUIRE(plain.columns() == n);
        for (const std::int64_t m : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 23, 33}) {
          INFO("m " << m << " n " << n << " k " << k);
          const auto a = random_matrix<T>(m, k, 2, 5);
          const Matrix<T> want = expected(a, b, Matrix<T>(1, n), 2, T(-77));
          const Matrix<T> at = a.transposed();
          for (const auto* product : {&plain, &from_transposed})
            for (const bool transpose_a : {false, true}) {
              Matrix<T> c(m, n, 2, T(-77));
              const Matrix<T>& left = transpose_a ? at : a;
              product->multiply(m, left.entries.data(), left.ld, c.entries.data(), c.ld, transpose_a);
              REQUIRE(same_bits(c, want));
            }
        }
      }
  });
}

TEMPLATE_TEST_CASE("a packed product adds to a matrix, to C itself or to one row", "[packed]", float,
                   double) {
  using T = TestType;
  for_each_isa([] {
    for (const auto& [m, n, k] :
         {std::array<std::int64_t, 3>{16, 96, 20}, {7, 37, 5}, {1, 3, 2}, {9, 50, 0}}) {
      INFO("m " << m << " n " << n << " k " << k);
      const auto a = random_matrix<T>(m, k, 1), b = random_matrix<T>(k, n, 2);
      const auto start = random_matrix<T>(m, n, 3, 4), bias = random_matrix<T>(1, n, 4);
      const PackedMatrix<T> product = packed(b);

      Matrix<T> c(m, n);
      product.multiply_add(m, a.entries.data(), a.ld, start.entries.data(), start.ld, c.entries.data(), c.ld);
      CHECK(same_bits(c, expected(a, b, start)));

      Matrix<T> sum = c;
      product.multiply_add(m, a.entries.data(), a.ld, sum.entries.data(), sum.ld, sum.entries.data(), sum.ld);
      CHECK(same_bits(sum, expected(a, b, c)));

      product.multiply_add(m, a.entries.data(), a.ld, bias.entries.data(), 0, c.entries.data(), c.ld);
      CHECK(same_bits(c, expected(a, b, bias)));

      const auto at = a.transposed();
      product.multiply_add(m, at.entries.data(), at.ld, bias.entries.data(), 0, c.entries.data(), c.ld, true);
      CHECK(same_bits(c, expected(a, b, bias)));
    }
  });
}

TEMPLATE_TEST_CASE("a row of a packed product has the same bits in any company", "[packed]", float, double) {
  using T = TestType;
  for_each_isa([] {
    for (const std::int64_t n : {1, 16, 37, 64, 150}) {
      const std::int64_t m = 61, k = 300;
      const auto a = random_matrix<T>(m, k, 1), b = random_matrix<T>(k, n, 2),
                 start = random_matrix<T>(m, n, 3);
      const PackedMatrix<T> product = packed(b);
      Matrix<T> all(m, n);
      product.multiply_add(m, a.row(0), a.ld, start.row(0), start.ld, all.row(0), all.ld);
      for (std::int64_t height = 1; height <= m; ++height) {
        INFO("n " << n << ", tiles of " << height << " rows");
        Matrix<T> tiled(m, n);
        for (std::int64_t i = 0; i < m; i += height)
          product.multiply_add(std::min(height, m - i), a.row(i), a.ld, start.row(i), start.ld, tiled.row(i),
                               tiled.ld);
        REQUIRE(same_bits(tiled, all));
      }
    }
  });
}

TEMPLATE_TEST_CASE("NaN and infinity stay in their row and column of a packed product", "[packed]", float,
                   double) {
  using T = TestType;
  const T nan = std::numeric_limits<T>::quiet_NaN(), infinity = std::numeric_limits<T>::infinity();
  for_each_isa([&] {
    const std::int64_t m = 11, n = 37, k = 9;
    const Matrix<T> ones_a(m, k, 0, 1), ones_b(k, n, 0, 1);
    for (const T value : {nan, infinity, -infinity}) {
      const auto same = [&](T x, T y) { return x == y || (std::isnan(x) && std::isnan(y)); };
      for (const std::int64_t at : {0, 5, 8}) {
        Matrix<T> a = ones_a, b = ones_b, c(m, n);
        a(at, 3) = value;
        packed(b).multiply(m, a.row(0), a.ld, c.row(0), c.ld);
        for (std::int64_t i = 0; i < m; ++i)
          for (std::int64_t j = 0; j < n; ++j) REQUIRE(same(c(i, j), i == at ? value : T(k)));

        a = ones_a;
        b(2, 4 * at) = value;
        a(6, 2) = 0;
        packed(b).multiply(m, a.row(0), a.ld, c.row(0), c.ld);
        for (std::int64_t i = 0; i < m; ++i)
          for (std::int64_t j = 0; j < n; ++j) {
            const T finite = i == 6 ? T(k - 1) : T(k);
            REQUIRE(same(c(i, j), j != 4 * at ? finite : i == 6 ? nan : value));  // 0 * infinity is NaN
          }
      }
    }
  });
}

TEMPLATE_TEST_CASE("a packed matrix keeps the kernels it was packed for, and can be moved", "[packed]", float,
                   double) {
  using T = TestType;
  const auto a = random_matrix<T>(5, 20, 1), b = random_matrix<T>(20, 30, 2);
  for_each_isa([&] {
    const Matrix<T> want = expected(a, b, Matrix<T>(1, 30));
    PackedMatrix<T> product = packed(b);
    for_each_isa([&] {
      PackedMatrix<T> moved = std::move(product);
      Matrix<T> c(5, 30);
      moved.multiply(5, a.row(0), a.ld, c.row(0), c.ld);
      CHECK(same_bits(c, want));
      product = std::move(moved);
    });
  });
}

TEST_CASE("a packed matrix refuses sizes that cannot be", "[packed]") {
  using banach::ValueError;
  const std::vector<double> b(12), a(6);
  std::vector<double> c(8);
  const PackedMatrix<double> empty;
  CHECK((empty.rows() == 0 && empty.columns() == 0));
  empty.multiply(3, a.data(), 0, c.data(), 0);

  const auto pack = [&](bool transpose, std::int64_t k, std::int64_t n, std::int64_t ldb) {
    return PackedMatrix<double>(transpose, k, n, b.data(), ldb);
  };
  CHECK_THROWS_WITH(pack(false, -1, 4, 4), "[packed_matrix] k must be at least 0: -1");
  CHECK_THROWS_WITH(pack(false, 3, -4, 4), "[packed_matrix] n must be at least 0: -4");
  CHECK_THROWS_WITH(pack(false, 3, 4, 3),
                    "[packed_matrix] ldb must be at least the length of a row: 3 for rows of 4");
  CHECK_THROWS_AS(pack(true, 3, 4, 2), ValueError);
  CHECK_THROWS_AS(pack(false, std::int64_t{1} << 40, std::int64_t{1} << 40, std::int64_t{1} << 40),
                  ValueError);

  const PackedMatrix<double> product = pack(true, 3, 4, 3);
  CHECK_THROWS_WITH(product.multiply(-2, a.data(), 3, c.data(), 4),
                    "[packed_matrix] m must be at least 0: -2");
  CHECK_THROWS_AS(product.multiply(2, a.data(), 2, c.data(), 4), ValueError);
  CHECK_THROWS_AS(product.multiply(2, a.data(), 3, c.data(), 3), ValueError);
  CHECK_THROWS_AS(product.multiply(2, a.data(), 1, c.data(), 4, true), ValueError);
  CHECK_THROWS_AS(product.multiply_add(2, a.data(), 3, b.data(), 3, c.data(), 4), ValueError);
}

TEMPLATE_TEST_CASE("a gathered product is the chain of multiply-adds of the entries named", "[packed]", float,
                   double) {
  using T = TestType;
  for_each_isa([] {
    for (const auto [m, n, k] : {std::array<std::int64_t, 3>{1, 1, 1}, {9, 50, 5}, {4, 16, 0}, {17, 3, 20}}) {
      // Rows of both in falling order, columns of A in twos: neither lies as a matrix does.
      const auto slack = simd::product<T>().width;
      const auto a = random_matrix<T>(m, 2 * k, 1), b = random_matrix<T>(k, n, 2, slack);
      Matrix<T> a_named(m, k), b_named(k, n);
      std::vector<std::int64_t> a_rows, a_columns, b_rows;
      for (std::int64_t i = 0; i < m; ++i) a_rows.push_back((m - 1 - i) * a.ld);
      for (std::int64_t p = 0; p < k; ++p) {
        a_columns.push_back(2 * p);
        b_rows.push_back((k - 1 - p) * b.ld);
        for (std::int64_t i = 0; i < m; ++i) a_named(i, p) = a(m - 1 - i, 2 * p);
        for (std::int64_t j = 0; j < n; ++j) b_named(p, j) = b(k - 1 - p, j);
      }
      const auto start = random_matrix<T>(m, n, 3);
      Matrix<T> c = start;
      simd::product<T>().run_gathered(m, n, k, a.entries.data(), a_rows.data(), a_columns.data(),
                                      b.entries.data(), b_rows.data(), c.row(0), c.ld, c.row(0), c.ld);
      CHECK(same_bits(c, expected(a_named, b_named, start)));
    }
  });
}

TEMPLATE_TEST_CASE("dots of gathered rows are those of the entries named, and nothing else is read",
                   "[packed]", float, double) {
  using T = TestType;
  for_each_isa([] {
    for (const auto [m, n, runs, length] : {std::array<std::int64_t, 4>{1, 1, 1, 1},
                                            {1, 9, 28, 28},
                                            {16, 5, 3, 17},
                                            {3, 4, 2, 64},
                                            {7, 30, 0, 5},
                                            {5, 2, 4, 0},
                                            {2, 3, 1, 15}}) {
      // Runs of both lie apart, with NaN between them; rows in falling order.
      const std::int64_t gap = 3, a_step = length + gap, b_step = length + 2 * gap;
      const auto lay_out = [&](std::int64_t rows, std::int64_t step, unsigned seed) {
        auto all = random_matrix<T>(rows, runs * step, seed);
        for (std::int64_t i = 0; i < rows; ++i)
          for (std::int64_t p = 0; p < runs * step; ++p)
            if (p % step >= length) all(i, p) = std::numeric_limits<T>::quiet_NaN();
        return all;
      };
      const auto a = lay_out(m, a_step, 1), b = lay_out(n, b_step, 2);
      std::vector<std::int64_t> a_rows, b_rows;
      for (std::int64_t i = 0; i < m; ++i) a_rows.push_back((m - 1 - i) * a.ld);
      for (std::int64_t j = 0; j < n; ++j) b_rows.push_back((n - 1 - j) * b.ld);
      const auto start = random_matrix<T>(m, n, 3, 1);
      Matrix<T> c = start;
      simd::product<T>().add_dots(m, n, runs, length, a.entries.data(), a_rows.data(), a_step,
                                  b.entries.data(), b_rows.data(), b_step, c.row(0), c.ld);
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          double sum = start(i, j), size = std::abs(sum);
          for (std::int64_t run = 0; run < runs; ++run)
            for (std::int64_t p = 0; p < length; ++p) {
              const double term = static_cast<double>(a(m - 1 - i, run * a_step + p)) *
                                  static_cast<double>(b(n - 1 - j, run * b_step + p));
              sum += term;
              size += std::abs(term);
            }
          CHECK(std::abs(c(i, j) - sum) <= 8 * static_cast<double>(std::numeric_limits<T>::epsilon()) * size);
        }
        CHECK(c(i, n) == start(i, n));
      }
    }
  });
}

TEMPLATE_TEST_CASE("rows are copied to other distances, shifted if asked, and nothing beside them is written",
                   "[packed]", float, double) {
  using T = TestType;
  for_each_isa([] {
    for (const auto [rows, columns] :
         {std::array<std::int64_t, 2>{3, 1}, {2, 3}, {5, 4}, {3, 15}, {4, 28}, {1, 64}, {0, 4}, {4, 0}}) {
      const auto from = random_matrix<T>(rows, columns, 1, 2);
      for (const T shift : {T{0}, T{0.5}}) {
        Matrix<T> to(rows, columns, 3, T{7});
        simd::product<T>().copy_rows(rows, columns, from.entries.data(), from.ld, to.entries.data(), to.ld,
                                     shift == T{0} ? nullptr : &shift);
        for (std::int64_t i = 0; i < rows; ++i) {
          for (std::int64_t j = 0; j < columns; ++j) CHECK(to(i, j) == from(i, j) + shift);
          for (std::int64_t j = columns; j < columns + 3; ++j) CHECK(to(i, j) == T{7});
        }
      }
    }
  });
}

TEMPLATE_TEST_CASE("a transpose moves every entry to its place", "[packed]", float, double) {
  using T = TestType;
  for_each_isa([] {
    for (const auto [rows, columns] :
         {std::array<std::int64_t, 2>{1, 1}, {16, 16}, {17, 33}, {40, 7}, {8, 100}, {0, 4}, {4, 0}}) {
      const auto from = random_matrix<T>(rows, columns, 1, 2);
      Matrix<T> to(columns, rows, 1, T{7});
      simd::product<T>().transpose(rows, columns, from.entries.data(), from.ld, to.entries.data(), to.ld);
      for (std::int64_t j = 0; j < columns; ++j) {
        for (std::int64_t i = 0; i < rows; ++i) CHECK(to(j, i) == from(i, j));
        CHECK(to(j, rows) == T{7});
      }
    }
  });
}
