// Isotonic regression beside its quadratic program and the max-min formula; where digits could be lost; what
// its derivatives are at ties.
#include <banach/engine/grad.hpp>
#include <banach/engine/gradcheck.hpp>
#include <banach/ops/derivatives.hpp>
#include <banach/ops/implicit/qp.hpp>
#include <banach/ops/isotonic.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cfloat>
#include <functional>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

Tensor positive(const Shape& shape, std::uint64_t seed) { return exp(Var(normal(shape, seed))).value(); }

Var fitted(const Var& y, const Var& weights = {}) { return isotonic_regression(y, weights).values; }

// By definition: Q = diag(w), p = -w y, and z_i <= z_(i+1).
Var by_qp(const Var& y, const Var& w) {
  const std::int64_t n = y.size(-1);
  const Var identity(Tensor::eye(n, DType::f64));
  const QpSolved found = qp_solve({.Q = reshape(w, {-1, n, 1}) * identity,
                                   .p = -(w * y),
                                   .G = slice(identity, 0, 0, n - 1) - slice(identity, 0, 1, n),
                                   .h = Var(Tensor::zeros({n - 1}, DType::f64))});
  REQUIRE(found.report.solved());
  return found.z;
}

// Barlow et al. 1972, chapter 1: z_k is the largest over i <= k of the smallest over j >= k of the mean of
// y_i ... y_j.
Tensor by_max_min(const Tensor& y, const Tensor& w) {
  const std::int64_t n = y.size();
  Tensor z = Tensor::full({n}, -infinity, DType::f64);
  for (std::int64_t i = 0; i < n; ++i) {
    std::vector<double> means;
    double top = 0.0, bottom = 0.0;
    for (std::int64_t j = i; j < n; ++j) {
      top += w.at(j) * y.at(j), bottom += w.at(j);
      means.push_back(top / bottom);
    }
    double smallest = infinity;
    for (std::int64_t k = n; k-- > i;) {
      smallest = std::min(smallest, means[static_cast<std::size_t>(k - i)]);
      z.mutable_data<double>()[k] = std::max(z.at(k), smallest);
    }
  }
  return z;
}

Vars gradients(const Tensor& y, const Tensor& w, const Tensor& cotangent,
               const std::function<Var(const Var&, const Var&)>& f) {
  const Tape tape;
  const Vars at{leaf(y), leaf(w)};
  Vars result = grad(sum(f(at[0], at[1]) * Var(cotangent)), at);
  for (Var& g : result) g = Var(g.value());
  return result;
}

// The gradient in y alone, weights 1.
Tensor pulled(const Tensor& y, const Tensor& cotangent) {
  return gradients(y, Tensor::ones(y.shape(), DType::f64), cotangent,
                   [](const Var& v, const Var& w) { return fitted(v, w); })[0]
      .value();
}

void check_values(const Var& z, const std::vector<double>& expected) {
  REQUIRE(z.size() == static_cast<std::int64_t>(expected.size()));
  for (std::int64_t i = 0; i < z.size(); ++i) CHECK(z.value().at(i) == expected[static_cast<std::size_t>(i)]);
}

}  // namespace

TEST_CASE("isotonic regression is its quadratic program, in value and derivative", "[isotonic]") {
  const std::int64_t n = GENERATE(2, 3, 8, 25);
  const Tensor y = normal({6, n}, 1), w = positive({6, n}, 2), g = normal({6, n}, 3);
  CHECK(largest_difference(fitted(Var(y), Var(w)), by_qp(Var(y), Var(w))) <= 1e-9);
  const Vars direct = gradients(y, w, g, [](const Var&v, const Var&u) { return fitted(v, u); }),
             program = gradients(y, w, g, by_qp);
  CHECK(largest_difference(direct[0], program[0]) <= 1e-8);
  CHECK(largest_difference(direct[1], program[1]) <= 1e-8);
}

