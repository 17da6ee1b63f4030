#include <banach/engine/samples.hpp>
#include <banach/ops/resample.hpp>
#include <banach/ops/upsample.hpp>

#include <algorithm>
#include <limits>
#include <string>

namespace banach {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();

void check(std::string_view op, const Shape& x, const char* what, Pair pair) {
  constexpr std::int64_t limit = std::int64_t{1} << 30;
  if (x.rank() != 4) fail<ShapeError>(op, "image must have rank 4: got " + x.to_string());
  if (std::min(pair.h, pair.w) < 1 || std::max(pair.h, pair.w) > limit)
    fail<ValueError>(op, std::string(what) + " must lie in [1, 2^30]: got (" + std::to_string(pair.h) + "," +
                             std::to_string(pair.w) + ")");
  if (x[2] > limit || x[3] > limit) fail<ShapeError>(op, "image is too large: " + x.to_string());
}

struct PairAttrs {
  Pair pair;
};

Windowing repeat_each(std::int64_t extent, std::int64_t factor) {
  Windowing result(extent);
  for (std::int64_t i = 0; i < extent * factor; ++i) result.add(i / factor, 1, 1.0);
  return result;
}

const Op upsample_nearest_op{{
    .name = "upsample_nearest",
    .doc = "Each pixel as a block of equal ones.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({2, 3, 2, 3})}, PairAttrs{2}},
                         {{g.normal({1, 2, 3, 2})}, PairAttrs{{1, 3}}},
                         {{g.normal({1, 1, 2, 1})}, PairAttrs{{4, 2}}},
                         {{g.normal({2, 1, 0, 3})}, PairAttrs{2}},
                         {{g.normal({1, 1, 1, 1})}, PairAttrs{1}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({1, 1, 2, 2})},
                               PairAttrs{{2, 0}},
                               "[upsample_nearest] factor must lie in [1, 2^30]: got (2,0)"},
                              {{Tensor::zeros({2, 2})}, PairAttrs{2}, "image must have rank 4: got (2,2)"}};
        },
    .composite =
        [](std::span<const Var> in, const Attrs& attrs) {
          const Pair factor = attrs.as<PairAttrs>().pair;
          const Shape& x = in[0].shape();
          check("upsample_nearest", x, "factor", factor);
          return Vars{resample2d(in[0], repeat_each(x[2], factor.h), repeat_each(x[3], factor.w))};
        },
    .edges =
        [] {
          return Edges{{{tensor({nan, -0.0, inf}, {1, 1, 1, 3})},
                        PairAttrs{{1, 2}},
                        {tensor({nan, nan, -0.0, -0.0, inf, inf}, {1, 1, 1, 6})},
                        {tensor({2.0, 2.0, 2.0}, {1, 1, 1, 3})}},
                       {{Tensor::zeros({1, 1, 0, 2}, DType::f64)},
                        PairAttrs{2},
                        {Tensor::zeros({1, 1, 0, 4}, DType::f64)}}};
        },
    .nan = NanRule::somewhere,
}};

// Positions are fractions: ((2 i + 1) extent - size) / (2 size).
Windowing interpolate(std::int64_t extent, std::int64_t size) {
  Windowing result(extent);
  for (std::int64_t i = 0; i < size; ++i) {
    const std::int64_t place = std::max<std::int64_t>((2 * i + 1) * extent - size, 0);
    const std::int64_t first = place / (2 * size), rest = place % (2 * size);
    const double far = static_cast<double>(rest) / static_cast<double>(2 * size);
    if (rest == 0 || first == extent - 1)
      result.add(first, 1, 1.0);
    else
      result.add(first, std::span<const double>({1.0 - far, far}));
  }
  return result;
}

const Op upsample_bilinear_op{{
    .name = "upsample_bilinear",
    .doc = "Images on another grid, interpolated linearly between the four nearest pixels.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          return Samples{
              {{g.normal({2, 2, 3, 4})}, PairAttrs{{6, 8}}}, {{g.normal({1, 2, 5, 4})}, PairAttrs{{3, 7}}},
              {{g.normal({1, 1, 2, 1})}, PairAttrs{{5, 3}}}, {{g.normal({2, 1, 3, 3})}, PairAttrs{3}},
              {{g.normal({0, 1, 3, 3})}, PairAttrs{4}},      {{g.normal({1, 1, 1, 1})}, PairAttrs{1}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({1, 1, 2, 2})},
                               PairAttrs{0},
                               "[upsample_bilinear] size must lie in [1, 2^30]: got (0,0)"},
                              {{Tensor::zeros({1, 1, 0, 2})},
                               PairAttrs{2},
                               "[upsample_bilinear] image must have pixels: got (1,1,0,2)"},
                              {{Tensor::zeros({2, 2})}, PairAttrs{2}, "image must have rank 4: got (2,2)"}};
        },
    .composite =
        [](std::span<const Var> in, const Attrs& attrs) {
          const Pair size = attrs.as<PairAttrs>().pair;
          const Shape& x = in[0].shape();
          check("upsample_bilinear", x, "size", size);
          if (x[2] == 0 || x[3] == 0)
            fail<ShapeError>("upsample_bilinear", "image must have pixels: got " + x.to_string());
          return Vars{resample2d(in[0], interpolate(x[2], size.h), interpolate(x[3], size.w))};
        },
    .edges =
        [] {
          // Twice as many pixels: nothing but its neighbours sees the NaN. As many: nothing changes.
          return Edges{{{tensor({1.0, nan, inf}, {1, 1, 1, 3})},
                        PairAttrs{{1, 6}},
                        {tensor({1.0, nan, nan, nan, nan, inf}, {1, 1, 1, 6})},
                        {tensor({2.0, 2.0, 2.0}, {1, 1, 1, 3})}},
                       {{tensor({-0.0, nan, -inf, inf}, {1, 1, 2, 2})},
                        PairAttrs{2},
                        {tensor({-0.0, nan, -inf, inf}, {1, 1, 2, 2})},
                        {Tensor::ones({1, 1, 2, 2}, DType::f64)}},
                       {{Tensor::zeros({0, 1, 2, 2}, DType::f64)},
                        PairAttrs{3},
                        {Tensor::zeros({0, 1, 3, 3}, DType::f64)}}};
        },
}};

}  // namespace

Var upsample_nearest(const Var& x, Pair factor) { return apply(upsample_nearest_op, {x}, PairAttrs{factor}); }

Var upsample_bilinear(const Var& x, Pair size) { return apply(upsample_bilinear_op, {x}, PairAttrs{size}); }

}  // namespace banach
