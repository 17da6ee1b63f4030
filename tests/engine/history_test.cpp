// Kernels on several rows at once, for every instruction set that this processor has.
#include <banach/engine/history.hpp>
#include <banach/engine/simd.hpp>
#include <tests/isa.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace simd = banach::simd;
using banach::test::KeepIsa;

namespace {

constexpr std::int64_t most_rows = 13;

template <class T>
std::vector<T> normal(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<T> draw;
  std::vector<T> values(static_cast<std::size_t>(n));
  for (T& value : values) value = draw(random);
  return values;
}

/// body(n, rows, x, y) with most_rows rows, for lengths on both sides of every batch and block.
template <class T, class Body>
void for_problems(const Body& body) {
  const KeepIsa keep;
  for (const simd::Isa isa : {simd::Isa::sse2, simd::Isa::avx2, simd::Isa::avx512}) {
    if (!simd::supported(isa)) continue;
    simd::select(isa);
    INFO(simd::name(isa));
    for (const std::int64_t n : {0, 1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 100, 255, 2048, 2049, 5000}) {
      CAPTURE(n);
      body(n, normal<T>(most_rows * n, 1), normal<T>(n, 2), normal<T>(n, 3));
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("inner products with several rows agree with long double, each as if alone", "", float,
                   double) {
  using T = TestType;
  for_problems<T>([](std::int64_t n, const std::vector<T>& rows, const std::vector<T>& x,
                     const std::vector<T>& y) {
    const auto& k = simd::history<T>();
    std::vector<double> narrow(most_rows), wide(most_rows), both_x(most_rows), both_y(most_rows);
    k.dots(rows.data(), most_rows, x.data(), n, narrow.data());
    k.wide_dots(rows.data(), most_rows, x.data(), n, wide.data());
    k.wide_dots_of_two(rows.data(), most_rows, x.data(), y.data(), n, both_x.data(), both_y.data());
    for (std::int64_t r = 0; r < most_rows; ++r) {
      const T* row = rows.data() + r * n;
      long double dot = 0, size = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        const long double product = static_cast<long double>(row[i]) * x[static_cast<std::size_t>(i)];
        dot += product;
        size += std::abs(product);
      }
      const auto at = static_cast<std::size_t>(r);
      const auto error = [&](double value) { return std::abs(static_cast<double>(value - dot)); };
      REQUIRE(error(narrow[at]) <= 4.0 * static_cast<double>(std::numeric_limits<T>::epsilon() * size));
      REQUIRE(error(wide[at]) <= 4.0 * static_cast<double>(std::numeric_limits<double>::epsilon() * size));
      REQUIRE(both_x[at] == wide[at]);
      double alone = 0.0;
      k.dots(row, 1, x.data(), n, &alone);
      REQUIRE(alone == narrow[at]);
      k.wide_dots(row, 1, x.data(), n, &alone);
      REQUIRE(alone == wide[at]);
      k.wide_dots(row, 1, y.data(), n, &alone);
      REQUIRE(alone == both_y[at]);
    }
  });
}

TEMPLATE_TEST_CASE("rows are added one after another, whatever their number", "", float, double) {
  using T = TestType;
  for_problems<T>([](std::int64_t n, const std::vector<T>& rows, const std::vector<T>& start,
                     const std::vector<T>& other) {
    std::vector<double> factors(most_rows);
    for (std::size_t r = 0; r < factors.size(); ++r) factors[r] = 0.1 * static_cast<double>(r) - 0.37;
    std::vector<T> expected = start;
    for (std::int64_t count = 0; count <= most_rows; ++count) {
      if (count > 0)
        simd::kernels<T>().axpy(static_cast<T>(factors[static_cast<std::size_t>(count - 1)]),
                                rows.data() + (count - 1) * n, expected.data(), n);
      std::vector<T> out = other, in_place = start;
      simd::history<T>().combine(start.data(), rows.data(), count, factors.data(), n, out.data());
      simd::history<T>().combine(in_place.data(), rows.data(), count, factors.data(), n, in_place.data());
      REQUIRE(out == expected);
      REQUIRE(in_place == expected);
    }
  });
}

TEMPLATE_TEST_CASE("three lengths in one pass are those of three", "", float, double) {
  using T = TestType;
  for_problems<T>(
      [](std::int64_t n, const std::vector<T>& rows, const std::vector<T>& x, const std::vector<T>& y) {
        T found[3];
        const auto& k = simd::kernels<T>();
        simd::history<T>().squared_lengths(rows.data(), x.data(), y.data(), n, found);
        REQUIRE(found[0] == k.squared_norm(rows.data(), n));
        REQUIRE(found[1] == k.squared_distance(rows.data(), x.data(), n));
        REQUIRE(found[2] == k.squared_distance(x.data(), y.data(), n));
        if (n == 0) return;
        std::vector<T> broken = x;
        broken[static_cast<std::size_t>(n / 2)] = std::numeric_limits<T>::quiet_NaN();
        simd::history<T>().squared_lengths(broken.data(), x.data(), y.data(), n, found);
        REQUIRE(std::isnan(found[0]));
        REQUIRE(std::isnan(found[1]));
        REQUIRE_FALSE(std::isnan(found[2]));
      });
}
