// Kernels against long double references, for every instruction set that this processor has.
//
// Largest errors measured over 2e6 arguments per function and instruction set (the hidden test [measure]), in
// ulp:
//
//          exp   log   log1p expm1 sin   cos   tanh  erf   sigmoid softplus rsqrt
//   f32    0.96  0.80  0.80  1.43  2.12  2.02  2.17  2.51  2.17    1.52     1.47
//   f64    0.96  0.81  0.81  1.95  1.92  1.76  2.54  1.75  2.22    1.68     1.50
//
// Everything else is correctly rounded. The bounds below leave some room for arguments not met.
#include <banach/engine/simd.hpp>
#include <tests/isa.hpp>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace simd = banach::simd;
using banach::test::KeepIsa;

namespace {

std::vector<simd::Isa> isas() {
  std::vector<simd::Isa> found;
  for (const auto isa : {simd::Isa::sse2, simd::Isa::avx2, simd::Isa::avx512})
    if (simd::supported(isa)) found.push_back(isa);
  return found;
}

template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();
template <class T>
constexpr T nan_of = std::numeric_limits<T>::quiet_NaN();

template <class T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0 || (std::isnan(a) && std::isnan(b));
}

template <class T>
std::vector<T> special_values() {
  using L = std::numeric_limits<T>;
  std::vector<T> values{0,
                        T(1e-30),
                        L::denorm_min(),
                        L::min() / 4,
                        L::min(),
                        L::epsilon() / 8,
                        T(1e-4),
                        T(0.5),
                        1,
                        T(1) + L::epsilon(),
                        2,
                        T(M_PI),
                        T(87.5),
                        T(88.9),
                        T(103.5),
                        T(709.5),
                        T(745.0),
                        T(12345.0),
                        T(1e6),
                        T(1e15),
                        T(1e30),
                        L::max(),
                        infinity<T>,
                        nan_of<T>};
  const std::size_t count = values.size();
  for (std::size_t i = 0; i < count; ++i) values.push_back(-values[i]);
  return values;
}

/// Arguments spread evenly over [low, high], evenly over the exponents (`all bits`), and the special ones.
template <class T>
std::vector<T> arguments(int count, T low, T high) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<T> uniform(low, high);
  std::vector<T> values = special_values<T>();
  for (int i = 0; i < count; ++i) values.push_back(uniform(random));
  for (int i = 0; i < count; ++i) {
    const std::uint64_t bits = random();
    T x;
    std::memcpy(&x, &bits, sizeof(T));
    values.push_back(x);
  }
  return values;
}

/// Distance of y from the exact value, in units of the last place of T there.
template <class T>
double ulps(T y, long double exact) {
  const T rounded = static_cast<T>(exact);
  if (std::isnan(rounded) || std::isnan(y)) return std::isnan(rounded) && std::isnan(y) ? 0 : 1e30;
  if (std::isinf(rounded) || std::isinf(y)) {
    if (rounded == y) return 0;
    // One of them just overflowed.
    return std::abs(std::isinf(y) ? rounded : y) == std::numeric_limits<T>::max() ? 1 : 1e30;
  }
  if (rounded == 0 && y == 0) return std::signbit(rounded) == std::signbit(y) ? 0 : 1e30;
  const int exponent = std::max(std::ilogb(static_cast<long double>(rounded == 0 ? y : rounded)),
                                std::numeric_limits<T>::min_exponent - 1);
  const long double ulp = std::ldexp(1.0L, exponent - std::numeric_limits<T>::digits + 1);
  return static_cast<double>(std::abs(static_cast<long double>(y) - exact) / ulp);
}

template <class T>
struct UnaryCase {
  const char* name;
  simd::Unary<T> simd::Kernels<T>::*kernel;
  std::function<long double(long double)> exact;
  double low, high;  ///< range of the even sample
  double bound;      ///< ulp
};

