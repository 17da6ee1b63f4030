#include <banach/engine/grad.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/pool.hpp>
#include <banach/ops/upsample.hpp>

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

namespace {

double pixel(const Tensor& x, std::int64_t plane, std::int64_t h, std::int64_t w) {
  return x.at((plane * x.size(2) + h) * x.size(3) + w);
}

}  // namespace

TEST_CASE("avg_pool2d takes the mean of every window", "[pool]") {
  SampleGen g(14);
  struct Case {
    Shape x;
    AvgPool2dOptions options;
  };
  for (const auto& [shape, o] :
       {Case{{2, 3, 6, 8}, {}}, Case{{2, 2, 7, 5}, {.kernel = 3, .stride = Pair(2), .padding = 1}},
        Case{{1, 2, 6, 9},
             {.kernel = {2, 3}, .stride = Pair{1, 4}, .padding = {1, 2}, .count_padding = false}},
        Case{{1, 1, 3, 700}, {.kernel = 3, .stride = Pair(1), .padding = 1}},
        Case{{2, 1, 9, 9}, {.kernel = 2, .stride = Pair(3)}}}) {
    const Tensor x = g.normal(shape), y = avg_pool2d(x, o).value();
    const Pair k = o.kernel, s = o.stride.value_or(k), p = o.padding;
    REQUIRE(y.shape() == Shape{shape[0], shape[1], (shape[2] + 2 * p.h - k.h) / s.h + 1,
                               (shape[3] + 2 * p.w - k.w) / s.w + 1});
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const std::int64_t ow = i % y.size(3), oh = i / y.size(3) % y.size(2),
                         plane = i / y.size(3) / y.size(2);
      double sum = 0, count = 0;
      for (std::int64_t h = oh * s.h - p.h; h < oh * s.h - p.h + k.h; ++h)
        for (std::int64_t w = ow * s.w - p.w; w < ow * s.w - p.w + k.w; ++w)
          if (h >= 0 && h < shape[2] && w >= 0 && w < shape[3]) {
            sum += pixel(x, plane, h, w);
            ++count;
          }
      CHECK(y.at(i) ==
            Approx(sum / (o.count_padding ? static_cast<double>(k.h * k.w) : count)).margin(1e-14));
    }
  }
}

TEST_CASE("adaptive pooling looks at every pixel of its bins", "[pool]") {
  SampleGen g(15);
  struct Case {
    Shape x;
    Pair size;
  };
  for (const auto& [shape, size] :
       {Case{{2, 3, 6, 8}, {3, 4}}, Case{{1, 2, 7, 5}, {3, 2}}, Case{{2, 2, 5, 4}, 1},
        Case{{1, 1, 3, 2}, {7, 5}}, Case{{3, 1, 32, 33}, {7, 8}}}) {
    const Tensor x = g.distinct(shape, 0.01);
    const Tensor average = adaptive_avg_pool2d(x, size).value(),
                 largest = adaptive_max_pool2d(x, size).value();
    const Var index = adaptive_max_pool2d_indices(x, size);
    REQUIRE(average.shape() == Shape{shape[0], shape[1], size.h, size.w});
    REQUIRE(largest.shape() == average.shape());
    const auto begin = [](std::int64_t i, std::int64_t extent, std::int64_t bins) {
      return static_cast<std::int64_t>(
          std::floor(static_cast<double>(i * extent) / static_cast<double>(bins)));
    };
    const auto end = [](std::int64_t i, std::int64_t extent, std::int64_t bins) {
      return static_cast<std::int64_t>(
          std::ceil(static_cast<double>((i + 1) * extent) / static_cast<double>(bins)));
    };
    for (std::int64_t i = 0; i < average.size(); ++i) {
      const std::int64_t ow = i % size.w, oh = i / size.w % size.h, plane = i / size.w / size.h;
      double sum = 0, count = 0, top = -INFINITY;
      for (std::int64_t h = begin(oh, shape[2], size.h); h < end(oh, shape[2], size.h); ++h)
        for (std::int64_t w = begin(ow, shape[3], size.w); w < end(ow, shape[3], size.w); ++w) {
          sum += pixel(x, plane, h, w);
          top = std::max(top, pixel(x, plane, h, w));
          ++count;
        }
      CHECK(average.at(i) == Approx(sum / count).margin(1e-13));
      CHECK(largest.at(i) == top);
      CHECK(x.at(plane * shape[2] * shape[3] + index.value().data<std::int64_t>()[i]) == top);
    }
  }
}

TEST_CASE("upsampling follows its definition", "[pool]") {
  SampleGen g(16);
  const Tensor x = g.normal({2, 3, 4, 5});
  const Tensor nearest = upsample_nearest(x, {2, 3}).value();
  REQUIRE(nearest.shape() == Shape{2, 3, 8, 15});
  for (std::int64_t i = 0; i < nearest.size(); ++i)
    CHECK(nearest.at(i) == pixel(x, i / 120, i / 15 % 8 / 2, i % 15 / 3));

  for (const Pair size : {Pair{8, 10}, Pair{7, 3}, Pair{1, 1}, Pair{4, 5}, Pair{13, 31}}) {
    const Tensor y = upsample_bilinear(x, size).value();
    REQUIRE(y.shape() == Shape{2, 3, size.h, size.w});
    const auto place = [](std::int64_t i, std::int64_t extent, std::int64_t count) {
      const double at =
          (static_cast<double>(i) + 0.5) * static_cast<double>(extent) / static_cast<double>(count) - 0.5;
      return std::min(std::max(at, 0.0), static_cast<double>(extent - 1));
    };
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const std::int64_t ow = i % size.w, oh = i / size.w % size.h, plane = i / size.w / size.h;
      const double h = place(oh, 4, size.h), w = place(ow, 5, size.w);
      double expected = 0;  // each pixel weighs what its tent function has here
      for (std::int64_t a = 0; a < 4; ++a)
        for (std::int64_t b = 0; b < 5; ++b)
          expected += std::max(0.0, 1 - std::abs(h - static_cast<double>(a))) *
                      std::max(0.0, 1 - std::abs(w - static_cast<double>(b))) * pixel(x, plane, a, b);
      CHECK(y.at(i) == Approx(expected).margin(1e-13));
    }
  }
  // A plane stays a plane, away from the border.
  const Tensor ramp =
      upsample_bilinear(Tensor::arange(6).to(DType::f64).reshape({1, 1, 1, 6}), {1, 12}).value();
  for (std::int64_t i = 1; i < 11; ++i) CHECK(ramp.at(i) == Approx(0.5 * static_cast<double>(i) - 0.25));
}
