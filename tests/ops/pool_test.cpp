#include <banach/engine/grad.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/pool.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <vector>

using namespace banach;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("max_pool2d takes the largest of every window", "[pool]") {
  SampleGen g(12);
  struct Case {
    Shape x;
    Pool2dOptions options;
  };
  for (const auto& [shape, options] :
       {Case{{2, 3, 6, 8}, {}}, Case{{2, 2, 7, 5}, {.kernel = 3, .stride = Pair(2), .padding = 1}},
        Case{{1, 2, 6, 9}, {.kernel = {2, 3}, .stride = Pair{1, 4}, .padding = {1, 2}}},
        Case{{1, 1, 3, 700}, {.kernel = 3, .stride = Pair(1)}}, Case{{40, 3, 28, 28}, {.kernel = 2}}}) {
    const Tensor x = g.distinct(shape, 0.01);
    const Pair k = options.kernel, s = options.stride.value_or(k), p = options.padding;
    const Var y = max_pool2d(x, options), index = max_pool2d_indices(x, options);
    REQUIRE(y.shape() == Shape{shape[0], shape[1], (shape[2] + 2 * p.h - k.h) / s.h + 1,
                               (shape[3] + 2 * p.w - k.w) / s.w + 1});
    bool equal = true;
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const std::int64_t ow = i % y.size(3), oh = i / y.size(3) % y.size(2),
                         plane = i / y.size(3) / y.size(2);
      double largest = -std::numeric_limits<double>::infinity();
      for (std::int64_t h = oh * s.h - p.h; h < oh * s.h - p.h + k.h; ++h)
        for (std::int64_t w = ow * s.w - p.w; w < ow * s.w - p.w + k.w; ++w)
          if (h >= 0 && h < shape[2] && w >= 0 && w < shape[3])
            largest = std::max(largest, x.at((plane * shape[2] + h) * shape[3] + w));
      equal = equal && y.value().at(i) == largest;
      equal = equal && x.at(plane * shape[2] * shape[3] + index.value().data<std::int64_t>()[i]) == largest;
    }
    CHECK(equal);
  }
}

TEST_CASE("the first of equal values wins, and the first NaN before all", "[pool]") {
  const auto winner = [](std::vector<double> window) {
    return max_pool2d_indices(tensor(window, {1, 1, 2, 2})).value().data<std::int64_t>()[0];
  };
  CHECK(winner({1, 2, 2, 2}) == 1);
  CHECK(winner({0, -0.0, 0, 0}) == 0);
  CHECK(winner({3, not_a_number, 5, not_a_number}) == 1);
  CHECK(winner({not_a_number, 9, 9, 9}) == 0);
  CHECK(winner({-INFINITY, -INFINITY, -INFINITY, -INFINITY}) == 0);
  CHECK(std::isnan(max_pool2d(tensor({1.0, 2.0, not_a_number, 4.0}, {1, 1, 2, 2})).item()));
  // A margin never wins, not even over -infinity.
  const Var x = Tensor::full({1, 1, 2, 2}, -INFINITY, DType::f32);
  CHECK(max_pool2d(x, {.kernel = 2, .padding = 1}).value().at(3) == -INFINITY);
  CHECK(max_pool2d_indices(x, {.kernel = 2, .padding = 1}).value().data<std::int64_t>()[3] == 3);
}

TEST_CASE("the winner gets the gradient, once for each window it wins", "[pool]") {
  Tape tape;
  const Var x = leaf(tensor({1.0, 2.0, 3.0, 4.0, 9.0, 5.0, 7.0, 6.0, 8.0}, {1, 1, 3, 3}));
  const Var y = max_pool2d(x, {.kernel = 2, .stride = Pair(1)});
  const Var g = grad(y, {x}, {.cotangent = Var(tensor({1.0, 10.0, 100.0, 1000.0}, {1, 1, 2, 2}))})[0];
  for (std::int64_t i = 0; i < 9; ++i) CHECK(g.value().at(i) == (i == 4 ? 1111.0 : 0.0));
}

TEST_CASE("max_pool2d refuses what does not fit", "[pool]") {
  const Var x = Tensor::ones({1, 2, 4, 4});
  CHECK_THROWS_WITH(
      max_pool2d(x, {.kernel = 5}),
      "[max_pool2d] kernel must fit the padded image: kernel (5,5), image (1,2,4,4), padding (0,0)");
  CHECK_THROWS_AS(max_pool2d(x, {.kernel = 2, .padding = 2}), ValueError);
  CHECK_THROWS_AS(max_pool2d(x, {.kernel = 0}), ValueError);
  CHECK_THROWS_AS(max_pool2d(x, {.stride = Pair(0)}), ValueError);
  CHECK_THROWS_AS(max_pool2d(Tensor::ones({4, 4})), ShapeError);
  CHECK_THROWS_AS(max_pool2d(Tensor::zeros({1, 1, 4, 4}, DType::i64)), DTypeError);
  CHECK(max_pool2d(Tensor::ones({0, 2, 4, 4})).shape() == Shape{0, 2, 2, 2});
}
