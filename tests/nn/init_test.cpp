#include <banach/engine/blas.hpp>
#include <banach/nn/init.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;
namespace init = banach::nn::init;

namespace {

struct Moments {
  double mean = 0.0, variance = 0.0, largest = 0.0;
};

Moments moments(const Tensor& x) {
  Moments m;
  const auto n = static_cast<double>(x.size());
  for (std::int64_t i = 0; i < x.size(); ++i) m.mean += x.at(i) / n;
  for (std::int64_t i = 0; i < x.size(); ++i) {
    m.variance += (x.at(i) - m.mean) * (x.at(i) - m.mean) / n;
    m.largest = std::max(m.largest, std::abs(x.at(i)));
  }
  return m;
}

}  // namespace

TEST_CASE("fans of linear and convolution weights", "[init]") {
  CHECK(init::fans({5, 3}).in == 3);
  CHECK(init::fans({5, 3}).out == 5);
  CHECK(init::fans({8, 4, 3, 5}).in == 60);
  CHECK(init::fans({8, 4, 3, 5}).out == 120);
  CHECK_THROWS_WITH(init::fans({5}), Contains("[init]") && Contains("(5)"));
}

TEST_CASE("random initial values have the moments they should", "[init]") {
  Random random(1);
  const DType dtype = GENERATE(DType::f32, DType::f64);
  const Shape shape{100, 50, 3, 2};  // fans 300 and 600; 30,000 elements: moments to about 1 %
  const auto check = [&](const Tensor& x, double variance, double limit) {
    const Moments m = moments(x);
    CHECK(x.dtype() == dtype);
    CHECK(std::abs(m.mean) < 4.0 * std::sqrt(variance / 30000.0));
    CHECK(m.variance == Approx(variance).epsilon(0.04));
    if (limit > 0.0) {
      CHECK(m.largest <= limit * (1.0 + 1e-6));
      CHECK(m.largest > 0.99 * limit);
    }
  };
  check(init::uniform(shape, -2.0, 2.0, random, dtype), 4.0 / 3.0, 2.0);
  check(init::normal(shape, 0.0, 3.0, random, dtype), 9.0, 0.0);
  check(init::xavier_uniform(shape, random, 2.0, dtype), 4.0 * 2.0 / 900.0, 2.0 * std::sqrt(6.0 / 900.0));
  check(init::xavier_normal(shape, random, 1.0, dtype), 2.0 / 900.0, 0.0);
  check(init::kaiming_uniform(shape, random, 0.0, dtype), 2.0 / 300.0, std::sqrt(6.0 / 300.0));
  check(init::kaiming_normal(shape, random, 2.0, dtype), 2.0 / (5.0 * 300.0), 0.0);
}

TEST_CASE("orthogonal rows or columns", "[init]") {
  Random random(2);
  const auto [rows, columns] =
      GENERATE(std::pair<int, int>{4, 7}, std::pair<int, int>{7, 4}, std::pair<int, int>{40, 40});
  const Tensor q = init::orthogonal({rows, columns}, random, 2.0, DType::f64);
  const auto small = static_cast<std::int64_t>(std::min(rows, columns));
  const Var gram = matmul(Var(q), Var(q), {.transpose_a = rows > columns, .transpose_b = rows <= columns});
  CHECK(largest_difference((gram * 0.25).value(), Tensor::eye(small, DType::f64)) < 1e-14);
  const Tensor conv = init::orthogonal({4, 2, 3, 1}, random);
  CHECK(conv.dtype() == DType::f32);
  const Var flat = reshape(Var(conv), {4, 6});
  CHECK(largest_difference(matmul(flat, flat, {.transpose_b = true}).value(), Tensor::eye(4)) < 1e-6);
}

TEST_CASE("initial values follow the seed", "[init]") {
  Random a(7), b(7), c(8);
  const Tensor x = init::kaiming_normal({3, 4}, a);
  CHECK(same_bits(x, init::kaiming_normal({3, 4}, b)));
  CHECK_FALSE(same_bits(x, init::kaiming_normal({3, 4}, c)));
  CHECK_FALSE(same_bits(x, init::kaiming_normal({3, 4}, a)));
}

TEST_CASE("bad ranges are refused", "[init]") {
  Random random(1);
  CHECK_THROWS_WITH(init::uniform({2}, 1.0, 0.0, random), Contains("[init] low must be at most high"));
  CHECK_THROWS_WITH(init::normal({2}, 0.0, -1.0, random), Contains("[init] deviation"));
  CHECK_THROWS_WITH(init::orthogonal({2}, random), Contains("[init]"));
}
