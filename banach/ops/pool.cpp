#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/index.hpp>
#include <banach/ops/pool.hpp>
#include <banach/ops/resample.hpp>
#include <banach/ops/shape_ops.hpp>

#include <algorithm>
#include <limits>
#include <string>

namespace banach {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();

struct Windows {
  std::int64_t planes;  // images times channels
  Pair input, output, kernel, stride, padding;
};

Windows windows(std::string_view op, const Shape& x, const Pool2dOptions& options) {
  const Pair kernel = options.kernel, stride = options.stride.value_or(kernel), padding = options.padding;
  const auto text = [](Pair p) { return "(" + std::to_string(p.h) + "," + std::to_string(p.w) + ")"; };
  constexpr std::int64_t limit = std::numeric_limits<std::int32_t>::max();
  if (x.rank() != 4) fail<ShapeError>(op, "image must have rank 4: got " + x.to_string());
  for (const auto& [what, pair] : {std::pair{"kernel", kernel}, std::pair{"stride", stride}})
    if (std::min(pair.h, pair.w) < 1 || std::max(pair.h, pair.w) > limit)
      fail<ValueError>(op, std::string(what) + " must lie in [1, 2^31): got " + text(pair));
  if (std::min(padding.h, padding.w) < 0 || padding.h >= kernel.h || padding.w >= kernel.w)
    fail<ValueError>(op,
                     "padding must lie in [0, kernel): got " + text(padding) + " for kernel " + text(kernel));
  const std::int64_t room_h = x[2] + 2 * padding.h - kernel.h, room_w = x[3] + 2 * padding.w - kernel.w;
  if (x[2] < 1 || x[3] < 1 || room_h < 0 || room_w < 0)
    fail<ShapeError>(op, "kernel must fit the padded image: kernel " + text(kernel) + ", image " +
                             x.to_string() + ", padding " + text(padding));
  if (x[2] > limit / x[3])
    fail<ShapeError>(op, "image must have less than 2^31 positions: got " + x.to_string());
  return {x[0] * x[1], {x[2], x[3]}, {room_h / stride.h + 1, room_w / stride.w + 1}, kernel, stride, padding};
}

// The windows of output row `oh` and columns [begin, end), at most `strip` of them, one tap after the other
// and without branches: which value wins is unpredictable.
constexpr std::int64_t strip = 128;

template <class T>
void find_largest(const T* plane, std::int64_t oh, std::int64_t begin, std::int64_t end, std::int64_t* out,
                  const Windows& w) {
  T largest[strip];
  std::int32_t best[strip];
  const std::int64_t top = oh * w.stride.h - w.padding.h, first_row = std::max<std::int64_t>(top, 0);
  const std::int64_t last_row = std::min(top + w.kernel.h, w.input.h);
  for (std::int64_t i = begin; i < end; ++i) {  // padding < kernel: every window meets the image
    const std::int64_t column = std::max<std::int64_t>(i * w.stride.w - w.padding.w, 0);
    best[i - begin] = static_cast<std::int32_t>(first_row * w.input.w + column);
    largest[i - begin] = -std::numeric_limits<T>::infinity();
  }
  for (std::int64_t row = first_row; row < last_row; ++row)
    for (std::int64_t kw = 0; kw < w.kernel.w; ++kw) {
      const std::int64_t shift = kw - w.padding.w;  // the input column of output column 0
      const std::int64_t room = w.input.w - 1 - shift;
      const std::int64_t first = std::max(begin, shift >= 0 ? 0 : (-shift + w.stride.w - 1) / w.stride.w);
      const std::int64_t last = room < 0 ? 0 : std::min(end, room / w.stride.w + 1);
      const std::int64_t start = row * w.input.w + shift;
      for (std::int64_t i = first; i < last; ++i) {
        const T value = plane[start + i * w.stride.w], before = largest[i - begin];
        const bool wins = (value > before) | ((value != value) & (before == before));  // the first NaN stays
        largest[i - begin] = wins ? value : before;
        best[i - begin] = wins ? static_cast<std::int32_t>(start + i * w.stride.w) : best[i - begin];
      }
    }
  for (std::int64_t i = begin; i < end; ++i) out[i] = best[i - begin];
}

template <class T>
void find_largest(const T* x, std::int64_t* out, const Windows& w) {
  const double work =
      static_cast<double>(w.output.h * w.output.w) * static_cast<double>(w.kernel.h * w.kernel.w);
  const auto grain = std::max<std::int64_t>(1, static_cast<std::int64_t>((1 << 14) / work));
  parallel_for(w.planes, grain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t p = first; p < last; ++p)
      for (std::int64_t oh = 0; oh < w.output.h; ++oh)
        for (std::int64_t begin = 0; begin < w.output.w; begin += strip)
          find_largest(x + p * w.input.h * w.input.w, oh, begin, std::min(begin + strip, w.output.w),
                       out + (p * w.output.h + oh) * w.output.w, w);
  });
}

