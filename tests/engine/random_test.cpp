#include <banach/engine/error.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/random.hpp>
#include <banach/engine/simd.hpp>
#include <tests/threads.hpp>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <iomanip>
#include <limits>
#include <set>
#include <vector>

using banach::Random;

namespace {

struct Moments {
  double mean = 0, variance = 0, skewness = 0, kurtosis = 0;
};

template <class T>
Moments moments(const std::vector<T>& x) {
  Moments m;
  const double n = static_cast<double>(x.size());
  for (const T v : x) m.mean += static_cast<double>(v) / n;
  double third = 0, fourth = 0;
  for (const T v : x) {
    const double d = static_cast<double>(v) - m.mean;
    m.variance += d * d / n;
    third += d * d * d / n;
    fourth += d * d * d * d / n;
  }
  m.skewness = third / std::pow(m.variance, 1.5);
  m.kurtosis = fourth / (m.variance * m.variance);
  return m;
}

/// Largest distance of the empirical distribution from the exact one (Kolmogorov and Smirnov), times sqrt(n).
template <class T, class Distribution>
double kolmogorov_smirnov(std::vector<T> x, const Distribution& distribution) {
  std::sort(x.begin(), x.end());
  const double n = static_cast<double>(x.size());
  double distance = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double p = distribution(static_cast<double>(x[i]));
    distance = std::max({distance, p - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - p});
  }
  return distance * std::sqrt(n);
}

// The statistic exceeds this once in 10^6 seeds.
constexpr double ks_bound = 2.69;

double normal_distribution(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

}  // namespace

