#include <banach/engine/samples.hpp>
#include <banach/ops/conv.hpp>
#include <banach/ops/shape_ops.hpp>
#include <tests/tensors.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <vector>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

struct Case {
  Shape x, w;
  Conv2dOptions options;
};

// Small and large images (several in a tile, several tiles in one), strides, margins, dilation, groups, 1 x 1
// filters.
const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {{2, 3, 6, 5}, {4, 3, 3, 3}, {.padding = 1}},
      {{3, 2, 7, 8}, {3, 2, 3, 2}, {.stride = {2, 3}, .padding = {0, 1}}},
      {{2, 4, 7, 8}, {6, 2, 2, 3}, {.padding = 2, .dilation = {3, 2}, .groups = 2}},
      {{70, 2, 3, 3}, {3, 2, 3, 3}, {.padding = 1}},
      {{5, 3, 9, 9}, {2, 3, 1, 1}, {}},
      {{5, 2, 9, 9}, {2, 2, 1, 1}, {.stride = 2}},
      {{2, 8, 40, 41}, {4, 8, 5, 5}, {.padding = 2}},
      {{2, 8, 40, 70}, {4, 8, 5, 5}, {.stride = 2, .padding = 1}},
      {{3, 6, 9, 9}, {6, 1, 3, 3}, {.padding = 1, .groups = 6}},
      {{1, 1, 3, 3}, {1, 1, 1, 1}, {.padding = 2}},
      {{1, 2, 1, 1}, {3, 2, 3, 3}, {.padding = 4}},
      {{3, 2, 500, 1}, {3, 2, 5, 1}, {.padding = {4, 0}, .dilation = {2, 1}}},  // signals
      {{2, 2, 61, 1}, {2, 1, 4, 1}, {.stride = {3, 1}, .padding = {1, 0}, .groups = 2}},
      {{2, 1, 8, 4}, {1, 1, 8, 4}, {}},
      {{3, 3, 12, 33}, {20, 3, 3, 3}, {.padding = 1}},  // more outputs than a vector has lanes
      {{2, 4, 9, 20}, {40, 2, 3, 3}, {.padding = 1, .groups = 2}},
      // One image a tile and more, on every path.
      {{2, 3, 41, 40}, {4, 3, 1, 1}, {}},
      {{2, 3, 41, 40}, {4, 3, 1, 1}, {.stride = 2}},
      {{2, 3, 41, 40}, {4, 3, 1, 1}, {.stride = {1, 2}}},
      {{2, 3, 20, 21}, {4, 3, 1, 1}, {.padding = {0, 1}}},
      {{2, 4, 33, 30}, {6, 2, 2, 3}, {.padding = 2, .dilation = {3, 2}, .groups = 2}},
      {{2, 4, 33, 30}, {6, 2, 3, 3}, {.stride = {1, 2}, .padding = 1, .groups = 2}},
      {{2, 3, 24, 19}, {3, 1, 3, 3}, {.stride = 2, .padding = 1, .groups = 3}},
      // From few channels to many and from many to few, by columns.
      {{3, 1, 9, 10}, {12, 1, 3, 3}, {.padding = 1}},
      {{3, 12, 9, 10}, {1, 12, 3, 3}, {.padding = 1}},
      {{2, 2, 12, 11}, {20, 2, 3, 3}, {.padding = {2, 0}, .dilation = {1, 2}}},
      {{2, 20, 12, 11}, {2, 20, 3, 3}, {.padding = {0, 3}, .dilation = {1, 2}}},
      {{19, 9, 8, 8}, {1, 9, 3, 3}, {}},
      {{19, 1, 8, 8}, {9, 1, 3, 3}, {.padding = 2}},
      {{2, 12, 1, 70}, {4, 12, 1, 3}, {.padding = {0, 2}}},
      {{2, 4, 9, 9}, {16, 4, 1, 1}, {}}};
  return all;
}

// The definition, one product after the other: calls product(x's, w's, y's position).
template <class Product>
void definition(const Case& c, const Shape& y, const Product& product) {
  const auto& [x, w, o] = c;
  const std::int64_t per_group = w[0] / o.groups;
  for (std::int64_t n = 0; n < y[0]; ++n)
    for (std::int64_t k = 0; k < y[1]; ++k)
      for (std::int64_t oh = 0; oh < y[2]; ++oh)
        for (std::int64_t ow = 0; ow < y[3]; ++ow)
          for (std::int64_t ch = 0; ch < w[1]; ++ch)
            for (std::int64_t kh = 0; kh < w[2]; ++kh)
              for (std::int64_t kw = 0; kw < w[3]; ++kw) {
                const std::int64_t h = oh * o.stride.h - o.padding.h + kh * o.dilation.h;
                const std::int64_t i = ow * o.stride.w - o.padding.w + kw * o.dilation.w;
                if (h < 0 || h >= x[2] || i < 0 || i >= x[3]) continue;
                product(((n * x[1] + k / per_group * w[1] + ch) * x[2] + h) * x[3] + i,
                        ((k * w[1] + ch) * w[2] + kh) * w[3] + kw, ((n * y[1] + k) * y[2] + oh) * y[3] + ow);
              }
}

