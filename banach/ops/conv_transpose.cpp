#include <banach/engine/samples.hpp>
#include <banach/ops/conv.hpp>

#include <algorithm>
#include <limits>
#include <string>

namespace banach {
namespace {

std::string text(Pair pair) { return "(" + std::to_string(pair.h) + "," + std::to_string(pair.w) + ")"; }

// Rows or columns of the result.
std::int64_t spread(std::int64_t extent, std::int64_t kernel, std::int64_t stride, std::int64_t padding,
                    std::int64_t output_padding, std::int64_t dilation) {
  return (extent - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1;
}

// The size of the image whose convolution has x's size.
Pair image(const Shape& x, const Shape& w, const ConvTranspose2dOptions& o) {
  constexpr std::int64_t limit = std::int64_t{1} << 31;  // products of two such numbers fit
  const auto shapes = [&] { return "image " + x.to_string() + ", filter " + w.to_string(); };
  const auto check = [&](const char* what, Pair pair, std::int64_t low) {
    if (std::min(pair.h, pair.w) < low || std::max(pair.h, pair.w) > limit)
      fail<ValueError>("conv_transpose2d", std::string(what) + " must lie in [" + std::to_string(low) +
                                               ", 2^31]: got " + text(pair));
  };
  check("stride", o.stride, 1);
  check("padding", o.padding, 0);
  check("dilation", o.dilation, 1);
  check("output_padding", o.output_padding, 0);
  if (o.output_padding.h >= o.stride.h || o.output_padding.w >= o.stride.w)
    fail<ValueError>("conv_transpose2d", "output_padding must be less than stride: " +
                                             text(o.output_padding) + " with stride " + text(o.stride));
  if (x.rank() != 4 || w.rank() != 4)
    fail<ShapeError>("conv_transpose2d", "image and filter must have rank 4: " + shapes());
  check("image", {x[2], x[3]}, 1);
  check("filter", {w[2], w[3]}, 1);
  if (o.groups < 1)
    fail<ValueError>("conv_transpose2d", "groups must be at least 1: got " + std::to_string(o.groups));
  if (x[1] != w[0] || w[0] % o.groups != 0 || w[1] > limit || o.groups > limit)
    fail<ShapeError>("conv_transpose2d",
                     "the image's channels must be the filter's first axis, and groups divide them: " +
                         shapes() + ", groups " + std::to_string(o.groups));
  const Pair result{spread(x[2], w[2], o.stride.h, o.padding.h, o.output_padding.h, o.dilation.h),
                    spread(x[3], w[3], o.stride.w, o.padding.w, o.output_padding.w, o.dilation.w)};
  if (std::min(result.h, result.w) < 1)
    fail<ShapeError>("conv_transpose2d", "padding must leave something of the result: " + shapes() +
                                             ", padding " + text(o.padding) + " give " + text(result));
  return result;
}

const Op conv_transpose2d_op{{
    .name = "conv_transpose2d",
    .doc =
        "Transposed convolution: each pixel adds its multiple of the filter to the result, `stride` apart.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          using O = ConvTranspose2dOptions;
          return Samples{{{g.normal({2, 3, 3, 4}), g.normal({3, 2, 3, 3})}, O{}},
                         {{g.normal({1, 2, 3, 2}), g.normal({2, 3, 3, 2})},
                          O{.stride = {2, 3}, .padding = {1, 0}, .output_padding = {1, 2}}},
                         {{g.normal({1, 4, 2, 3}), g.normal({4, 2, 2, 3})},
                          O{.padding = 1, .dilation = {1, 2}, .groups = 2}},
                         {{g.normal({2, 3, 2, 2}), g.normal({3, 1, 3, 3})},
                          O{.stride = 2, .padding = 2, .output_padding = 1, .dilation = 2, .groups = 3}},
                         {{g.normal({0, 2, 3, 3}), g.normal({2, 1, 2, 2})}, O{}},
                         {{g.normal({1, 1, 1, 1}), g.normal({1, 1, 1, 1})}, O{}}};
        },
    .errors =
        [] {
          using O = ConvTranspose2dOptions;
          const Tensor x = Tensor::zeros({1, 2, 4, 4}), w = Tensor::zeros({2, 3, 3, 3});
          return ErrorSamples{
              {{x, Tensor::zeros({3, 2, 3, 3})},
               O{},
               "[conv_transpose2d] the image's channels must be the filter's first axis, and groups divide "
               "them: "
               "image (1,2,4,4), filter (3,2,3,3), groups 1"},
              {{x, w}, O{.groups = 4}, "groups 4"},
              {{Tensor::zeros({1, 0, 4, 4}), Tensor::zeros({0, (std::int64_t{1} << 31) + 1, 3, 3})},
               O{},
               "the image's channels must be the filter's first axis"},
              {{Tensor::zeros({1, 0, 4, 4}), Tensor::zeros({0, 3, 3, 3})},
               O{.groups = (std::int64_t{1} << 31) + 1},
               "groups divide them"},
              {{x, w}, O{.groups = 0}, "groups must be at least 1: got 0"},
              {{x, w}, O{.stride = 2, .output_padding = 2}, "output_padding must be less than stride: (2,2)"},
              {{x, w}, O{.padding = 3}, "padding must leave something of the result"},
              {{Tensor::zeros({1, 2, 0, 4}), w}, O{}, "image must lie in [1, 2^31]: got (0,4)"},
              {{Tensor::zeros({2, 4, 4}), w}, O{}, "image and filter must have rank 4"}};
        },
    .composite =
        [](std::span<const Var> in, const Attrs& attrs) {
          const auto& o = attrs.as<ConvTranspose2dOptions>();
          const Pair result = image(in[0].shape(), in[1].shape(), o);
          const Conv2dOptions options{o.stride, o.padding, o.dilation, o.groups};
          return Vars{conv2d_input_grad(in[0], in[1], result, options)};
        },
    .edges =
        [] {
          constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                           inf = std::numeric_limits<double>::infinity();
          // A NaN or infinity reaches what its pixel adds to, and nothing else.
          return Edges{{{tensor({nan, 1.0, inf}, {1, 1, 1, 3}), tensor({1.0, 2.0}, {1, 1, 1, 2})},
                        ConvTranspose2dOptions{.stride = 2},
                        {tensor({nan, nan, 1.0, 2.0, inf, inf}, {1, 1, 1, 6})},
                        {tensor({3.0, 3.0, 3.0}, {1, 1, 1, 3}), tensor({nan, nan}, {1, 1, 1, 2})}},
                       {{Tensor::zeros({0, 1, 2, 2}, DType::f64), Tensor::ones({1, 1, 1, 1}, DType::f64)},
                        ConvTranspose2dOptions{},
                        {Tensor::zeros({0, 1, 2, 2}, DType::f64)},
                        {Tensor::zeros({0, 1, 2, 2}, DType::f64), Tensor::zeros({1, 1, 1, 1}, DType::f64)}}};
        },
    .nan = NanRule::somewhere,
}};

}  // namespace

Var conv_transpose2d(const Var& x, const Var& w, const ConvTranspose2dOptions& options) {
  return apply(conv_transpose2d_op, {x, w}, options);
}

}  // namespace banach