TEST_CASE("philox gives the published answers", "[random]") {
  // kat_vectors of the authors' Random123 distribution, philox4x32 with 10 rounds.
  using Block = std::array<std::uint32_t, 4>;
  CHECK(banach::philox4x32({0, 0, 0, 0}, {0, 0}) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const std::uint32_t ones = 0xffffffff;
  CHECK(banach::philox4x32({ones, ones, ones, ones}, {ones, ones}) ==
        Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(banach::philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("seeds, streams and splits give different draws, states resume", "[random]") {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    for (std::uint64_t stream = 0; stream < 20; ++stream) seen.insert(Random(seed, stream).bits());
  CHECK(seen.size() == 400);

  Random random(3, 5);
  const Random child = random.split(7);
  CHECK(child.state() == random.split(7).state());
  CHECK_FALSE(child.state() == random.split(8).state());
  CHECK_FALSE(child.state() == random.state());
  (void)random.bits();
  CHECK(child.state() == random.split(7).state());  // whatever was drawn
  std::set<std::uint64_t> streams;
  for (std::uint64_t key = 0; key < 1000; ++key)
    for (std::uint64_t inner = 0; inner < 10; ++inner)
      streams.insert(random.split(key).split(inner).state().stream);
  CHECK(streams.size() == 10000);

  std::vector<float> x(101);
  random.fill_normal(x.data(), 101);
  Random copy(random.state());
  CHECK(random.bits() == copy.bits());
  CHECK(random.normal() == copy.normal());
  CHECK(random.permutation(20) == copy.permutation(20));
}

TEMPLATE_TEST_CASE("fills are the same for any number of threads, and prefixes of each other", "[random]",
                   float, double) {
  const banach::test::KeepThreads keep;
  const std::int64_t n = 100001;
  std::vector<TestType> first(n), other(n);
  for (const bool normal : {false, true}) {
    const auto fill = [&](std::vector<TestType>& x, std::int64_t count) {
      Random random(11);
      normal ? random.fill_normal(x.data(), count, TestType(1), TestType(2))
             : random.fill_uniform(x.data(), count);
      return random.state();
    };
    banach::set_threads(1);
    const auto state = fill(first, n);
    for (const int threads : {2, 5}) {
      banach::set_threads(threads);
      CHECK(fill(other, n) == state);
      CHECK(first == other);
    }
    for (const std::int64_t count : {0, 1, 2, 3, 5, 511, 512, 513, 16384, 16385}) {
      std::fill(other.begin(), other.end(), TestType(-77));
      fill(other, count);
      CHECK(std::equal(first.begin(), first.begin() + count, other.begin()));
      CHECK(std::all_of(other.begin() + count, other.end(), [](TestType v) { return v == TestType(-77); }));
    }
  }
}

TEMPLATE_TEST_CASE("uniform fills have the uniform distribution", "[random]", float, double) {
  std::vector<TestType> x(1000000);
  Random(1).fill_uniform(x.data(), 1000000, TestType(-1), TestType(3));
  CHECK(*std::min_element(x.begin(), x.end()) >= TestType(-1));
  CHECK(*std::max_element(x.begin(), x.end()) < TestType(3));
  CHECK(kolmogorov_smirnov(x, [](double v) { return (v + 1) / 4; }) < ks_bound);
  // Rounding must not reach the excluded end: here every result but `low` itself would round there.
  const TestType low = 1, high = std::nextafter(low, TestType(2));
  Random(2).fill_uniform(x.data(), 1000, low, high);
  CHECK(std::all_of(x.begin(), x.begin() + 1000, [=](TestType v) { return v == low; }));
}

TEMPLATE_TEST_CASE("normal fills have the normal distribution", "[random]", float, double) {
  std::vector<TestType> x(1000000);
  Random(1).fill_normal(x.data(), 1000000);
  const auto m = moments(x);
  // Five deviations of each estimate for n = 10^6.
  CHECK(std::abs(m.mean) < 5e-3);
  CHECK(std::abs(m.variance - 1) < 5 * std::sqrt(2.0) * 1e-3);
  CHECK(std::abs(m.skewness) < 5 * std::sqrt(6.0) * 1e-3);
  CHECK(std::abs(m.kurtosis - 3) < 5 * std::sqrt(24.0) * 1e-3);
  CHECK(kolmogorov_smirnov(x, normal_distribution) < ks_bound);
  // Neighbours come from one pair: they must be uncorrelated, and so must their squares.
  double product = 0, squares = 0;
  for (std::size_t i = 0; i + 1 < x.size(); i += 2) {
    const double a = static_cast<double>(x[i]), b = static_cast<double>(x[i + 1]);
    product += a * b;
    squares += (a * a - 1) * (b * b - 1);
  }
  CHECK(std::abs(product / 5e5) < 5 / std::sqrt(5e5));
  CHECK(std::abs(squares / 5e5) < 5 * 2 / std::sqrt(5e5));

  std::vector<TestType> scaled(1000);
  Random(1).fill_normal(scaled.data(), 1000, TestType(5), TestType(0.5));
  for (std::size_t i = 0; i < 1000; ++i)
    REQUIRE(
        static_cast<double>(scaled[i]) ==
        Approx(5 + 0.5 * static_cast<double>(x[i])).epsilon(4 * std::numeric_limits<TestType>::epsilon()));
}

TEST_CASE("single draws have their distributions", "[random]") {
  Random random(42);
  std::vector<double> uniform(100000), normal(100000);
  for (auto& v : uniform) v = random.uniform();
  for (auto& v : normal) v = random.normal();
  CHECK(kolmogorov_smirnov(uniform, [](double v) { return v; }) < ks_bound);
  CHECK(kolmogorov_smirnov(normal, normal_distribution) < ks_bound);

  std::array<int, 7> counts{};
  for (int i = 0; i < 70000; ++i) ++counts[static_cast<std::size_t>(random.below(7))];
  double chi_squared = 0;
  for (const int count : counts) chi_squared += (count - 10000.0) * (count - 10000.0) / 10000.0;
  CHECK(chi_squared < 38);  // 6 degrees of freedom: exceeded once in 10^6
  // A bound of 3/4 of the range: with the modulus of 63 bits, the lower half would come up twice as often.
  const std::int64_t large = std::int64_t{3} << 61;
  int low = 0;
  for (int i = 0; i < 10000; ++i) {
    const auto draw = random.below(large);
    REQUIRE(draw >= 0);
    REQUIRE(draw < large);
    low += draw < large / 3;
  }
  CHECK(std::abs(low - 10000 / 3.0) < 5 * std::sqrt(10000 * 2 / 9.0));
  CHECK(random.below(1) == 0);
}

TEST_CASE("permutations are permutations, and uniform", "[random]") {
  Random random(9);
  for (const std::int64_t n : {0, 1, 2, 100}) {
    auto order = random.permutation(n);
    REQUIRE(static_cast<std::int64_t>(order.size()) == n);
    std::sort(order.begin(), order.end());
    for (std::int64_t i = 0; i < n; ++i) CHECK(order[static_cast<std::size_t>(i)] == i);
  }
  std::array<int, 27> counts{};  // permutations of three, read as numbers in base 3
  for (int i = 0; i < 60000; ++i) {
    const auto p = random.permutation(3);
    ++counts[static_cast<std::size_t>(9 * p[0] + 3 * p[1] + p[2])];
  }
  double chi_squared = 0;
  for (const int count : counts)
    if (count > 0) chi_squared += (count - 10000.0) * (count - 10000.0) / 10000.0;
  CHECK(std::count_if(counts.begin(), counts.end(), [](int count) { return count > 0; }) == 6);
  CHECK(chi_squared < 36);  // 5 degrees of freedom: exceeded once in 10^6
}

TEST_CASE("the generator refuses arguments outside its domain", "[random]") {
  Random random(0);
  float x = 0;
  CHECK_THROWS_AS(random.below(0), banach::ValueError);
  CHECK_THROWS_AS(random.permutation(-1), banach::ValueError);
  CHECK_THROWS_AS(random.fill_uniform(&x, -1), banach::ValueError);
  CHECK_THROWS_AS(random.fill_normal(&x, -1), banach::ValueError);
}

TEST_CASE("uniform numbers have 24 random bits a float and 53 a double, and end before their bound",
          "[random]") {
  const std::int64_t n = 4000;
  std::vector<float> single(n);
  std::vector<double> wide(n);
  Random(5).fill_uniform(single.data(), n);
  Random(5).fill_uniform(wide.data(), n);
  int odd_single = 0, odd_wide = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
    const double s = std::ldexp(static_cast<double>(single[i]), 24), w = std::ldexp(wide[i], 53);
    CHECK(s == std::floor(s));
    CHECK(w == std::floor(w));
    odd_single += std::fmod(s, 2.0) != 0.0;
    odd_wide += std::fmod(w, 2.0) != 0.0;
  }
  CHECK(std::abs(odd_single - n / 2) < 200);
  CHECK(std::abs(odd_wide - n / 2) < 200);
  // low + u (high - low) rounds up to high now and then, where the interval is narrow: it must not be given
  // out.
  const float low = 1.0f, high = std::nextafter(std::nextafter(1.0f, 2.0f), 2.0f);
  Random(6).fill_uniform(single.data(), n, low, high);
  bool above = false;
  for (const float x : single) {
    CHECK(x >= low);
    CHECK(x < high);
    above = above || x > low;
  }
  CHECK(above);
  Random(7).fill_uniform(single.data(), 3, 2.0f, 2.0f);  // an empty interval is its end
  CHECK(single[0] == 2.0f);
}

TEST_CASE("the numbers of a seed stay what they are, for what was trained with them", "[random]") {
  Random random(12345, 6);
  std::vector<double> drawn{random.uniform(), random.normal(), static_cast<double>(random.below(1000000))};
  std::vector<double> uniform(3), normal(3);
  random.fill_uniform(uniform.data(), 3);
  random.fill_normal(normal.data(), 3, 1.0, 2.0);
  drawn.insert(drawn.end(), uniform.begin(), uniform.end());
  drawn.insert(drawn.end(), normal.begin(), normal.end());
  drawn.push_back(random.split(9).uniform());
  const std::vector<double> kept{0.19585459451887621, -0.82468230732999692, 192577,
                                 0.9632338500732982,  0.47185681487411757,  0.35085662226320002,
                                 -2.1918299275081359, -2.6730540694944729,  1.2169804711682737,
                                 0.86648306200291514};
  REQUIRE(drawn.size() == kept.size());
  for (std::size_t i = 0; i < kept.size(); ++i) {
    INFO("number " << i << ": " << std::setprecision(17) << drawn[i]);
    CHECK(drawn[i] == Approx(kept[i]).epsilon(1e-14));
  }
  CHECK(random.state().counter == 7);  // three draws, two blocks, two blocks
}