double inner(const Var& a, const Var& b) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < a.size(); ++i) sum += a.value().at(i) * b.value().at(i);
  return sum;
}

}  // namespace

TEST_CASE("the three convolutions agree with their definition", "[conv]") {
  SampleGen g(9);
  for (const Case& c : cases()) {
    const Var x = g.normal(c.x), w = g.normal(c.w);
    const Var y = conv2d(x, w, c.options);
    const Var u = g.normal(y.shape());
    Tensor sum_y = Tensor::zeros(y.shape(), DType::f64), sum_x = Tensor::zeros(c.x, DType::f64);
    Tensor sum_w = Tensor::zeros(c.w, DType::f64);
    double *py = sum_y.mutable_data<double>(), *px = sum_x.mutable_data<double>(),
           *pw = sum_w.mutable_data<double>();
    const double *vx = x.value().data<double>(), *vw = w.value().data<double>(),
                 *vu = u.value().data<double>();
    definition(c, y.shape(), [&](std::int64_t ix, std::int64_t iw, std::int64_t iy) {
      py[iy] += vx[ix] * vw[iw];
      px[ix] += vu[iy] * vw[iw];
      pw[iw] += vu[iy] * vx[ix];
    });
    const Pair input{c.x[2], c.x[3]}, kernel{c.w[2], c.w[3]};
    INFO("image " << c.x.to_string() << ", filter " << c.w.to_string());
    CHECK(largest_difference(y.value(), sum_y) < 1e-11);
    CHECK(largest_difference(conv2d_input_grad(u, w, input, c.options).value(), sum_x) < 1e-11);
    CHECK(largest_difference(conv2d_weight_grad(x, u, kernel, c.options).value(), sum_w) < 1e-11);

    const Var xf = x.value().to(DType::f32), wf = w.value().to(DType::f32), uf = u.value().to(DType::f32);
    CHECK(largest_difference(conv2d(xf, wf, c.options).value(), sum_y) < 1e-4);
    CHECK(largest_difference(conv2d_input_grad(uf, wf, input, c.options).value(), sum_x) < 1e-4);
    CHECK(largest_difference(conv2d_weight_grad(xf, uf, kernel, c.options).value(), sum_w) < 1e-3);
  }
}

TEST_CASE("the three convolutions are parts of one trilinear form", "[conv]") {
  SampleGen g(10);
  for (const Case& c : cases()) {
    const Var x = g.normal(c.x), w = g.normal(c.w), y = conv2d(x, w, c.options), u = g.normal(y.shape());
    const double form = inner(y, u);
    CHECK(inner(x, conv2d_input_grad(u, w, {c.x[2], c.x[3]}, c.options)) == Approx(form).epsilon(1e-11));
    CHECK(inner(w, conv2d_weight_grad(x, u, {c.w[2], c.w[3]}, c.options)) == Approx(form).epsilon(1e-11));
  }
}

TEST_CASE("convolutions are the same for any number of threads", "[conv]") {
  SampleGen g(11);
  for (const Case& c : cases()) {
    const Var x = g.normal(c.x).to(DType::f32), w = g.normal(c.w).to(DType::f32);
    check_threads([&] {
      const Var y = conv2d(x, w, c.options);
      return Vars{y, conv2d_input_grad(y, w, {c.x[2], c.x[3]}, c.options),
                  conv2d_weight_grad(x, y, {c.w[2], c.w[3]}, c.options)};
    });
  }
}

