#include <banach/engine/samples.hpp>
#include <banach/ops/conv.hpp>
#include <banach/ops/shape_ops.hpp>

#include <limits>
#include <string>

namespace banach {
namespace {

void check(const Shape& x, const Shape& w, const Conv1dOptions& o) {
  constexpr std::int64_t limit = std::int64_t{1} << 31;  // products of two such numbers fit
  const auto shapes = [&] { return "signal " + x.to_string() + ", filter " + w.to_string(); };
  const auto in_range = [](const char* what, std::int64_t value, std::int64_t low) {
    if (value < low || value > limit)
      fail<ValueError>("conv1d", std::string(what) + " must lie in [" + std::to_string(low) +
                                     ", 2^31]: got " + std::to_string(value));
  };
  in_range("stride", o.stride, 1);
  in_range("padding", o.padding, 0);
  in_range("dilation", o.dilation, 1);
  in_range("groups", o.groups, 1);
  if (o.causal && o.padding != 0)
    fail<ValueError>("conv1d",
                     "a causal filter chooses its padding itself: got padding " + std::to_string(o.padding));
  if (x.rank() != 3 || w.rank() != 3)
    fail<ShapeError>("conv1d", "signal and filter must have rank 3: " + shapes());
  in_range("length", x[2], 0);
  in_range("filter", w[2], 1);
  if (x[1] % o.groups != 0 || x[1] / o.groups != w[1] || w[0] % o.groups != 0)
    fail<ShapeError>("conv1d", "channels must agree (signal's = groups x filter's, groups divides both): " +
                                   shapes() + ", groups " + std::to_string(o.groups));
  const std::int64_t reach = o.dilation * (w[2] - 1), margin = o.causal ? reach : 2 * o.padding;
  if (x[2] + margin < reach + 1)
    fail<ShapeError>("conv1d", "filter must fit the padded signal: " + shapes() + ", padding " +
                                   std::to_string(o.padding) + ", dilation " + std::to_string(o.dilation));
}

// A convolution of images one pixel wide.
Vars convolved(std::span<const Var> in, const Attrs& attrs) {
  const Var &x = in[0], &w = in[1];
  const auto& o = attrs.as<Conv1dOptions>();
  check(x.shape(), w.shape(), o);
  const Shape &signal = x.shape(), &filter = w.shape();
  const std::int64_t before = o.causal ? o.dilation * (filter[2] - 1) : 0;
  const Var padded = pad(x, {0, 0, before}, {0, 0, 0});
  const Var image = reshape(padded, {signal[0], signal[1], signal[2] + before, 1});
  const Var y = conv2d(
      image, reshape(w, {filter[0], filter[1], filter[2], 1}),
      {.stride = {o.stride, 1}, .padding = {o.padding, 0}, .dilation = {o.dilation, 1}, .groups = o.groups});
  return {reshape(y, {y.size(0), y.size(1), y.size(2)})};
}

const Op conv1d_op{{
    .name = "conv1d",
    .doc = "Cross-correlation of signals with filters over the last axis, with stride, padding, dilation, "
           "groups; causal if asked.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          using O = Conv1dOptions;
          return Samples{
              {{g.normal({2, 3, 6}), g.normal({2, 3, 3})}, O{.padding = 1}},
              {{g.normal({1, 2, 9}), g.normal({3, 2, 2})}, O{.stride = 2, .padding = 2, .dilation = 3}},
              {{g.normal({2, 4, 5}), g.normal({4, 2, 3})}, O{.dilation = 2, .groups = 2, .causal = true}},
              {{g.normal({1, 3, 7}), g.normal({3, 1, 4})}, O{.stride = 3, .groups = 3, .causal = true}},
              {{g.normal({2, 2, 1}), g.normal({1, 2, 3})}, O{.causal = true}},
              {{g.normal({0, 2, 4}), g.normal({3, 2, 2})}, O{}},
              {{g.normal({1, 1, 1}), g.normal({1, 1, 1})}, O{}}};
        },
    .errors =
        [] {
          using O = Conv1dOptions;
          const Tensor x = Tensor::zeros({1, 2, 4}), w = Tensor::zeros({3, 2, 3});
          return ErrorSamples{
              {{x, Tensor::zeros({3, 1, 3})},
               O{},
               "[conv1d] channels must agree (signal's = groups x filter's, groups divides both): signal "
               "(1,2,4), filter (3,1,3), groups 1"},
              {{x, w}, O{.dilation = 2}, "[conv1d] filter must fit the padded signal: signal (1,2,4)"},
              {{Tensor::zeros({1, 2, 0}), w},
               O{.causal = true},
               "must fit the padded signal: signal (1,2,0)"},
              {{x, w}, O{.padding = 1, .causal = true}, "a causal filter chooses its padding itself"},
              {{x, w}, O{.stride = 0}, "stride must lie in [1, 2^31]: got 0"},
              {{Tensor::zeros({2, 4}), w}, O{}, "signal and filter must have rank 3"}};
        },
    .composite = convolved,
    .edges =
        [] {
          constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                           inf = std::numeric_limits<double>::infinity();
          // Causal: nothing reaches what came before it. Padding holds zeros, and 0 * inf is NaN.
          return Edges{{{tensor({1.0, nan, 1.0, 1.0}, {1, 1, 4}), tensor({2.0, 1.0}, {1, 1, 2})},
                        Conv1dOptions{.causal = true},
                        {tensor({1.0, nan, nan, 3.0}, {1, 1, 4})},
                        {tensor({3.0, 3.0, 3.0, 1.0}, {1, 1, 4}), tensor({nan, nan}, {1, 1, 2})}},
                       {{tensor({1.0, 2.0}, {1, 1, 2}), tensor({inf, 1.0}, {1, 1, 2})},
                        Conv1dOptions{.causal = true},
                        {tensor({nan, inf}, {1, 1, 2})},
                        {tensor({inf, 1.0}, {1, 1, 2}), tensor({1.0, 3.0}, {1, 1, 2})}},
                       {{Tensor::zeros({0, 1, 2}, DType::f64), Tensor::ones({1, 1, 1}, DType::f64)},
                        Conv1dOptions{},
                        {Tensor::zeros({0, 1, 2}, DType::f64)},
                        {Tensor::zeros({0, 1, 2}, DType::f64), Tensor::zeros({1, 1, 1}, DType::f64)}}};
        },
}};

}  // namespace

Var conv1d(const Var& x, const Var& w, const Conv1dOptions& options) {
  return apply(conv1d_op, {x, w}, options);
}

}  // namespace banach
