// Soft sorts and ranks by their limits, symmetries, differences and definition; isotonic regression as a
// layer (tests/ops/isotonic_test.cpp has its values and derivatives).
#include <banach/nn/soft_sort.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/qp.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

#include <functional>
#include <numeric>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

Tensor positive(const Shape& shape, std::uint64_t seed) { return (exp(Var(normal(shape, seed)))).value(); }

// The columns in another order.
Var permuted(const Var& x, const std::vector<double>& order) {
  return take(x, -1, Var(tensor(order, {x.size(-1)}).to(DType::i64)));
}

void check_gradients_of(Function f, const Vars& inputs) {
  const GradcheckReport report = gradcheck(f, inputs, {.order = 2, .step = 1e-5});
  INFO(report.to_string());
  CHECK(report.passed);
}

}  // namespace

TEST_CASE("derivatives of isotonic regression, soft sorts and soft ranks agree with differences",
          "[soft_sort]") {
  const Var x(normal({4, 6}, 5)), w(positive({6}, 6));
  check_gradients_of([](const Vars& in) { return Vars{isotonic(in[0], in[1])}; }, {x, w});
  for (const bool descending : {false, true})
    for (const double eps : {0.1, 0.5, 2.0}) {
      const SoftSortOptions options{.eps = eps, .descending = descending};
      check_gradients_of([&](const Vars& in) { return Vars{soft_sort(in[0], options)}; }, {x});
      check_gradients_of([&](const Vars& in) { return Vars{soft_rank(in[0], options)}; }, {x});
    }
}

TEST_CASE("small eps gives the hard sort and ranks, large eps the mean", "[soft_sort]") {
  const std::int64_t n = GENERATE(2, 5, 40);
  const bool descending = GENERATE(false, true);
  const DType dtype = GENERATE(DType::f32, DType::f64);
  // Entries at least 1/2 apart, in some order.
  Random random(7);
  Tensor x = Tensor::empty({3, n}, DType::f64);
  for (std::int64_t row = 0; row < 3; ++row) {
    const auto order = random.permutation(n);
    for (std::int64_t i = 0; i < n; ++i)
      x.mutable_data<double>()[row * n + i] =
          static_cast<double>(order[static_cast<std::size_t>(i)]) - 3.0 + 0.5 * random.uniform();
  }
  const Var v(x.to(dtype));
  const Var hard = sort(v, -1, descending).values;
  Tensor rank = Tensor::zeros({3, n}, DType::f64);
  for (std::int64_t i = 0; i < 3 * n; ++i)
    for (std::int64_t j = i / n * n; j < i / n * n + n; ++j)
      rank.mutable_data<double>()[i] += descending ? x.at(j) >= x.at(i) : x.at(j) <= x.at(i);
  for (const double eps : {1e-12, 1e-6, 0.1}) {
    INFO("eps " << eps);
    CHECK(same_bits(soft_sort(v, {.eps = eps, .descending = descending}), hard));
    CHECK(same_bits(soft_rank(v, {.eps = eps, .descending = descending}), Var(rank.to(dtype))));
  }
  const double loose = dtype == DType::f64 ? 1e-6 : 1e-3;
  const Var mean_of = broadcast_to(mean(v, {1}, true), {3, n});
  CHECK(largest_difference(soft_sort(v, {.eps = 1e9, .descending = descending}), mean_of) <= loose);
  const Var middle(Tensor::full({3, n}, 0.5 * static_cast<double>(n + 1), dtype));
  CHECK(largest_difference(soft_rank(v, {.eps = 1e9, .descending = descending}), middle) <= loose);
}

TEST_CASE("a soft sort of two numbers has a closed form", "[soft_sort]") {
  // The projection of (1, 2) / eps onto the segment from (a, b) to (b, a), a <= b.
  const double eps = 0.5;
  const Var near(tensor({1.0, 4.0})), far(tensor({1.0, 2.5}));
  CHECK(largest_difference(soft_sort(near, {.eps = eps}), Var(tensor({1.5, 3.5}))) <=
        1e-10);                                         // 1 / eps apart
  CHECK(same_bits(soft_sort(far, {.eps = eps}), far));  // the end
  CHECK(largest_difference(soft_rank(Var(tensor({0.2, 0.0})), {.eps = eps}), Var(tensor({1.7, 1.3}))) <=
        1e-10);
}

