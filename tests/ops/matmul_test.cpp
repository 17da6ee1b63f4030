#include <banach/engine/grad.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;

namespace {

// (batch, m, k) x (batch, k, n) with strides of the batch, 0 where an operand is shared.
Tensor naive(const Tensor& a, const Tensor& b, const MatmulOptions& o, std::int64_t batch, bool shared_a,
             bool shared_b) {
  const auto [m, k] = o.transpose_a ? std::pair{a.size(-1), a.size(-2)} : std::pair{a.size(-2), a.size(-1)};
  const std::int64_t n = o.transpose_b ? b.size(-2) : b.size(-1);
  Tensor c = Tensor::zeros({batch, m, n}, DType::f64);
  double* out = c.mutable_data<double>();
  for (std::int64_t i = 0; i < batch; ++i)
    for (std::int64_t r = 0; r < m; ++r)
      for (std::int64_t s = 0; s < n; ++s)
        for (std::int64_t t = 0; t < k; ++t)
          out[(i * m + r) * n + s] +=
              a.at((shared_a ? 0 : i * m * k) + (o.transpose_a ? t * m + r : r * k + t)) *
              b.at((shared_b ? 0 : i * k * n) + (o.transpose_b ? s * k + t : t * n + s));
  return c;
}

}  // namespace

TEST_CASE("matmul agrees with three loops, transposed, batched and shared", "[matmul]") {
  const bool ta = GENERATE(false, true), tb = GENERATE(false, true);
  const bool shared_a = GENERATE(false, true), shared_b = GENERATE(false, true);
  const MatmulOptions options{ta, tb};
  SampleGen g(5);
  for (const auto& [m, k, n] :
       {std::tuple{3, 4, 5}, std::tuple{1, 7, 2}, std::tuple{6, 9, 1}, std::tuple{40, 33, 50}}) {
    const std::int64_t batch = shared_a && shared_b ? 1 : 3;
    const Shape matrix_a = ta ? Shape{k, m} : Shape{m, k}, matrix_b = tb ? Shape{n, k} : Shape{k, n};
    const Tensor a = g.normal(shared_a ? matrix_a : Shape{batch, matrix_a[0], matrix_a[1]});
    const Tensor b = g.normal(shared_b ? matrix_b : Shape{batch, matrix_b[0], matrix_b[1]});
    const Tensor expected = naive(a, b, options, batch, shared_a, shared_b);
    const Var c = matmul(a, b, options);
    CHECK(c.shape() == (shared_a && shared_b ? Shape{m, n} : Shape{batch, m, n}));
    CHECK(largest_difference(c, expected.reshape(c.shape())) <= 1e-12);
    CHECK(largest_difference(matmul(a.to(DType::f32), b.to(DType::f32), options),
                             expected.reshape(c.shape())) <= 1e-4);
  }
}

TEST_CASE("matmul broadcasts leading axes", "[matmul]") {
  SampleGen g(6);
  const Tensor a = g.normal({2, 1, 3, 4}), b = g.normal({5, 4, 2});
  const Var c = matmul(a, b);
  REQUIRE(c.shape() == Shape{2, 5, 3, 2});
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 5; ++j) {
      const Var one = matmul(a.rows(i, i + 1).reshape({3, 4}), b.rows(j, j + 1).reshape({4, 2}));
      const Tensor got = c.value().reshape({10, 6}).rows(i * 5 + j, i * 5 + j + 1);
      CHECK(largest_difference(got.reshape({3, 2}), one) <= 1e-14);
    }
}

TEST_CASE("gradients of shared operands are sums over the batch", "[matmul]") {
  SampleGen g(7);
  const bool ta = GENERATE(false, true), tb = GENERATE(false, true);
  const Tensor a = g.normal({6, ta ? 4 : 3, ta ? 3 : 4}), b = g.normal({tb ? 5 : 4, tb ? 4 : 5}),
               u = g.normal({6, 3, 5});
  Tape tape;
  const Var x = leaf(a), y = leaf(b);
  const Var z = matmul(x, y, {.transpose_a = ta, .transpose_b = tb});
  const Vars shared = grad(z, {x, y}, {.cotangent = Var(u)});
  Tensor sum = Tensor::zeros(b.shape(), DType::f64);
  for (std::int64_t i = 0; i < 6; ++i) {
    const Var xi = leaf(a.rows(i, i + 1).clone().reshape({a.size(1), a.size(2)})), yi = leaf(b);
    const Vars one = grad(matmul(xi, yi, {.transpose_a = ta, .transpose_b = tb}), {xi, yi},
                          {.cotangent = Var(u.rows(i, i + 1).reshape({3, 5}))});
    CHECK(largest_difference(shared[0].value().rows(i, i + 1).reshape(xi.shape()), one[0].value()) <= 1e-12);
    for (std::int64_t j = 0; j < sum.size(); ++j) sum.mutable_data<double>()[j] += one[1].value().at(j);
  }
  CHECK(largest_difference(shared[1].value(), sum) <= 1e-12);
}