TEST_CASE("isotonic regression follows the max-min formula", "[isotonic]") {
  for (const std::int64_t n : {1, 2, 17, 150}) {
    const auto seed = static_cast<std::uint64_t>(n);
    // A rising trend keeps the number of blocks up.
    Tensor y = normal({n}, seed, 3.0);
    for (std::int64_t i = 0; i < n; ++i) y.mutable_data<double>()[i] += 0.1 * static_cast<double>(i);
    const Tensor w = positive({n}, seed + 1), ones = Tensor::ones({n}, DType::f64);
    CHECK(largest_difference(fitted(Var(y)), Var(by_max_min(y, ones))) <= 1e-12);
    CHECK(largest_difference(fitted(Var(y), Var(w)), Var(by_max_min(y, w))) <= 1e-12);
  }
}

TEST_CASE("isotonic regression agrees with differences to second order, weights shared or not",
          "[isotonic]") {
  const Var y(normal({3, 7}, 5));
  for (const Shape& shape : {Shape{3, 7}, Shape{7}}) {
    const GradcheckReport report = gradcheck([](const Vars& in) { return Vars{fitted(in[0], in[1])}; },
                                             {y, Var(positive(shape, 6))}, {.order = 2, .step = 1e-5});
    INFO(report.to_string());
    CHECK(report.passed);
  }
}

TEST_CASE("no entry of an isotonic regression is lost beside a larger one", "[isotonic]") {
  const double tiny = 0x1p-50;
  check_values(fitted(Var(tensor({1e-15, 1e20}))), {1e-15, 1e20});
  check_values(fitted(Var(tensor({-1e20, 1e-15, 2e-15, 1e20}))), {-1e20, 1e-15, 2e-15, 1e20});
  check_values(fitted(Var(tensor({1e20, -1e20, 1e-15, 5.0}))), {0.0, 0.0, 1e-15, 5.0});
  check_values(fitted(Var(tensor({-1e20, 3 * tiny, tiny, 1e20}))), {-1e20, 2 * tiny, 2 * tiny, 1e20});
  check_values(fitted(Var(tensor({1e20, 3 * tiny, -1e20}))), {tiny, tiny, tiny});
  check_values(fitted(Var(tensor({1e20, tiny, -1e20})), Var(tensor({1.0, 2.0, 1.0}))),
               {tiny / 2, tiny / 2, tiny / 2});
  check_values(fitted(Var(tensor({1e-300, 2e-300, 1e300}))), {1e-300, 2e-300, 1e300});
  check_values(fitted(Var(tensor({0x3p-930, 0x1p-930, 1e300, DBL_MAX}))),
               {0x1p-929, 0x1p-929, 1e300, DBL_MAX});
  check_values(fitted(Var(tensor({-1e300, 1e-280, 2e-280, DBL_MAX}))), {-1e300, 1e-280, 2e-280, DBL_MAX});
  const Var narrow(tensor({1e20f, 3e-15f, -1e20f, 1e-15f, 2e-15f}));
  const Var z = fitted(narrow);
  CHECK(z.dtype() == DType::f32);
  for (int i = 0; i < 4; ++i) CHECK(z.value().at(i) == Approx(1e-15).epsilon(1e-6));
  CHECK(z.value().at(4) == narrow.value().at(4));
}

TEST_CASE("means of equal entries are these entries, and as one block", "[isotonic]") {
  for (const std::int64_t n : {2, 3, 7, 1000}) {
    const Tensor y = Tensor::full({n}, 0.1, DType::f64);
    const Isotonic plain = isotonic_regression(Var(y)),
                   weighted = isotonic_regression(Var(y), Var(positive({n}, 7)));
    CHECK(same_bits(plain.values, Var(y)));
    CHECK(same_bits(weighted.values, Var(y)));
    CHECK(same_bits(plain.blocks, Var(Tensor::zeros({n}, DType::i64))));
    CHECK(same_bits(weighted.blocks, Var(Tensor::zeros({n}, DType::i64))));
  }
  // The mean of the first three is 0.2 in double.
  const Isotonic two = isotonic_regression(Var(tensor({0.3, 0.2, 0.1, 0.2})));
  CHECK(two.blocks.value().at(3) == 0.0);
}

