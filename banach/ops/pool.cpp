#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/index.hpp>
#include <banach/ops/pool.hpp>
#include <banach/ops/shape_ops.hpp>

#include <algorithm>
#include <limits>
#include <string>

namespace banach {
namespace {

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
}};

Vars pooled(std::span<const Var> inputs, const Attrs& attrs) {
  const Var& x = inputs[0];
  windows("max_pool2d", x.shape(), attrs.as<Pool2dOptions>());  // for errors by this name
  const Var index = apply(max_pool2d_indices_op, {x}, attrs);
  const Shape &from = x.shape(), &to = index.shape();
  const Var flat = gather(reshape(x, {from[0], from[1], from.size(2, 4)}), 2,
                          reshape(index, {to[0], to[1], to.size(2, 4)}));
  return {reshape(flat, to)};
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
}};

}  // namespace

Var max_pool2d(const Var& x, const Pool2dOptions& options) { return apply(max_pool2d_op, {x}, options); }

Var max_pool2d_indices(const Var& x, const Pool2dOptions& options) {
  return apply(max_pool2d_indices_op, {x}, options);
}

}  // namespace banach