template <class T>
std::vector<UnaryCase<T>> unary_cases() {
  using K = simd::Kernels<T>;
  using L = long double;
  return {
      {"neg", &K::neg, [](L x) { return -x; }, -10, 10, 0},
      {"abs", &K::abs, [](L x) { return std::abs(x); }, -10, 10, 0},
      {"square", &K::square, [](L x) { return x * x; }, -10, 10, 0.5001},
      {"reciprocal", &K::reciprocal, [](L x) { return 1 / x; }, -10, 10, 0.5001},
      {"sqrt", &K::sqrt, [](L x) { return std::sqrt(x); }, 0, 10, 0.5001},
      {"rsqrt", &K::rsqrt, [](L x) { return 1 / std::sqrt(x); }, 0, 10, 1.5},
      {"exp", &K::exp, [](L x) { return std::exp(x); }, -20, 20, 1.0},
      {"log", &K::log, [](L x) { return std::log(x); }, 0, 3, 1.0},
      {"log1p", &K::log1p, [](L x) { return std::log1p(x); }, -1, 2, 1.0},
      {"expm1", &K::expm1, [](L x) { return std::expm1(x); }, -2, 2, 2.5},
      {"sin", &K::sin, [](L x) { return std::sin(x); }, -30, 30, 2.5},
      {"cos", &K::cos, [](L x) { return std::cos(x); }, -30, 30, 2.5},
      {"tanh", &K::tanh, [](L x) { return std::tanh(x); }, -3, 3, 3},
      {"erf", &K::erf, [](L x) { return std::erf(x); }, -4, 4, 3},
      {"sigmoid", &K::sigmoid,
       [](L x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }, -20, 20, 2.5},
      {"relu", &K::relu, [](L x) { return x < 0 ? 0.0L : x; }, -10, 10, 0},
      {"softplus", &K::softplus,
       [](L x) { return std::isnan(x) ? x : std::max(x, 0.0L) + std::log1p(std::exp(-std::abs(x))); }, -20,
       20, 2},
      {"sign", &K::sign, [](L x) { return x > 0   ? 1.0L
                                          : x < 0 ? -1.0L
                                                  : x; }, -10, 10, 0},
  };
}

template <class T>
double largest_error(const UnaryCase<T>& test, const std::vector<T>& x, T* where) {
  std::vector<T> y(x.size());
  (simd::kernels<T>().*test.kernel)(x.data(), y.data(), static_cast<std::int64_t>(x.size()));
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double error = ulps(y[i], test.exact(static_cast<long double>(x[i])));
    if (error > worst) {
      worst = error;
      *where = x[i];
    }
  }
  return worst;
}

}  // namespace

TEMPLATE_TEST_CASE("unary kernels follow the exact functions", "[simd]", float, double) {
  const KeepIsa keep;
  for (const auto isa : isas()) {
    simd::select(isa);
    for (const auto& test : unary_cases<TestType>()) {
      TestType where = 0;
      const auto x = arguments(20000, static_cast<TestType>(test.low), static_cast<TestType>(test.high));
      const double error = largest_error(test, x, &where);
      INFO(simd::name(isa) << " " << test.name << " at " << std::hexfloat << where);
      CHECK(error <= test.bound);
    }
  }
}

// Prints the table that the bounds above come from: simd_test "[measure]".
TEMPLATE_TEST_CASE("measure the errors of unary kernels", "[.][measure]", float, double) {
  const KeepIsa keep;
  for (const auto isa : isas()) {
    simd::select(isa);
    for (const auto& test : unary_cases<TestType>()) {
      TestType where = 0;
      const auto x = arguments(1000000, static_cast<TestType>(test.low), static_cast<TestType>(test.high));
      const double error = largest_error(test, x, &where);
      std::printf("f%zu %-7s %-10s %.3f ulp at %.9g\n", 8 * sizeof(TestType), simd::name(isa).data(),
                  test.name, error, static_cast<double>(where));
    }
  }
}