TEST_CASE("soft sorts and ranks have the values of the paper's own implementation", "[soft_sort]") {
  // The example in the README of google-research/fast-soft-sort.
  const Var x(tensor({5.0, 1.0, 2.0, 2.0, 1.0, 5.0}, {2, 3}));
  const double third = 1.0 / 3;
  CHECK(largest_difference(soft_sort(x, {.eps = 1.0}),
                           Var(tensor({5 * third, 8 * third, 11 * third, 5 * third, 8 * third, 11 * third},
                                      {2, 3}))) <= 1e-15);
  CHECK(same_bits(soft_sort(x, {.eps = 0.1}), Var(tensor({1.0, 2.0, 5.0, 1.0, 2.0, 5.0}, {2, 3}))));
  CHECK(same_bits(soft_rank(x, {.eps = 2.0}), Var(tensor({3.0, 1.25, 1.75, 1.75, 1.25, 3.0}, {2, 3}))));
  CHECK(same_bits(soft_rank(x, {.eps = 1.0}), Var(tensor({3.0, 1.0, 2.0, 2.0, 1.0, 3.0}, {2, 3}))));
}

TEST_CASE("soft sorts ignore the order of their input, and soft ranks follow it", "[soft_sort]") {
  const std::vector<double> order{3, 0, 4, 1, 2, 5};
  const Var x(normal({5, 6}, 8));
  const double eps = GENERATE(0.1, 1.0, 10.0);
  CHECK(same_bits(soft_sort(permuted(x, order), {.eps = eps}), soft_sort(x, {.eps = eps})));
  CHECK(same_bits(soft_rank(permuted(x, order), {.eps = eps}), permuted(soft_rank(x, {.eps = eps}), order)));
  // Sums are kept, the order too, and ranks of x + c are those of x.
  CHECK(largest_difference(sum(soft_sort(x, {.eps = eps}), {1}), sum(x, {1})) <= 1e-9);
  CHECK(largest_difference(sum(soft_rank(x, {.eps = eps}), {1}), Var(Tensor::full({5}, 21.0, DType::f64))) <=
        1e-9);
  const Var s = soft_sort(x, {.eps = eps});
  CHECK(min(slice(s, 1, 1, 6) - slice(s, 1, 0, 5)).item() >= -1e-10);
  CHECK(largest_difference(soft_rank(x + 3.0, {.eps = eps}), soft_rank(x, {.eps = eps})) <= 1e-9);
  CHECK(largest_difference(soft_rank(x, {.eps = eps, .descending = true}),
                           7.0 - soft_rank(x, {.eps = eps})) <= 1e-9);
}

TEST_CASE("equal entries share their soft rank, and have derivatives", "[soft_sort]") {
  const Tape tape;
  const Var x = leaf(tensor({2.0, 0.0, 2.0, 5.0}));
  const Var r = soft_rank(x, {.eps = 0.1});
  CHECK(largest_difference(r, Var(tensor({2.5, 1.0, 2.5, 4.0}))) <= 1e-10);
  // Pulling them apart costs 1 / eps each way, until they are eps apart.
  const Var g = grad(sum(r * Var(tensor({1.0, 0.0, 0.0, 0.0}))), {x})[0];
  CHECK(largest_difference(g, Var(tensor({5.0, 0.0, -5.0, 0.0}))) <= 1e-8);
}

TEST_CASE("equal entries have the same soft rank, to the last bit", "[soft_sort]") {
  const double eps = GENERATE(1e-12, 0.1, 1.0, 3.0, 1e9);
  const bool descending = GENERATE(false, true);
  const DType dtype = GENERATE(DType::f32, DType::f64);
  Random random(11);
  Tensor x = Tensor::empty({4, 30}, DType::f64);
  for (std::int64_t i = 0; i < x.size(); ++i)
    x.mutable_data<double>()[i] = 0.1 * std::floor(7.0 * random.uniform()) - 0.3;
  const Tensor r = soft_rank(Var(x.to(dtype)), {.eps = eps, .descending = descending}).value();
  for (std::int64_t i = 0; i < x.size(); ++i)
    for (std::int64_t j = i / 30 * 30; j < i; ++j)
      if (x.at(i) == x.at(j)) CHECK(r.at(i) == r.at(j));
  const Var equal = soft_rank(Var(Tensor::full({5}, 0.1, dtype)), {.eps = eps, .descending = descending});
  CHECK(same_bits(equal, Var(Tensor::full({5}, 3.0, dtype))));
}

TEST_CASE("small entries keep their soft ranks and places beside large ones", "[soft_sort]") {
  const Var x(tensor({1e20, 1e-15, 3.0, -1e20}));
  CHECK(same_bits(soft_rank(x), Var(tensor({4.0, 2.0, 3.0, 1.0}))));
  CHECK(same_bits(soft_sort(x, {.eps = 1e-21}), Var(tensor({-1e20, 1e-15, 3.0, 1e20}))));
  CHECK(largest_difference(soft_rank(Var(tensor({1e20, 0.5, 0.0, 1e20}))),
                           Var(tensor({3.5, 1.75, 1.25, 3.5}))) <= 1e-15);
}