TEST_CASE("matmul is the same for any number of threads", "[matmul]") {
  SampleGen g(8);
  for (const auto& [sa, sb] :
       {std::pair{Shape{300, 200}, Shape{200, 500}}, std::pair{Shape{64, 30, 40}, Shape{64, 40, 50}},
        std::pair{Shape{64, 30, 40}, Shape{40, 50}}}) {
    const Tensor a = g.normal(sa).to(DType::f32), b = g.normal(sb).to(DType::f32);
    check_threads([&] { return Vars{matmul(a, b)}; });
  }
}

TEST_CASE("matmul of nothing, and what it refuses", "[matmul]") {
  CHECK(matmul(Tensor::ones({2, 0}), Tensor::ones({0, 3})).value().at(5) == 0.0);
  CHECK(matmul(Tensor::ones({0, 2, 3}), Tensor::ones({3, 4})).shape() == Shape{0, 2, 4});
  CHECK(matmul(Tensor::ones({2, 3}), Tensor::ones({3, 0})).shape() == Shape{2, 0});
  CHECK_THROWS_WITH(matmul(Tensor::ones({2, 3}), Tensor::ones({4, 5})),
                    "[matmul] inner dimensions must agree: (2,3) x (4,5)");
  CHECK_THROWS_WITH(matmul(Tensor::ones({2, 3}), Tensor::ones({3, 5}), {.transpose_b = true}),
                    "[matmul] inner dimensions must agree: (2,3) x (3,5)^T");
  CHECK_THROWS_WITH(
      matmul(Tensor::ones({3}), Tensor::ones({3, 5})),
      "[matmul] operands must have rank 2 or more: (3) x (3,5) (reshape a vector of n to a row (1,n) or a "
      "column (n,1))");
  CHECK_THROWS_AS(matmul(Tensor::ones({2, 3}), Tensor::ones({3, 2}, DType::f64)), DTypeError);
  CHECK_THROWS_AS(matmul(Tensor::arange(4).reshape({2, 2}), Tensor::arange(4).reshape({2, 2})), DTypeError);
}

TEST_CASE("matmul_add is matmul and add, to rounding, whatever c broadcasts") {
  SampleGen g(77);
  const Var a = g.normal({3, 40, 20}), b = g.normal({20, 24}), z = g.normal({40, 20}), w = g.normal({24, 20});
  for (const Shape& shape :
       {Shape{24}, Shape{3, 40, 24}, Shape{40, 24}, Shape{1}, Shape{3, 1, 24}, Shape{}}) {
    INFO(shape.to_string());
    const Var c = g.normal(shape);
    const auto sum = [](const Vars& x) { return Vars{matmul(x[0], x[1]) + x[2]}; };
    const auto fused = [](const Vars& x) { return Vars{matmul_add(x[0], x[1], x[2])}; };
    const Var u = g.normal({3, 40, 24});
    const VjpResult expected = vjp(sum, {a, b, c}, {u}), got = vjp(fused, {a, b, c}, {u});
    CHECK(largest_difference(got.outputs[0], expected.outputs[0]) < 1e-13);
    for (std::size_t i = 0; i < 3; ++i)
      CHECK(largest_difference(got.cotangents[i], expected.cotangents[i]) < 1e-12);
  }
  const Var row = g.normal({24});
  CHECK(largest_difference(matmul_add(z, w, row, {.transpose_b = true}),
                           matmul(z, w, {.transpose_b = true}) + row) < 1e-13);
  CHECK_THROWS_AS(matmul_add(a, w, row), ShapeError);
  CHECK_THROWS_AS(matmul_add(a, b, g.normal({23})), ShapeError);
}