// The positions do not change as x does, but for ties: a constant for every derivative.
const Op max_pool2d_indices_op{{
    .name = "max_pool2d_indices",
    .doc = "Positions, in the flattened image, of the largest value of each window.",
    .shape =
        [](const ShapeContext& c) {
          common_floating(c);
          const Windows w = windows(c.op, c.shape(), c.attrs.as<Pool2dOptions>());
          return Spec{{c.shape()[0], c.shape()[1], w.output.h, w.output.w}, DType::i64};
        },
    .kernel =
        [](const KernelContext& c) {
          const Windows w = windows("max_pool2d_indices", c.in().shape(), c.attrs.as<Pool2dOptions>());
          std::int64_t* out = c.out().mutable_data<std::int64_t>();
          dispatch_floating(c.in().dtype(),
                            [&](auto zero) { find_largest(c.in().data<decltype(zero)>(), out, w); });
        },
    .saves = Saves::nothing,
    .samples =
        [](SampleGen& g) {
          return Samples{
              {{g.distinct({2, 2, 4, 4})}, Pool2dOptions{}},
              {{g.distinct({1, 3, 5, 6})}, Pool2dOptions{.kernel = 3, .stride = Pair{2, 1}, .padding = 1}},
              {{g.distinct({0, 2, 4, 4})}, Pool2dOptions{}},
              {{g.distinct({1, 1, 1, 1})}, Pool2dOptions{.kernel = 1}}};
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({1, 1, 3, 3});
          return ErrorSamples{
              {{x},
               Pool2dOptions{.kernel = 5, .padding = 0},
               "[max_pool2d_indices] kernel must fit the padded image: kernel (5,5), image (1,1,3,3)"},
              {{x}, Pool2dOptions{.kernel = 2, .padding = 2}, "padding must lie in [0, kernel): got (2,2)"},
              {{x}, Pool2dOptions{.kernel = 0}, "kernel must lie in [1, 2^31): got (0,0)"},
              {{Tensor::zeros({3, 3})}, Pool2dOptions{}, "image must have rank 4: got (3,3)"}};
        },
    .edges =
        [] {
          // The first of equal ones wins, the first NaN before all; without a larger one, -infinity does.
          return Edges{
              {{tensor({1.0, 1.0, nan, 2.0, -inf, -inf, inf, nan, -0.0, 0.0, nan, nan}, {1, 1, 1, 12})},
               Pool2dOptions{.kernel = {1, 2}},
               {tensor<std::int64_t>({0, 2, 4, 7, 8, 10}, {1, 1, 1, 6})},
               {}},
              {{Tensor::zeros({2, 0, 2, 2}, DType::f64)},
               Pool2dOptions{},
               {Tensor::zeros({2, 0, 1, 1}, DType::i64)}}};
        },
    .rows = first_by_rows,
}};

// The entries of x's flattened images at these positions.
Var picked(const Var& x, const Var& index) {
  const Shape &from = x.shape(), &to = index.shape();
  const Var flat = gather(reshape(x, {from[0], from[1], from.size(2, 4)}), 2,
                          reshape(index, {to[0], to[1], to.size(2, 4)}));
  return reshape(flat, to);
}

Vars pooled(std::span<const Var> inputs, const Attrs& attrs) {
  windows("max_pool2d", inputs[0].shape(), attrs.as<Pool2dOptions>());  // for errors by this name
  return {picked(inputs[0], apply(max_pool2d_indices_op, inputs, attrs))};
}