namespace {

/// A few runs of arguments, with special values in every kind of place.
template <class T>
std::vector<T> mixed(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<T> normal(0, 3);
  const auto special = special_values<T>();
  std::vector<T> x(static_cast<std::size_t>(n));
  for (auto& v : x) v = random() % 5 == 0 ? special[random() % special.size()] : normal(random);
  return x;
}

template <class T>
struct BinaryCase {
  const char* name;
  simd::Binary<T> simd::Kernels<T>::*kernel;
  T (*exact)(T, T);
};

template <class T>
std::vector<BinaryCase<T>> binary_cases() {
  using K = simd::Kernels<T>;
  return {
      {"add", &K::add, [](T a, T b) { return a + b; }},
      {"sub", &K::sub, [](T a, T b) { return a - b; }},
      {"mul", &K::mul, [](T a, T b) { return a * b; }},
      {"div", &K::div, [](T a, T b) { return a / b; }},
      {"maximum", &K::maximum,
       [](T a, T b) { return std::isnan(a) || std::isnan(b) ? nan_of<T>
                             : a > b                        ? a
                                                            : b; }},
      {"minimum", &K::minimum,
       [](T a, T b) { return std::isnan(a) || std::isnan(b) ? nan_of<T>
                             : a < b                        ? a
                                                            : b; }},
      {"equal", &K::equal, [](T a, T b) { return T(a == b); }},
      {"not_equal", &K::not_equal, [](T a, T b) { return T(a != b); }},
      {"less", &K::less, [](T a, T b) { return T(a < b); }},
      {"less_equal", &K::less_equal, [](T a, T b) { return T(a <= b); }},
      {"greater", &K::greater, [](T a, T b) { return T(a > b); }},
      {"greater_equal", &K::greater_equal, [](T a, T b) { return T(a >= b); }},
  };
}

/// Calls body(x, y, n) for n = 0 ... 40 and some longer lengths, and checks that y is written up to n and no
/// further.
template <class T, class Body>
void for_lengths(const Body& body) {
  for (std::int64_t n = 0; n < 300; n += n < 70 ? 1 : 57) {
    std::vector<T> out(static_cast<std::size_t>(n) + 8, T(-77));
    body(n, out.data());
    for (std::size_t i = static_cast<std::size_t>(n); i < out.size(); ++i) REQUIRE(out[i] == T(-77));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("binary kernels are exact in all three forms and lengths", "[simd]", float, double) {
  using T = TestType;
  const KeepIsa keep;
  for (const auto isa : isas()) {
    simd::select(isa);
    for (const auto& test : binary_cases<T>()) {
      INFO(simd::name(isa) << " " << test.name);
      const auto& kernel = simd::kernels<T>().*test.kernel;
      for_lengths<T>([&](std::int64_t n, T* out) {
        const auto a = mixed<T>(n, 1), b = mixed<T>(n, 2);
        kernel.vv(a.data(), b.data(), out, n);
        for (std::int64_t i = 0; i < n; ++i) REQUIRE(same_bits(out[i], test.exact(a[i], b[i])));
        for (const T scalar : {T(2), T(-0.0), nan_of<T>}) {
          kernel.vs(a.data(), scalar, out, n);
          for (std::int64_t i = 0; i < n; ++i) REQUIRE(same_bits(out[i], test.exact(a[i], scalar)));
          kernel.sv(scalar, a.data(), out, n);
          for (std::int64_t i = 0; i < n; ++i) REQUIRE(same_bits(out[i], test.exact(scalar, a[i])));
        }
        auto in_place = a;
        kernel.vv(in_place.data(), b.data(), in_place.data(), n);
        for (std::int64_t i = 0; i < n; ++i) REQUIRE(same_bits(in_place[i], test.exact(a[i], b[i])));
      });
      // Every pair of special values.
      for (const T x : special_values<T>()) {
        const auto y = special_values<T>();
        std::vector<T> out(y.size());
        kernel.sv(x, y.data(), out.data(), static_cast<std::int64_t>(y.size()));
        for (std::size_t i = 0; i < y.size(); ++i) {
          INFO(x << " " << y[i]);
          const T expected = test.exact(x, y[i]);
          if (x == 0 && y[i] == 0 &&
              (test.kernel == &simd::Kernels<T>::maximum || test.kernel == &simd::Kernels<T>::minimum))
            REQUIRE(out[i] == 0);  // either zero will do
          else
            REQUIRE(same_bits(out[i], expected));
        }
      }
    }
  }
}

TEMPLATE_TEST_CASE("an element's bits do not depend on where it stands", "[simd]", float, double) {
  using T = TestType;
  const KeepIsa keep;
  for (const auto isa : isas()) {
    simd::select(isa);
    for (const auto& test : unary_cases<T>()) {
      INFO(simd::name(isa) << " " << test.name);
      const auto kernel = simd::kernels<T>().*test.kernel;
      const auto x = mixed<T>(300, 4);
      std::vector<T> alone(x.size());
      for (std::size_t i = 0; i < x.size(); ++i) kernel(&x[i], &alone[i], 1);
      for (std::size_t offset = 0; offset < 20; offset += 3)
        for_lengths<T>([&](std::int64_t n, T* out) {
          n = std::min(n, static_cast<std::int64_t>(x.size() - offset));
          kernel(x.data() + offset, out, n);
          for (std::int64_t i = 0; i < n; ++i)
            REQUIRE(same_bits(out[i], alone[offset + static_cast<std::size_t>(i)]));
          for (std::int64_t i = 0; i < n; ++i) out[i] = x[offset + static_cast<std::size_t>(i)];
          kernel(out, out, n);
          for (std::int64_t i = 0; i < n; ++i)
            REQUIRE(same_bits(out[i], alone[offset + static_cast<std::size_t>(i)]));
          std::fill(out, out + n, T(-77));
        });
    }
  }
}

TEMPLATE_TEST_CASE("kernels with parameters", "[simd]", float, double) {
  using T = TestType;
  const KeepIsa keep;
  for (const auto isa : isas()) {
    simd::select(isa);
    INFO(simd::name(isa));
    const auto& k = simd::kernels<T>();
    for_lengths<T>([&](std::int64_t n, T* out) {
      const auto x = mixed<T>(n, 1), y = mixed<T>(n, 2), condition = mixed<T>(n, 3);
      k.leaky_relu(x.data(), T(0.1), out, n);
      for (std::int64_t i = 0; i < n; ++i) REQUIRE(same_bits(out[i], x[i] > 0 ? x[i] : T(0.1) * x[i]));
      k.clamp(x.data(), T(-1), T(2), out, n);
      for (std::int64_t i = 0; i < n; ++i)
        REQUIRE(same_bits(out[i], x[i] < -1 ? T(-1) : x[i] > 2 ? T(2) : x[i]));
      const auto close = [](T value, T a, T b, T c) {  // a b + c, fused or not
        return same_bits(value, std::fma(a, b, c)) || same_bits(value, static_cast<T>(a * b) + c);
      };
      k.scale_add(x.data(), T(0.3), T(-0.7), out, n);
      for (std::int64_t i = 0; i < n; ++i) REQUIRE(close(out[i], x[i], T(0.3), T(-0.7)));
      std::copy(y.begin(), y.end(), out);
      k.axpy(T(0.3), x.data(), out, n);
      for (std::int64_t i = 0; i < n; ++i) REQUIRE(close(out[i], x[i], T(0.3), y[i]));
      std::copy(y.begin(), y.end(), out);
      k.add_to(x.data(), out, n);
      for (std::int64_t i = 0; i < n; ++i) REQUIRE(same_bits(out[i], y[i] + x[i]));
      k.elu(x.data(), T(0.3), out, n);
      std::vector<T> power(x.size());
      k.expm1(x.data(), power.data(), n);
      for (std::size_t i = 0; i < x.size(); ++i)
        REQUIRE(same_bits(out[i], x[i] > 0 ? x[i] : T(0.3) * power[i]));
      k.exp(x.data(), power.data(), n);
      for (const T above : {T(1), T(0)}) {
        k.elu_slope(x.data(), T(0.3), above, out, n);
        for (std::size_t i = 0; i < x.size(); ++i)
          REQUIRE(same_bits(out[i], x[i] > 0 ? above : T(0.3) * power[i]));
      }
      k.select(condition.data(), x.data(), y.data(), out, n);
      for (std::int64_t i = 0; i < n; ++i) REQUIRE(same_bits(out[i], condition[i] != 0 ? x[i] : y[i]));
    });
  }
}

TEMPLATE_TEST_CASE("kernels of vjps, also in place of the cotangent", "[simd]", float, double) {
  using T = TestType;
  const KeepIsa keep;
  for (const auto isa : isas()) {
    simd::select(isa);
    INFO(simd::name(isa));
    const auto& k = simd::kernels<T>();
    for_lengths<T>([&](std::int64_t n, T* out) {
      const auto g = mixed<T>(n, 1), y = mixed<T>(n, 2);
      const auto check = [&](auto kernel, auto expected) {
        kernel(g.data(), y.data(), out, n);
        for (std::int64_t i = 0; i < n; ++i) REQUIRE(same_bits(out[i], expected(g[i], y[i])));
        std::copy(g.begin(), g.end(), out);
        kernel(out, y.data(), out, n);
        for (std::int64_t i = 0; i < n; ++i) REQUIRE(same_bits(out[i], expected(g[i], y[i])));
      };
      check(k.tanh_vjp, [](T u, T v) { return u * (1 - v * v); });
      check(k.sigmoid_vjp, [](T u, T v) { return u * (v * (1 - v)); });
      check(k.relu_vjp, [](T u, T v) { return v > 0 ? u : T(0); });
      for (const T above : {T(1), T(0)}) {
        const auto slope = [&](T v, T over) {
          T result;
          k.elu_slope(&v, T(0.3), over, &result, 1);
          return result;
        };
        check([&](const T* u, const T* v, T* to,
                  std::int64_t count) { k.elu_vjp(u, v, T(0.3), above, to, count); },
              [&](T u, T v) { return u * slope(v, above); });
        const auto x = mixed<T>(n, 3);
        std::vector<T> of_g(x.size() + 1, T(-77));
        k.elu_vjp_vjp(y.data(), g.data(), x.data(), T(0.3), above, of_g.data(), out, n);
        REQUIRE(of_g.back() == T(-77));
        for (std::size_t i = 0; i < x.size(); ++i) {
          REQUIRE(same_bits(of_g[i], y[i] * slope(x[i], above)));
          REQUIRE(same_bits(out[i], y[i] * g[i] * slope(x[i], 0)));
        }
      }
    });
  }
}

TEMPLATE_TEST_CASE("reductions agree with long double", "[simd]", float, double) {
  using T = TestType;
  const KeepIsa keep;
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  for (const auto isa : isas()) {
    simd::select(isa);
    INFO(simd::name(isa));
    const auto& k = simd::kernels<T>();
    std::mt19937 random(5);
    std::normal_distribution<T> normal;
    for (std::int64_t n = 0; n < 20000; n = n < 40 ? n + 1 : n * 2 + 3) {
      std::vector<T> a(static_cast<std::size_t>(n) + 1), b(a);
      for (auto& v : a) v = normal(random);
      for (auto& v : b) v = normal(random);
      long double sum = 0, dot = 0, distance = 0, norm = 0, size = 0, largest = -infinity<T>,
                  smallest = infinity<T>;
      for (std::int64_t i = 0; i < n; ++i) {
        const long double x = a[i], y = b[i];
        sum += x, dot += x * y, distance += (x - y) * (x - y), norm += x * x;
        size += std::abs(x) + std::abs(x * y);
        largest = std::max(largest, x);
        smallest = std::min(smallest, x);
      }
      const auto close = [&](T value, long double exact) {
        return std::abs(static_cast<double>(value - exact)) <= 4 * eps * static_cast<double>(size);
      };
      REQUIRE(close(k.sum(a.data(), n), sum));
      REQUIRE(close(k.dot(a.data(), b.data(), n), dot));
      REQUIRE(
          std::abs(static_cast<double>(static_cast<long double>(k.wide_dot(a.data(), b.data(), n)) - dot)) <=
          4 * std::numeric_limits<double>::epsilon() * static_cast<double>(size));
      REQUIRE(static_cast<double>(k.squared_distance(a.data(), b.data(), n)) ==
              Approx(static_cast<double>(distance)).epsilon(20 * eps));
      REQUIRE(static_cast<double>(k.squared_norm(a.data(), n)) ==
              Approx(static_cast<double>(norm)).epsilon(20 * eps));
      REQUIRE(same_bits(k.max(a.data(), n), static_cast<T>(largest)));
      REQUIRE(same_bits(k.min(a.data(), n), static_cast<T>(smallest)));
      // Another alignment, same bits.
      std::vector<T> moved(a.size() + 1);
      std::copy(a.begin(), a.end(), moved.begin() + 1);
      REQUIRE(same_bits(k.sum(moved.data() + 1, n), k.sum(a.data(), n)));
      REQUIRE(same_bits(k.dot(moved.data() + 1, b.data(), n), k.dot(a.data(), b.data(), n)));
      for (const std::int64_t place : {std::int64_t{0}, n / 2, n - 1}) {
        if (place < 0 || place >= n) continue;
        const T kept = a[place];
        a[place] = nan_of<T>;
        REQUIRE(std::isnan(k.max(a.data(), n)));
        REQUIRE(std::isnan(k.min(a.data(), n)));
        REQUIRE(std::isnan(k.sum(a.data(), n)));
        a[place] = infinity<T>;
        REQUIRE(k.max(a.data(), n) == infinity<T>);
        REQUIRE(k.sum(a.data(), n) == infinity<T>);
        a[place] = kept;
      }
    }
    // Ten million terms: a plain float sum of these stops growing at 2^24 / 10.
    const std::int64_t many = 10000000;
    const std::vector<T> tenth(static_cast<std::size_t>(many), T(0.1));
    CHECK(static_cast<double>(k.sum(tenth.data(), many)) ==
          Approx(static_cast<double>(T(0.1)) * static_cast<double>(many)).epsilon(40 * eps));
  }
}

TEMPLATE_TEST_CASE("rows: softmax, log-softmax, log-sum-exp", "[simd]", float, double) {
  using T = TestType;
  const KeepIsa keep;
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  for (const auto isa : isas()) {
    simd::select(isa);
    INFO(simd::name(isa));
    const auto& k = simd::kernels<T>();
    std::mt19937 random(6);
    std::normal_distribution<T> normal(0, 5);
    for (const T shift : {T(0), T(1000), T(-1000)}) {
      for_lengths<T>([&](std::int64_t n, T* out) {
        std::vector<T> x(static_cast<std::size_t>(n));
        for (auto& v : x) v = normal(random) + shift;
        if (n > 3) x[1] = -infinity<T>;
        long double largest = -infinity<T>, total = 0;
        for (const T v : x) largest = std::max<long double>(largest, v);
        for (const T v : x) total += std::exp(v - largest);
        const long double exact = n == 0 ? -infinity<T> : largest + std::log(total);
        const T value = k.log_sum_exp(x.data(), n);
        if (n == 0)
          REQUIRE(value == -infinity<T>);
        else
          REQUIRE(static_cast<double>(value) ==
                  Approx(static_cast<double>(exact)).epsilon(2 * eps).margin(4 * eps));
        k.softmax_row(x.data(), out, n);
        // Rounding x - max to eps |x - max| changes the exponential by as much, relatively.
        for (std::int64_t i = 0; i < n; ++i)
          REQUIRE(static_cast<double>(out[i]) ==
                  Approx(static_cast<double>(std::exp(x[i] - exact))).epsilon(40 * eps).margin(1e-37));
        k.log_softmax_row(x.data(), out, n);
        for (std::int64_t i = 0; i < n; ++i) {
          const double expected = static_cast<double>((x[i] - largest) - std::log(total));
          if (std::isinf(expected))
            REQUIRE(static_cast<double>(out[i]) == expected);
          else
            REQUIRE(static_cast<double>(out[i]) == Approx(expected).epsilon(4 * eps).margin(4 * eps));
        }
        auto in_place = x;
        k.log_softmax_row(in_place.data(), in_place.data(), n);
        for (std::int64_t i = 0; i < n; ++i) REQUIRE(same_bits(in_place[i], out[i]));
      });
    }
    std::vector<T> x(21, -infinity<T>);
    CHECK(k.log_sum_exp(x.data(), 21) == -infinity<T>);
    x[20] = infinity<T>;
    CHECK(k.log_sum_exp(x.data(), 21) == infinity<T>);
    x[3] = nan_of<T>;
    CHECK(std::isnan(k.log_sum_exp(x.data(), 21)));
  }
}

TEMPLATE_TEST_CASE("rows: layer normalisation", "[simd]", float, double) {
  using T = TestType;
  const KeepIsa keep;
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  for (const auto isa : isas()) {
    simd::select(isa);
    INFO(simd::name(isa));
    const auto& k = simd::kernels<T>();
    std::mt19937 random(8);
    std::normal_distribution<T> normal(100, 2);  // an offset that a one-pass variance would stumble over
    for_lengths<T>([&](std::int64_t n, T* out) {
      std::vector<T> x(static_cast<std::size_t>(n));
      for (auto& v : x) v = normal(random);
      T mean = -1, rstd = -1;
      k.normalize_row(x.data(), T(1e-5), out, n, &mean, &rstd);
      if (n == 0) return;
      long double sum = 0, squares = 0;
      for (const T v : x) sum += v;
      const long double centre = sum / static_cast<long double>(n);
      for (const T v : x) squares += (v - centre) * (v - centre);
      const long double scale =
          1 / std::sqrt(squares / static_cast<long double>(n) + static_cast<long double>(T(1e-5)));
      REQUIRE(static_cast<double>(mean) == Approx(static_cast<double>(centre)).epsilon(eps));
      // The mean is rounded to T: its error of eps * 100 shifts every entry.
      const double shift = 200 * eps * static_cast<double>(scale);
      REQUIRE(static_cast<double>(rstd) ==
              Approx(static_cast<double>(scale)).epsilon(n == 1 ? 1e-3 : 20 * eps + shift * shift));
      for (std::int64_t i = 0; i < n; ++i)
        REQUIRE(static_cast<double>(out[i]) ==
                Approx(static_cast<double>((x[i] - centre) * scale)).epsilon(20 * eps + shift).margin(shift));
    });
  }
}

TEMPLATE_TEST_CASE("rows: layer normalisation with scale and shift, and its vjp", "[simd]", float, double) {
  using T = TestType;
  const KeepIsa keep;
  const T eps = std::numeric_limits<T>::epsilon();
  for (const auto isa : isas()) {
    simd::select(isa);
    INFO(simd::name(isa));
    const auto& k = simd::kernels<T>();
    std::mt19937 random(9);
    std::normal_distribution<T> normal(0, 2);
    for_lengths<T>([&](std::int64_t n, T* out) {
      const auto size = static_cast<std::size_t>(n);
      std::vector<T> x(size), gamma(size), beta(size), g(size), y(size);
      for (auto* v : {&x, &gamma, &beta, &g})
        for (auto& e : *v) e = normal(random);
      T mean = 0, rstd = 0;
      k.normalize_row(x.data(), T(1e-3), y.data(), n, &mean, &rstd);
      k.layer_norm_row(x.data(), gamma.data(), beta.data(), T(1e-3), out, n);
      for (std::size_t i = 0; i < size; ++i)
        REQUIRE(static_cast<double>(out[i]) ==
                Approx(static_cast<double>(y[i] * gamma[i] + beta[i])).margin(static_cast<double>(40 * eps)));
      for (const bool scaled : {false, true}) {
        k.normalize_vjp_row(g.data(), scaled ? gamma.data() : nullptr, y.data(), rstd, out, n);
        long double sum = 0, along = 0, size_of_terms = 1;
        for (std::size_t i = 0; i < size; ++i) {
          const long double h = scaled ? static_cast<long double>(g[i]) * gamma[i] : g[i];
          sum += h / static_cast<long double>(n), along += h * y[i] / static_cast<long double>(n);
          size_of_terms = std::max(size_of_terms, std::abs(h) * (1 + std::abs(y[i])));
        }
        for (std::size_t i = 0; i < size; ++i) {
          const long double h = scaled ? static_cast<long double>(g[i]) * gamma[i] : g[i];
          REQUIRE(static_cast<double>(out[i]) ==
                  Approx(static_cast<double>(rstd * (h - sum - y[i] * along)))
                      .margin(static_cast<double>(20 * eps * rstd * size_of_terms)));
        }
      }
    });
  }
}

TEMPLATE_TEST_CASE("rows: attention's softmax, and vjps of softmax", "[simd]", float, double) {
  using T = TestType;
  const KeepIsa keep;
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  for (const auto isa : isas()) {
    simd::select(isa);
    INFO(simd::name(isa));
    const auto& k = simd::kernels<T>();
    std::mt19937 random(10);
    std::normal_distribution<T> normal(0, 3);
    for (const T scale : {T(0.25), T(1), T(-0.5), T(0)})
      for_lengths<T>([&](std::int64_t n, T* out) {
        const auto size = static_cast<std::size_t>(n);
        std::vector<T> x(size), g(size), y(size), hidden(size);
        for (std::size_t i = 0; i < size; ++i) x[i] = normal(random), g[i] = normal(random);
        if (n > 3 && scale != 0) x[2] = scale > 0 ? -infinity<T> : infinity<T>;  // a hidden key
        for (std::size_t i = 0; i < size; ++i) hidden[i] = scale * x[i];
        k.softmax_row(hidden.data(), y.data(), n);
        std::copy(x.begin(), x.end(), out);
        k.attention_rows(out, n, 1, n, n, scale);
        for (std::size_t i = 0; i < size; ++i)
          REQUIRE(static_cast<double>(out[i]) ==
                  Approx(static_cast<double>(y[i])).epsilon(80 * eps).margin(1e-37));

        long double along = 0, largest = 1;
        for (std::size_t i = 0; i < size; ++i) {
          along += static_cast<long double>(g[i]) * y[i];
          largest = std::max<long double>(largest, std::abs(g[i]));
        }
        k.softmax_vjp_row(g.data(), y.data(), out, n);
        const double margin = 20 * eps * static_cast<double>(largest);
        for (std::size_t i = 0; i < size; ++i)
          REQUIRE(static_cast<double>(out[i]) ==
                  Approx(static_cast<double>(y[i] * (g[i] - along))).margin(margin));
        if (n > 3 && scale != 0) g[2] = nan_of<T>;
        std::vector<T> in_place = g;
        k.attention_vjp_row(y.data(), T(0.5), in_place.data(), n);
        for (std::size_t i = 0; i < size; ++i)
          REQUIRE(static_cast<double>(in_place[i]) == Approx(static_cast<double>(out[i] / 2)).margin(margin));
      });
    // Nothing is seen; something is no number; all is one; there is nothing.
    std::vector<T> row(37, -infinity<T>);
    k.attention_rows(row.data(), 37, 1, 37, 37, T(2));
    CHECK(std::count(row.begin(), row.end(), T(0)) == 37);
    row.assign(37, T(1));
    row[36] = nan_of<T>;
    k.attention_rows(row.data(), 37, 1, 37, 37, T(2));
    CHECK(std::all_of(row.begin(), row.end(), [](T e) { return std::isnan(e); }));
    row.assign(37, std::numeric_limits<T>::max());
    k.attention_rows(row.data(), 37, 1, 37, 37, T(1));
    CHECK(static_cast<double>(row[36]) == Approx(1.0 / 37).epsilon(40 * eps));
    k.attention_rows(row.data(), 37, 1, 0, 0, T(1));
    k.attention_rows(row.data(), 37, 0, 37, 37, T(1));
    CHECK(static_cast<double>(row[36]) == Approx(1.0 / 37).epsilon(40 * eps));

    // Every row sees one entry more than the one before, up to a limit; many and long rows.
    for (const std::int64_t ld : {70, 3000}) {
      constexpr std::int64_t rows = 50;
      const std::int64_t limit = ld - 5, first = ld > 100 ? 2960 : 0;
      std::vector<T> all(static_cast<std::size_t>(rows * ld));
      for (T& e : all) e = normal(random);
      const std::vector<T> before = all;
      k.attention_rows(all.data(), ld, rows, first, limit, T(0.5));
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t n = std::min(first + r, limit);
        std::vector<T> alone(before.begin() + r * ld, before.begin() + (r + 1) * ld);
        k.attention_rows(alone.data(), ld, 1, n, n, T(0.5));
        std::fill(alone.begin() + n, alone.begin() + limit, T(0));
        for (std::int64_t j = 0; j < ld; ++j)
          REQUIRE(same_bits(all[static_cast<std::size_t>(r * ld + j)], alone[static_cast<std::size_t>(j)]));
      }
    }
  }
}

TEST_CASE("the instruction set can be chosen", "[simd]") {
  const KeepIsa keep;
  CHECK(simd::supported(simd::Isa::sse2));
  CHECK(simd::supported(simd::best()));
  for (const auto isa : {simd::Isa::sse2, simd::Isa::avx2, simd::Isa::avx512}) {
    if (simd::supported(isa)) {
      simd::select(isa);
      CHECK(simd::active() == isa);
    } else {
      CHECK_THROWS_AS(simd::select(isa), std::invalid_argument);
    }
  }
  simd::select(simd::Isa::sse2);
  const auto* sse2 = &simd::kernels<float>();
  simd::select(simd::best());
  CHECK((simd::best() == simd::Isa::sse2) == (sse2 == &simd::kernels<float>()));
  CHECK(simd::name(simd::Isa::avx512) == "avx512");
}