TEST_CASE("conv_transpose2d follows its definition", "[conv]") {
  // Each pixel adds its multiple of the filter.
  using O = ConvTranspose2dOptions;
  struct Use {
    Shape x, w;
    O options;
  };
  SampleGen g(12);
  for (const auto& [sx, sw, o] :
       {Use{{2, 3, 5, 4}, {3, 2, 3, 3}, O{}},
        Use{{2, 4, 5, 6},
            {4, 3, 3, 2},
            O{.stride = {3, 2}, .padding = {1, 0}, .output_padding = {2, 1}, .groups = 2}},
        Use{{1, 3, 3, 3},
            {3, 1, 3, 4},
            O{.stride = 2, .padding = 2, .output_padding = 1, .dilation = {2, 1}, .groups = 3}},
        Use{{3, 2, 1, 7}, {2, 1, 1, 3}, O{.padding = {0, 2}, .dilation = 2}}}) {
    const Tensor x = g.normal(sx), w = g.normal(sw);
    const Tensor y = conv_transpose2d(x, w, o).value();
    const std::int64_t per_in = sx[1] / o.groups, per_out = sw[1];
    REQUIRE(y.shape() == Shape{sx[0], per_out * o.groups,
                               (sx[2] - 1) * o.stride.h - 2 * o.padding.h + o.dilation.h * (sw[2] - 1) +
                                   o.output_padding.h + 1,
                               (sx[3] - 1) * o.stride.w - 2 * o.padding.w + o.dilation.w * (sw[3] - 1) +
                                   o.output_padding.w + 1});
    Tensor expected = Tensor::zeros(y.shape(), DType::f64);
    double* sum = expected.mutable_data<double>();
    std::int64_t at = 0;
    for (std::int64_t n = 0; n < sx[0]; ++n)
      for (std::int64_t c = 0; c < sx[1]; ++c)
        for (std::int64_t i = 0; i < sx[2]; ++i)
          for (std::int64_t j = 0; j < sx[3]; ++j, ++at)
            for (std::int64_t k = 0; k < per_out; ++k)
              for (std::int64_t a = 0; a < sw[2]; ++a)
                for (std::int64_t b = 0; b < sw[3]; ++b) {
                  const std::int64_t row = i * o.stride.h + a * o.dilation.h - o.padding.h;
                  const std::int64_t column = j * o.stride.w + b * o.dilation.w - o.padding.w;
                  if (row < 0 || row >= y.size(2) || column < 0 || column >= y.size(3)) continue;
                  sum[((n * y.size(1) + c / per_in * per_out + k) * y.size(2) + row) * y.size(3) + column] +=
                      x.at(at) * w.at(((c * per_out + k) * sw[2] + a) * sw[3] + b);
                }
    CHECK(largest_difference(y, expected) < 1e-12);
  }
}

TEST_CASE("conv1d follows its definition, and a causal one sees no future", "[conv]") {
  struct Use {
    Shape x, w;
    Conv1dOptions options;
  };
  SampleGen g(13);
  for (const auto& [sx, sw, o] :
       {Use{{2, 3, 20}, {4, 3, 3}, {.padding = 1}},
        Use{{2, 4, 300}, {6, 2, 5}, {.stride = 2, .padding = 3, .dilation = 4, .groups = 2}},
        Use{{3, 2, 33}, {2, 2, 4}, {.dilation = 3, .causal = true}},
        Use{{1, 3, 200}, {3, 1, 3}, {.stride = 3, .dilation = 2, .groups = 3, .causal = true}}}) {
    const Tensor x = g.normal(sx), w = g.normal(sw);
    const Tensor y = conv1d(x, w, o).value();
    const std::int64_t reach = o.dilation * (sw[2] - 1), before = o.causal ? reach : o.padding;
    REQUIRE(y.shape() ==
            Shape{sx[0], sw[0], (sx[2] + (o.causal ? before : 2 * before) - reach - 1) / o.stride + 1});
    Tensor expected = Tensor::zeros(y.shape(), DType::f64);
    double* sum = expected.mutable_data<double>();
    std::int64_t at = 0;
    for (std::int64_t n = 0; n < sx[0]; ++n)
      for (std::int64_t k = 0; k < sw[0]; ++k)
        for (std::int64_t i = 0; i < y.size(2); ++i, ++at)
          for (std::int64_t c = 0; c < sw[1]; ++c)
            for (std::int64_t a = 0; a < sw[2]; ++a) {
              const std::int64_t t = i * o.stride + a * o.dilation - before;
              if (t < 0 || t >= sx[2]) continue;
              if (o.causal) CHECK(t <= i * o.stride);
              sum[at] += x.at((n * sx[1] + k / (sw[0] / o.groups) * sw[1] + c) * sx[2] + t) *
                         w.at((k * sw[1] + c) * sw[2] + a);
            }
    CHECK(largest_difference(y, expected) < 1e-12);
  }
}