const Op max_pool2d_op{{
    .name = "max_pool2d",
    .doc = "Largest value of each window; the first of several equal ones gets the gradient, and a NaN wins.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.distinct({2, 3, 4, 4})}, Pool2dOptions{}},
                         {{g.distinct({1, 2, 5, 6})}, Pool2dOptions{.kernel = 3, .stride = 2, .padding = 1}},
                         {{g.distinct({1, 2, 6, 5})},
                          Pool2dOptions{.kernel = {3, 2}, .stride = Pair{1, 3}, .padding = {2, 0}}},
                         {{g.distinct({0, 2, 4, 4})}, Pool2dOptions{}},
                         {{g.distinct({1, 1, 1, 1})}, Pool2dOptions{.kernel = 1}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({1, 1, 3, 3})},
                               Pool2dOptions{.kernel = 5},
                               "[max_pool2d] kernel must fit the padded image"}};
        },
    .composite = pooled,
    .edges =
        [] {
          // The first of equal ones wins, the first NaN before all; without a larger one, -infinity does.
          return Edges{
              {{tensor({1.0, 1.0, nan, 2.0, -inf, -inf, inf, nan, -0.0, 0.0, nan, nan}, {1, 1, 1, 12})},
               Pool2dOptions{.kernel = {1, 2}},
               {tensor({1.0, nan, -inf, nan, -0.0, nan}, {1, 1, 1, 6})},
               {tensor({1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0}, {1, 1, 1, 12})}},
              {{Tensor::zeros({2, 0, 2, 2}, DType::f64)},
               Pool2dOptions{},
               {Tensor::zeros({2, 0, 1, 1}, DType::f64)}}};
        },
}};

// ---- Bins -------------------------------------------------------------------------------------------------

struct BinAttrs {
  Pair size;
};

// Bin i of `count`: entries [begin, end) of `extent`.
std::int64_t bin_begin(std::int64_t i, std::int64_t extent, std::int64_t count) { return i * extent / count; }
std::int64_t bin_end(std::int64_t i, std::int64_t extent, std::int64_t count) {
  return ((i + 1) * extent + count - 1) / count;
}

void check_bins(std::string_view op, const Shape& x, Pair size) {
  constexpr std::int64_t limit = std::int64_t{1} << 31;  // products of two such numbers fit
  if (x.rank() != 4) fail<ShapeError>(op, "image must have rank 4: got " + x.to_string());
  if (std::min(size.h, size.w) < 1 || std::max(size.h, size.w) >= limit)
    fail<ValueError>(op, "size must lie in [1, 2^31): got (" + std::to_string(size.h) + "," +
                             std::to_string(size.w) + ")");
  if (x[2] < 1 || x[3] < 1 || x[2] > limit / x[3])
    fail<ShapeError>(op, "image must have 1 to 2^31 pixels: got " + x.to_string());
}

template <class T>
std::int64_t largest_of_bin(const T* plane, std::int64_t width, Pair begin, Pair end) {
  std::int64_t best = begin.h * width + begin.w;
  for (std::int64_t h = begin.h; h < end.h; ++h)
    for (std::int64_t at = h * width + begin.w; at < h * width + end.w; ++at) {
      if (plane[best] != plane[best]) return best;  // the first NaN stays
      if (!(plane[at] <= plane[best])) best = at;
    }
  return best;
}

template <class T>
void find_largest_of_bins(const T* x, std::int64_t* out, const Shape& shape, Pair size) {
  const std::int64_t h = shape[2], w = shape[3];
  parallel_for(shape.size(0, 2), std::max<std::int64_t>(1, (1 << 14) / (h * w + size.h * size.w)),
               [&](std::int64_t first, std::int64_t last) {
                 for (std::int64_t p = first; p < last; ++p)
                   for (std::int64_t i = 0; i < size.h; ++i)
                     for (std::int64_t j = 0; j < size.w; ++j)
                       out[(p * size.h + i) * size.w + j] = largest_of_bin(
                           x + p * h * w, w, {bin_begin(i, h, size.h), bin_begin(j, w, size.w)},
                           {bin_end(i, h, size.h), bin_end(j, w, size.w)});
               });
}

ErrorSamples refused_bins() {
  return {{{Tensor::zeros({1, 1, 3, 3})}, BinAttrs{0}, "size must lie in [1, 2^31): got (0,0)"},
          {{Tensor::zeros({1, 1, 0, 3})}, BinAttrs{1}, "image must have 1 to 2^31 pixels: got (1,1,0,3)"},
          {{Tensor::zeros({3, 3})}, BinAttrs{1}, "image must have rank 4: got (3,3)"}};
}

