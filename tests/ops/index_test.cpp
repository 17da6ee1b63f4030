#include <banach/engine/grad.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/index.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/shape_ops.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <cstring>

using namespace banach;
using namespace banach::test;

namespace {

// The position of (o, j, i) in a tensor seen as (outer, count, inner) around `axis`.
struct Around {
  std::int64_t outer, count, inner;
  Around(const Shape& shape, int axis)
      : outer(shape.size(0, axis)), count(shape[axis]), inner(shape.size(axis + 1, shape.rank())) {}
  std::int64_t at(std::int64_t o, std::int64_t j, std::int64_t i) const {
    return (o * count + j) * inner + i;
  }
};

}  // namespace

TEST_CASE("gather takes along an axis and scatter_add is its transpose", "[index]") {
  struct Case {
    Shape x, index;
    int axis;
  };
  SampleGen g(3);
  for (const auto& [shape, index_shape, axis] :
       {Case{{4, 5}, {4, 3}, 1}, Case{{4, 5}, {9, 5}, 0}, Case{{3, 6, 40}, {3, 2, 40}, 1}, Case{{7}, {20}, 0},
        Case{{200, 30, 17}, {200, 11, 17}, 1}, Case{{5, 60000}, {3, 60000}, 0}}) {
    const Var x = g.normal(shape), y = g.normal(index_shape), index = g.indices(index_shape, shape[axis]);
    const Var picked = gather(x, axis, index), spread = scatter_add(shape, axis, index, y);
    REQUIRE(picked.shape() == index_shape);
    REQUIRE(spread.shape() == shape);
    const Around in(shape, axis), out(index_shape, axis);
    Tensor expected = Tensor::zeros(shape, DType::f64);
    double* sums = expected.mutable_data<double>();
    bool equal = true;
    for (std::int64_t o = 0; o < out.outer; ++o)
      for (std::int64_t j = 0; j < out.count; ++j)
        for (std::int64_t i = 0; i < out.inner; ++i) {
          const std::int64_t at = out.at(o, j, i);
          const std::int64_t from = in.at(o, index.value().data<std::int64_t>()[at], i);
          equal = equal && picked.value().at(at) == x.value().at(from);
          sums[from] += y.value().at(at);
        }
    CHECK(equal);
    CHECK(std::memcmp(sums, spread.value().data<double>(), static_cast<std::size_t>(expected.size()) * 8) ==
          0);
  }
}

TEST_CASE("one index for every row, and take", "[index]") {
  const Var x = Tensor::arange(24).to(DType::f32).reshape({2, 3, 4});
  const Var rows = take(x, 1, tensor<std::int64_t>({2, 0, 2, 2}));
  REQUIRE(rows.shape() == Shape{2, 4, 4});
  CHECK(rows.value().at(0) == 8.0);
  CHECK(rows.value().at(5) == 1.0);
  CHECK(rows.value().at(16 + 3) == 23.0);
  CHECK(take(Tensor::arange(5), 0, tensor<std::int64_t>({4, 1})).value().at(0) == 4.0);  // i64 values too

  Tape tape;
  const Var table = leaf(Tensor::zeros({3, 2}, DType::f64));
  const Var g = grad(take(table, 0, tensor<std::int64_t>({1, 1, 0})), {table},
                     {.cotangent = Var(tensor({1.0, 2.0, 10.0, 20.0, 100.0, 200.0}, {3, 2}))})[0];
  const double expected[] = {100, 200, 11, 22, 0, 0};
  for (std::int64_t i = 0; i < 6; ++i) CHECK(g.value().at(i) == expected[i]);
}

TEST_CASE("scatter_add is the same for any number of threads", "[index]") {
  SampleGen g(4);
  const Var source = g.normal({4, 3000, 20}).to(DType::f32), index = g.indices({4, 3000, 20}, 7);
  check_threads([&] { return Vars{scatter_add({4, 7, 20}, 1, index, source)}; });
}

TEST_CASE("indices out of range name their position", "[index]") {
  const Var x = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH(gather(x, 1, tensor<std::int64_t>({0, 1, 2, -1}, {2, 2})),
                    "[gather] indices must lie in [0, 3): got -1 at position (1,1)");
  CHECK_THROWS_WITH(scatter_add({2, 3}, 1, tensor<std::int64_t>({3, 0}, {2, 1}), Tensor::zeros({2, 1})),
                    "[scatter_add] indices must lie in [0, 3): got 3 at position (0,0)");
  CHECK_THROWS_WITH(scatter_add({2, 3}, 1, tensor<std::int64_t>({0, 0}, {2, 1}), Tensor::zeros({3, 1})),
                    "[scatter_add] source must have the result's extents but for axis 1: (3,1) into (2,3)");
  CHECK_THROWS_AS(gather(Tensor::zeros({0, 1}), 0, Tensor::zeros({1, 1}, DType::i64)), ShapeError);
  CHECK_THROWS_AS(gather(x, 1, Tensor::zeros({2, 1})), DTypeError);
  CHECK_THROWS_AS(gather(x, 2, Tensor::zeros({2, 1}, DType::i64)), ShapeError);
  CHECK_THROWS_AS(gather(x, 0, Tensor::zeros({2}, DType::i64)), ShapeError);
  CHECK_THROWS_AS(take(x, 0, Tensor::zeros({2, 1}, DType::i64)), ShapeError);
  // The last task finds it as well as the first.
  Tensor index = Tensor::zeros({100000}, DType::i64);
  index.mutable_data<std::int64_t>()[99999] = 4;
  CHECK_THROWS_WITH(gather(Tensor::zeros({4}), 0, index),
                    "[gather] indices must lie in [0, 4): got 4 at position (99999)");
}

TEST_CASE("embedding picks rows and adds up their cotangents", "[index]") {
  SampleGen g(5);
  const Tensor table = g.normal({6, 3}), index = g.indices({4, 5}, 6), weights = g.normal({4, 5, 3});
  Tape tape;
  const Var t = leaf(table), y = embedding(t, index);
  REQUIRE(y.shape() == Shape{4, 5, 3});
  const Tensor gradient = grad(y, {t}, {.cotangent = Var(weights)})[0].value();
  Tensor expected = Tensor::zeros({6, 3}, DType::f64);
  double* sums = expected.mutable_data<double>();
  bool equal = true;
  for (std::int64_t i = 0; i < 20; ++i)
    for (std::int64_t d = 0; d < 3; ++d) {
      const std::int64_t at = index.data<std::int64_t>()[i] * 3 + d;
      equal = equal && y.value().at(i * 3 + d) == table.at(at);
      sums[at] += weights.at(i * 3 + d);
    }
  CHECK(equal);
  for (std::int64_t i = 0; i < 18; ++i) CHECK(gradient.at(i) == Approx(expected.at(i)).epsilon(1e-14));
  // A row of a one-hot matrix picks too.
  const Var product = matmul(one_hot(reshape(Var(index), {20}), 6, DType::f64), table);
  for (std::int64_t i = 0; i < 60; ++i) CHECK(product.value().at(i) == y.value().at(i));
}