TEST_CASE("infinities and NaN reach what they do whatever way a convolution takes", "[conv]") {
  // Two groups of the same take the general way.
  constexpr double inf = std::numeric_limits<double>::infinity(),
                   nan = std::numeric_limits<double>::quiet_NaN();
  const auto twice = [](const Var& a, int axis) { return concat({a, a}, axis); };
  const auto check_same = [](const Var& got, const Var& expected) {
    for (std::int64_t i = 0; i < got.size(); ++i) {
      const double a = got.value().at(i), b = expected.value().at(i);
      INFO(i << ": " << a << " for " << b);
      REQUIRE((std::isfinite(b) ? std::abs(a - b) < 1e-11 : std::isnan(b) ? std::isnan(a) : a == b));
    }
  };
  SampleGen g(12);
  for (const Case& c : {Case{{2, 1, 9, 10}, {12, 1, 3, 3}, {.padding = {1, 2}}},
                        Case{{2, 12, 9, 10}, {1, 12, 3, 3}, {.padding = {2, 1}}}}) {
    Conv2dOptions grouped = c.options;
    grouped.groups = 2;
    const Pair image{c.x[2], c.x[3]}, filter{c.w[2], c.w[3]};
    const Shape of_y = conv2d(Var(g.normal(c.x)), Var(g.normal(c.w)), c.options).shape();
    for (const double bad : {inf, -inf, nan})
      for (int which = 0; which < 3; ++which)
        for (const bool last : {false, true}) {
          Tensor x = g.normal(c.x), w = g.normal(c.w), y = g.normal(of_y);
          Tensor& spoilt = which == 0 ? x : which == 1 ? w : y;
          spoilt.mutable_data<double>()[last ? spoilt.size() - 1 : 0] = bad;
          INFO(c.w.to_string() << ", " << bad << " in " << which);
          const auto half = [](const Var& a, int axis) { return slice(a, axis, 0, a.size(axis) / 2); };
          check_same(conv2d(Var(x), Var(w), c.options), half(conv2d(twice(x, 1), twice(w, 0), grouped), 1));
          check_same(conv2d_input_grad(Var(y), Var(w), image, c.options),
                     half(conv2d_input_grad(twice(y, 1), twice(w, 0), image, grouped), 1));
          check_same(conv2d_weight_grad(Var(x), Var(y), filter, c.options),
                     half(conv2d_weight_grad(twice(x, 1), twice(y, 1), filter, grouped), 0));
        }
  }
}

TEST_CASE("convolutions of nothing are zeros", "[conv]") {
  CHECK(conv2d(Tensor::ones({0, 2, 4, 4}), Tensor::ones({3, 2, 3, 3})).shape() == Shape{0, 3, 2, 2});
  CHECK(conv2d(Tensor::ones({1, 0, 3, 3}), Tensor::ones({1, 0, 3, 3})).item() == 0.0);
  const Var dw = conv2d_weight_grad(Tensor::ones({0, 1, 4, 4}), Tensor::ones({0, 1, 4, 4}), 1);
  CHECK(dw.item() == 0.0);
}

TEST_CASE("convolutions refuse what does not fit", "[conv]") {
  const Var x = Tensor::ones({1, 4, 5, 5}), w = Tensor::ones({2, 2, 3, 3});
  CHECK_THROWS_WITH(conv2d(x, w), Contains("[conv2d] channels must agree") && Contains("(1,4,5,5)") &&
                                      Contains("(2,2,3,3)"));
  CHECK(conv2d(x, w, {.groups = 2}).shape() == Shape{1, 2, 3, 3});
  CHECK_THROWS_AS(conv2d(x, w, {.dilation = 3, .groups = 2}), ShapeError);
  CHECK_THROWS_AS(conv2d(x, w, {.padding = -1, .groups = 2}), ValueError);
  CHECK_THROWS_AS(conv2d(x, w, {.dilation = 0, .groups = 2}), ValueError);
  CHECK_THROWS_AS(conv2d(x, w, {.groups = 0}), ValueError);
  CHECK_THROWS_AS(conv2d(x, Tensor::ones({3, 2, 3, 3}), {.groups = 2}), ShapeError);
  CHECK_THROWS_AS(conv2d(x, w, {.padding = std::int64_t{1} << 31, .groups = 2}), ShapeError);
  CHECK_THROWS_AS(conv2d(x, Tensor::ones({2, 2, 3, 3}, DType::f64), {.groups = 2}), DTypeError);
  CHECK_THROWS_AS(conv2d_input_grad(Tensor::ones({1, 2, 4, 4}), w, 5, {.groups = 2}), ShapeError);
  CHECK_THROWS_AS(conv2d_weight_grad(x, Tensor::ones({2, 2, 3, 3}), 3, {.groups = 2}), ShapeError);
  CHECK_THROWS_AS(conv2d_weight_grad(x, Tensor::ones({3, 3}), 3), ShapeError);
}

TEST_CASE("the bits of an image's convolution and input gradient do not depend on the images beside it",
          "[conv]") {
  for (const Case& c : cases()) {
    INFO(c.x.to_string() << " with " << c.w.to_string());
    const Var x(normal(c.x, 1)), w(normal(c.w, 2));
    const Var y = conv2d(x, w, c.options);
    const Pair extent{c.x[2], c.x[3]};
    const Var dx = conv2d_input_grad(y, w, extent, c.options);
    for (std::int64_t i = 0; i < c.x[0]; ++i) {
      const auto alone = [i](const Var& all) { return slice(all, 0, i, i + 1); };
      REQUIRE(same_bits(conv2d(alone(x), w, c.options), alone(y)));
      REQUIRE(same_bits(conv2d_input_grad(alone(y), w, extent, c.options), alone(dx)));
    }
  }
}