TEST_CASE("soft sorts and ranks are the projections that they are defined as", "[soft_sort]") {
  // The permutahedron of b is P b over the doubly stochastic matrices P: a quadratic program in P.
  const std::int64_t n = GENERATE(2, 3, 4);
  const double eps = GENERATE(0.3, 1.0, 2.5);
  const auto nearest = [&](const Var& target, const Var& b) {  // (n) and (n)
    Tensor products = Tensor::zeros({n, n * n}, DType::f64),
           sums = Tensor::zeros({2 * n - 1, n * n}, DType::f64);
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        products.mutable_data<double>()[i * n * n + i * n + j] = b.value().at(j);
        sums.mutable_data<double>()[i * n * n + i * n + j] = 1.0;
        if (j + 1 < n) sums.mutable_data<double>()[(n + j) * n * n + i * n + j] = 1.0;
      }
    const Var K(products), row = reshape(target, {1, n});
    const QpSolved found = qp_solve({.Q = matmul(K, K, {.transpose_a = true}),
                                     .p = -reshape(matmul(row, K), {n * n}),
                                     .G = -Var(Tensor::eye(n * n, DType::f64)),
                                     .h = Var(Tensor::zeros({n * n}, DType::f64)),
                                     .A = Var(sums),
                                     .b = Var(Tensor::ones({2 * n - 1}, DType::f64))});
    REQUIRE(found.report.solved());
    return reshape(matmul(K, reshape(found.z, {n * n, 1})), {n});
  };
  Tensor counted = Tensor::empty({n}, DType::f64);
  for (std::int64_t i = 0; i < n; ++i) counted.mutable_data<double>()[i] = static_cast<double>(i + 1);
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const Var x(normal({n}, 20 + seed, 2.0)), places{counted};
    CHECK(largest_difference(soft_rank(x, {.eps = eps}), nearest(x / eps, places)) <= 1e-7);
    CHECK(largest_difference(soft_sort(x, {.eps = eps}), nearest(places / eps, x)) <= 1e-7);
  }
}

TEST_CASE("soft sorts and ranks of the largest numbers are finite", "[soft_sort]") {
  constexpr double top = std::numeric_limits<double>::max();
  const Var two(Tensor::full({2}, top, DType::f64));
  CHECK(same_bits(soft_sort(two), two));
  CHECK(same_bits(soft_rank(two), Var(tensor({1.5, 1.5}))));
  CHECK(largest_difference(soft_rank(Var(tensor({1e308, 1.1e308, 1.2e308})), {.eps = 1e308}),
                           Var(tensor({1.9, 2.0, 2.1}))) <= 1e-14);
  // One block, wider than the largest number: its mean is -0.8 top.
  Tensor wide = Tensor::full({10}, -top, DType::f64), expected = Tensor::full({10}, 5.3, DType::f64);
  wide.mutable_data<double>()[9] = top;
  expected.mutable_data<double>()[9] = 7.3;
  CHECK(largest_difference(soft_rank(Var(wide), {.eps = top}), Var(expected)) <= 1e-14);
}

TEST_CASE("soft sorts and ranks serve inside the body of a fixed point", "[soft_sort]") {
  const Body body = GENERATE(Body::eager, Body::checked);
  const Var c(normal({4, 5}, 10));
  for (const bool rank : {false, true}) {
    const auto f = [&](const Var& z) {
      const Var at = 0.3 * z + c;
      return 0.2 * (rank ? soft_rank(at, {.eps = 2.0}) : soft_sort(at)) + c;
    };
    const auto found = fixed_point(f, zeros_like(c), {.tolerance = 1e-12, .body = body});
    CHECK(found.report.converged());
    CHECK(largest_difference(f(found.z), found.z) <= 1e-10);
  }
}

TEST_CASE("rows that are empty, of one entry, or not finite", "[soft_sort]") {
  for (const Shape& shape : {Shape{0}, Shape{1}, Shape{3, 0}, Shape{0, 3}, Shape{2, 1}}) {
    const Var x(Tensor::full(shape, 4.0, DType::f64));
    CHECK(same_bits(isotonic(x), x));
    CHECK(same_bits(soft_sort(x), x));
    CHECK(same_bits(soft_rank(x), ones_like(x)));
  }
  const Var broken(tensor({0.1, std::nan(""), 0.2, 0.3, 0.4, 0.5}, {2, 3}));
  for (const Var& z : {isotonic(broken), soft_sort(broken), soft_rank(broken)})
    for (int i = 0; i < 3; ++i) {
      CHECK(std::isnan(z.value().at(i)));
      CHECK(std::isfinite(z.value().at(3 + i)));
    }
  CHECK_THROWS_AS(soft_sort(broken, {.policy = Policy::raise}), SolveError);
}