Samples binned(SampleGen& g) {
  return {{{g.distinct({2, 3, 4, 4})}, BinAttrs{2}}, {{g.distinct({1, 2, 5, 7})}, BinAttrs{{3, 2}}},
          {{g.distinct({2, 2, 3, 2})}, BinAttrs{1}}, {{g.distinct({1, 1, 2, 3})}, BinAttrs{{5, 3}}},
          {{g.distinct({0, 2, 4, 4})}, BinAttrs{2}}, {{g.distinct({1, 1, 1, 1})}, BinAttrs{1}}};
}

// As those of max_pool2d_indices, a constant for every derivative.
const Op adaptive_max_pool2d_indices_op{{
    .name = "adaptive_max_pool2d_indices",
    .doc = "Positions, in the flattened image, of the largest value of each bin.",
    .shape =
        [](const ShapeContext& c) {
          common_floating(c);
          const Pair size = c.attrs.as<BinAttrs>().size;
          check_bins(c.op, c.shape(), size);
          return Spec{{c.shape()[0], c.shape()[1], size.h, size.w}, DType::i64};
        },
    .kernel =
        [](const KernelContext& c) {
          std::int64_t* out = c.out().mutable_data<std::int64_t>();
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            find_largest_of_bins(c.in().data<decltype(zero)>(), out, c.in().shape(),
                                 c.attrs.as<BinAttrs>().size);
          });
        },
    .saves = Saves::nothing,
    .samples = binned,
    .errors = refused_bins,
    .edges =
        [] {
          return Edges{{{tensor({1.0, 1.0, 2.0, nan, -inf, nan}, {1, 1, 1, 6})},
                        BinAttrs{{1, 3}},
                        {tensor<std::int64_t>({0, 3, 5}, {1, 1, 1, 3})}},
                       {{tensor({-inf, -inf, -0.0, 0.0, nan, nan}, {1, 1, 1, 6})},
                        BinAttrs{{1, 3}},
                        {tensor<std::int64_t>({0, 2, 4}, {1, 1, 1, 3})}}};
        },
    .rows = first_by_rows,
}};

const Op adaptive_max_pool2d_op{{
    .name = "adaptive_max_pool2d",
    .doc = "Largest value of each bin; the first of several equal ones gets the gradient, and a NaN wins.",
    .kind = OpKind::composite,
    .samples = binned,
    .errors = refused_bins,
    .composite =
        [](std::span<const Var> in, const Attrs& attrs) {
          check_bins("adaptive_max_pool2d", in[0].shape(), attrs.as<BinAttrs>().size);
          return Vars{picked(in[0], apply(adaptive_max_pool2d_indices_op, in, attrs))};
        },
    .edges =
        [] {
          return Edges{{{tensor({1.0, 1.0, 2.0, nan, -inf, -inf}, {1, 1, 1, 6})},
                        BinAttrs{{1, 3}},
                        {tensor({1.0, nan, -inf}, {1, 1, 1, 3})},
                        {tensor({1.0, 0.0, 0.0, 1.0, 1.0, 0.0}, {1, 1, 1, 6})}},
                       {{Tensor::zeros({2, 0, 2, 2}, DType::f64)},
                        BinAttrs{1},
                        {Tensor::zeros({2, 0, 1, 1}, DType::f64)}}};
        },
    .nan = NanRule::somewhere,
}};

// ---- Means ------------------------------------------------------------------------------------------------

Windowing mean_windows(std::int64_t extent, std::int64_t count, std::int64_t kernel, std::int64_t stride,
                       std::int64_t padding, bool count_padding) {
  Windowing result(extent);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t first = i * stride - padding, begin = std::max<std::int64_t>(first, 0),
                       end = std::min(first + kernel, extent);
    result.add(begin, end - begin, 1.0 / static_cast<double>(count_padding ? kernel : end - begin));
  }
  return result;
}