TEST_CASE("isotonic regression neither overflows nor underflows", "[isotonic]") {
  check_values(fitted(Var(tensor({DBL_MAX, DBL_MAX / 2}))), {0.75 * DBL_MAX, 0.75 * DBL_MAX});
  check_values(fitted(Var(tensor({DBL_MAX, -DBL_MAX, DBL_MAX}))), {0.0, 0.0, DBL_MAX});
  check_values(fitted(Var(tensor({3e-320, 1e-320}))), {2e-320, 2e-320});
  for (const double scale : {0x1p-1000, 0x1p-500, 0x1p500, 0x1p1000})
    check_values(fitted(Var(tensor({4.0, 0.0})), Var(tensor({scale, 3.0 * scale}))), {1.0, 1.0});
  check_values(fitted(Var(tensor({2.0, 1.0})), Var(tensor({1e-308, 1e308}))), {1.0, 1.0});
  const Var top(Tensor::full({3}, DBL_MAX, DType::f64)), first(Tensor::zeros({3}, DType::i64));
  check_values(block_ratio(top, top, first), {1.0, 1.0, 1.0});
  check_values(block_ratio(top, Var(Tensor::ones({3}, DType::f64)), first), {DBL_MAX, DBL_MAX, DBL_MAX});
}

TEST_CASE("derivatives of isotonic regression overflow only where they are that large", "[isotonic]") {
  const auto [dtype, weight, size] = GENERATE(table<DType, double, double>({{DType::f64, 1e308, 1.0},
                                                                            {DType::f64, 1e-310, 1.0},
                                                                            {DType::f32, 1e38, 1.0},
                                                                            {DType::f32, 1e-40, 1.0},
                                                                            {DType::f32, 1e-38, 1e3}}));
  INFO("weight " << weight << " in " << name(dtype));
  // z = (y1 w1 + y2 w2) / W of (2, 1), and a block with weights of its own.
  const Tensor y = tensor({2.0, 1.0, 6.0, 5.0}).to(dtype), w = tensor({weight, weight, 1.0, 3.0}).to(dtype);
  const Tape tape;
  const Var at = leaf(y), weights = leaf(w);
  const Var cotangent(tensor({size, 0.0, 4.0, 0.0}).to(dtype));
  const Var g = grad(sum(fitted(at, weights) * cotangent), {at}, {.create_graph = true})[0];
  check_values(g, {size / 2, size / 2, 1.0, 3.0});
  // Of g_2 = size w_2 / W in w: -size / (4 weight) and its opposite; of g_4 = 4 w_4 / W: -12 / 16 and 4 / 16.
  const Tensor second = grad(sum(g * Var(tensor({0.0, 1.0, 0.0, 1.0}).to(dtype))), {weights})[0].value();
  const double expected = size / 4 / w.at(0);
  if (expected <= (dtype == DType::f64 ? DBL_MAX : FLT_MAX)) {
    CHECK(second.at(0) == Approx(-expected).margin(0));
    CHECK(second.at(1) == Approx(expected).margin(0));
  }
  CHECK(second.at(2) == Approx(-0.75));
  CHECK(second.at(3) == Approx(0.25));
}

TEST_CASE("at ties isotonic regression has the derivative of one block", "[isotonic]") {
  // (1, 1) is one block, and (3, 1, 2), where 2 is the mean of (3, 1), another.
  const Tensor y = tensor({1.0, 1.0, 3.0, 1.0, 2.0, 5.0}), g = normal({6}, 8);
  Tensor near = y.clone();
  near.mutable_data<double>()[0] += 1e-9;  // the first of a tie a little higher
  near.mutable_data<double>()[2] += 1e-9;
  CHECK(largest_difference(Var(pulled(y, g)), Var(pulled(near, g))) <= 1e-14);
  const Tensor expected =
      tensor({(g.at(0) + g.at(1)) / 2, (g.at(0) + g.at(1)) / 2, (g.at(2) + g.at(3) + g.at(4)) / 3,
              (g.at(2) + g.at(3) + g.at(4)) / 3, (g.at(2) + g.at(3) + g.at(4)) / 3, g.at(5)});
  CHECK(largest_difference(Var(pulled(y, g)), Var(expected)) <= 1e-14);
}