TEST_CASE("a row that is not finite is NaN, with its gradient, under every policy but raise", "[soft_sort]") {
  using Rows = std::function<Var(const Var&, Policy)>;
  const std::pair<const char*, Rows> all[] = {
      {"isotonic", [](const Var& x, Policy p) { return isotonic(x, {}, p); }},
      {"isotonic",
       [](const Var& x, Policy p) { return isotonic(x, Var(Tensor::full({6}, 2.0, DType::f64)), p); }},
      {"soft_sort", [](const Var& x, Policy p) { return soft_sort(x, {.policy = p}); }},
      {"soft_rank", [](const Var& x, Policy p) { return soft_rank(x, {.policy = p}); }}};
  for (const auto& [name, f] : all)
    for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
      Tensor y = normal({2, 6}, 3);
      y.mutable_data<double>()[4] = bad;
      for (const Policy policy : {Policy::report, Policy::nan}) {
        const Tape tape;
        const Var x = leaf(y), z = f(x, policy);
        const Var g = grad(sum(z * z), {x})[0];
        for (int i = 0; i < 12; ++i) {
          CHECK(std::isnan(z.value().at(i)) == (i < 6));
          CHECK(std::isnan(g.value().at(i)) == (i < 6));
        }
      }
      CHECK_THROWS_WITH(f(Var(y), Policy::raise),
                        Contains("[" + std::string(name) + "] rows must be finite"));
      CHECK_NOTHROW(f(Var(normal({2, 6}, 3)), Policy::raise));
    }
}

TEST_CASE("isotonic regression and soft sorts refuse what has no meaning", "[soft_sort]") {
  const Var x(normal({2, 3}, 9));
  CHECK_THROWS_WITH(soft_sort(x, {.eps = 0.0}), Contains("[soft_sort] eps must be positive: got 0"));
  CHECK_THROWS_WITH(soft_rank(x, {.eps = -1.0}), Contains("[soft_rank] eps must be positive: got -1"));
  CHECK_THROWS_AS(soft_rank(x, {.eps = std::nan("")}), ValueError);
  CHECK_THROWS_WITH(soft_rank(Var(x.value().to(DType::f32)), {.eps = 1e-50}),
                    Contains("[soft_rank] eps must be positive and finite in f32"));
  CHECK_NOTHROW(soft_rank(x, {.eps = 1e-50}));
  CHECK_THROWS_WITH(soft_sort(Var(Tensor::zeros({2, 3, 4}))),
                    Contains("input must be (batch,n) or (n): got (2,3,4)"));
  CHECK_THROWS_AS(isotonic(Var(Tensor::zeros({}, DType::f64))), ShapeError);
  CHECK_THROWS_WITH(isotonic(x, Var(tensor({1.0, 0.0, 2.0}))),
                    Contains("[isotonic] weights must be positive and finite"));
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity(), -1.0})
    CHECK_THROWS_AS(isotonic(x, Var(tensor({1.0, bad, 2.0}))), ValueError);
  for (const Shape& shape : {Shape{1}, Shape{}, Shape{1, 3}, Shape{3, 2}})
    CHECK_THROWS_WITH(isotonic(x, Var(Tensor::ones(shape, DType::f64))),
                      Contains("[isotonic] weights must be (2,3) or (3): got " + shape.to_string()));
  CHECK_THROWS_AS(isotonic(x, Var(tensor({1.0, 2.0}))), ShapeError);
  CHECK_THROWS_WITH(isotonic(Var(tensor({1.0, 2.0, 3.0})), Var(tensor({1.0, 2.0}))),
                    Contains("[isotonic] weights must be (3): got (2)"));
  CHECK_THROWS_WITH(isotonic(x, Var(Tensor::ones({3}))),
                    Contains("[isotonic] weights must be f64 as the input: got f32"));
  const Var whole(Tensor::zeros({2, 3}, DType::i64));
  CHECK_THROWS_WITH(isotonic(whole), Contains("[isotonic] input must be f32 or f64: got i64"));
  CHECK_THROWS_WITH(isotonic(whole, whole), Contains("[isotonic] input must be f32 or f64: got i64"));
  CHECK_THROWS_WITH(soft_sort(whole), Contains("[soft_sort] input must be f32 or f64: got i64"));
  CHECK_THROWS_WITH(soft_rank(whole), Contains("[soft_rank] input must be f32 or f64: got i64"));
}