const Op avg_pool2d_op{{
    .name = "avg_pool2d",
    .doc = "Mean of each window.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          using O = AvgPool2dOptions;
          return Samples{
              {{g.normal({2, 3, 4, 4})}, O{}},
              {{g.normal({1, 2, 5, 6})}, O{.kernel = 3, .stride = 2, .padding = 1}},
              {{g.normal({1, 2, 6, 5})},
               O{.kernel = {3, 2}, .stride = Pair{1, 3}, .padding = {2, 1}, .count_padding = false}},
              {{g.normal({0, 2, 4, 4})}, O{}},
              {{g.normal({1, 1, 1, 1})}, O{.kernel = 1}}};
        },
    .errors =
        [] {
          using O = AvgPool2dOptions;
          const Tensor x = Tensor::zeros({1, 1, 3, 3});
          return ErrorSamples{
              {{x}, O{.kernel = 5}, "[avg_pool2d] kernel must fit the padded image"},
              {{x}, O{.kernel = 2, .padding = 2}, "padding must lie in [0, kernel): got (2,2)"},
              {{Tensor::zeros({3, 3})}, O{}, "image must have rank 4: got (3,3)"}};
        },
    .composite =
        [](std::span<const Var> in, const Attrs& attrs) {
          const auto& o = attrs.as<AvgPool2dOptions>();
          const Windows w = windows("avg_pool2d", in[0].shape(), {o.kernel, o.stride, o.padding});
          return Vars{resample2d(
              in[0],
              mean_windows(w.input.h, w.output.h, w.kernel.h, w.stride.h, w.padding.h, o.count_padding),
              mean_windows(w.input.w, w.output.w, w.kernel.w, w.stride.w, w.padding.w, o.count_padding))};
        },
    .edges =
        [] {
          // What no window holds goes nowhere.
          return Edges{{{tensor({nan, 1.0, inf, -inf, 3.0, inf, nan}, {1, 1, 1, 7})},
                        AvgPool2dOptions{.kernel = {1, 2}},
                        {tensor({nan, nan, inf}, {1, 1, 1, 3})},
                        {tensor({0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0}, {1, 1, 1, 7})}},
                       {{Tensor::zeros({2, 0, 2, 2}, DType::f64)},
                        AvgPool2dOptions{},
                        {Tensor::zeros({2, 0, 1, 1}, DType::f64)}}};
        },
}};

Windowing mean_bins(std::int64_t extent, std::int64_t count) {
  Windowing result(extent);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t begin = bin_begin(i, extent, count), size = bin_end(i, extent, count) - begin;
    result.add(begin, size, 1.0 / static_cast<double>(size));
  }
  return result;
}

const Op adaptive_avg_pool2d_op{{
    .name = "adaptive_avg_pool2d",
    .doc = "Mean of each bin of an image cut into so many.",
    .kind = OpKind::composite,
    .samples = binned,
    .errors = refused_bins,
    .composite =
        [](std::span<const Var> in, const Attrs& attrs) {
          const Pair size = attrs.as<BinAttrs>().size;
          const Shape& x = in[0].shape();
          check_bins("adaptive_avg_pool2d", x, size);
          return Vars{resample2d(in[0], mean_bins(x[2], size.h), mean_bins(x[3], size.w))};
        },
    .edges =
        [] {
          return Edges{{{tensor({1.0, 2.0, nan, 4.0, inf}, {1, 1, 1, 5})},  // bins overlap
                        BinAttrs{{1, 3}},
                        {tensor({1.5, nan, inf}, {1, 1, 1, 3})},
                        {tensor({0.5, 0.5 + 1.0 / 3, 1.0 / 3, 1.0 / 3 + 0.5, 0.5}, {1, 1, 1, 5})}},
                       {{Tensor::zeros({2, 0, 2, 2}, DType::f64)},
                        BinAttrs{1},
                        {Tensor::zeros({2, 0, 1, 1}, DType::f64)}}};
        },
    .nan = NanRule::somewhere,
}};

}  // namespace

Var max_pool2d(const Var& x, const Pool2dOptions& options) { return apply(max_pool2d_op, {x}, options); }

Var max_pool2d_indices(const Var& x, const Pool2dOptions& options) {
  return apply(max_pool2d_indices_op, {x}, options);
}

Var avg_pool2d(const Var& x, const AvgPool2dOptions& options) { return apply(avg_pool2d_op, {x}, options); }

Var adaptive_avg_pool2d(const Var& x, Pair size) {
  return apply(adaptive_avg_pool2d_op, {x}, BinAttrs{size});
}

Var adaptive_max_pool2d(const Var& x, Pair size) {
  return apply(adaptive_max_pool2d_op, {x}, BinAttrs{size});
}

Var adaptive_max_pool2d_indices(const Var& x, Pair size) {
  return apply(adaptive_max_pool2d_indices_op, {x}, BinAttrs{size});
}

}  // namespace banach