TEST_CASE("second derivatives of isotonic regression: none in y, the mean's in the weights", "[isotonic]") {
  const Var y(tensor({2.0, 1.0, 7.0})), w(tensor({1.0, 3.0, 2.0}));
  const std::vector<Vars> second =
      hessian([](const Vars& in) { return Vars{slice(fitted(in[0], in[1]), 0, 0, 1)}; }, {y, w});
  CHECK(largest_difference(second[0][0], Var(Tensor::zeros({3, 3}, DType::f64))) == 0.0);
  // z = (w1 y1 + w2 y2) / W with W = 4.
  const double d11 = -2.0 * 3.0 * (2.0 - 1.0) / 64, d12 = (1.0 - 3.0) * (2.0 - 1.0) / 64,
               d22 = -2.0 * 1.0 * (1.0 - 2.0) / 64;
  CHECK(largest_difference(second[1][1],
                           Var(tensor({d11, d12, 0.0, d12, d22, 0.0, 0.0, 0.0, 0.0}, {3, 3}))) <= 1e-15);
  // d/dw1 of dz/dy1 = w1 / W is w2 / W^2.
  CHECK(second[0][1].value().at(0) == Approx(3.0 / 16));
}

TEST_CASE("isotonic regression of long rows rises, keeps sums, and is its own regression", "[isotonic]") {
  const std::int64_t n = 200000;
  Tensor y = normal({n}, 9), falling = Tensor::empty({n}, DType::f64);
  for (std::int64_t i = 0; i < n; ++i) {
    y.mutable_data<double>()[i] += 1e-4 * static_cast<double>(i);
    falling.mutable_data<double>()[i] = static_cast<double>(n - i);
  }
  const Var z = fitted(Var(y));
  CHECK(min(slice(z, 0, 1, n) - slice(z, 0, 0, n - 1)).item() >= 0.0);
  CHECK(sum(z).item() == Approx(sum(Var(y)).item()).epsilon(1e-12));
  CHECK(same_bits(fitted(z), z));
  CHECK(
      same_bits(fitted(Var(falling)), Var(Tensor::full({n}, 0.5 * static_cast<double>(n + 1), DType::f64))));
}

TEST_CASE("rows of isotonic regression that are not finite spoil no others", "[isotonic]") {
  const Tensor y = normal({4, 5}, 10), g = normal({4, 5}, 11);
  for (const double bad : {not_a_number, infinity, -infinity}) {
    Tensor broken = y.clone();
    broken.mutable_data<double>()[7] = bad;
    const Var z = fitted(Var(broken)), good = fitted(Var(y));
    const Tensor slope = pulled(broken, g), expected = pulled(y, g);
    for (std::int64_t i = 0; i < 20; ++i) {
      if (i / 5 == 1) {
        CHECK(std::isnan(z.value().at(i)));
        CHECK(std::isnan(slope.at(i)));
      } else {
        CHECK(z.value().at(i) == good.value().at(i));
        CHECK(slope.at(i) == expected.at(i));
      }
    }
  }
}

TEST_CASE("isotonic regression refuses weights of other shapes", "[isotonic]") {
  const Var y(normal({2, 3}, 12));
  CHECK_THROWS_WITH(isotonic_regression(y, Var(Tensor::ones({2}, DType::f64))),
                    Contains("[isotonic_regression] weights must have the shape of the first input"));
  CHECK_THROWS_AS(isotonic_regression(y, Var(Tensor::ones({3}))), DTypeError);
  CHECK_THROWS_AS(isotonic_regression(Var(Tensor::zeros({}))), ShapeError);
}
