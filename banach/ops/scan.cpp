#include <banach/engine/parallel.hpp>
#include <banach/ops/entries.hpp>
#include <banach/ops/scan.hpp>

#include <algorithm>
#include <array>
#include <type_traits>

namespace banach {
namespace {

using namespace entries;

struct Scan {
  int axis;
  bool reverse = false;
};

// x is (outer, n, inner); the sums run along the middle axis, for a tile of columns at a time.
template <class T>
void running_sums(const T* x, T* out, std::int64_t outer, std::int64_t n, std::int64_t inner, bool reverse) {
  constexpr std::int64_t width = 256, piece = 1 << 14;
  const std::int64_t tiles = (inner + width - 1) / width,
                     work = std::max<std::int64_t>(1, n * std::min(inner, width));
  parallel_for(outer * tiles, std::max<std::int64_t>(1, piece / work),
               [&](std::int64_t first, std::int64_t last) {
                 for (std::int64_t unit = first; unit < last; ++unit) {
                   const std::int64_t o = unit / tiles, begin = unit % tiles * width,
                                      columns = std::min(width, inner - begin);
                   std::array<double, width> sums{};
                   for (std::int64_t j = 0; j < n; ++j) {
                     const std::int64_t at = (o * n + (reverse ? n - 1 - j : j)) * inner + begin;
                     for (std::int64_t i = 0; i < columns; ++i) {
                       double& sum = sums[static_cast<std::size_t>(i)];
                       sum += static_cast<double>(x[at + i]);
                       out[at + i] = static_cast<T>(sum);
                     }
                   }
                 }
               });
}

// The same along the last axis: some rows at a time, since each addition waits for the one before it.
template <class T>
void running_row_sums(const T* x, T* out, std::int64_t rows, std::int64_t n, bool reverse) {
  constexpr std::int64_t block = 8, piece = 1 << 14;
  const std::int64_t blocks = (rows + block - 1) / block;
  const auto run = [&]<int count>(std::integral_constant<int, count>, std::int64_t begin) {
    std::array<double, count> sums{};
    for (std::int64_t j = 0; j < n; ++j) {
      const std::int64_t at = begin * n + (reverse ? n - 1 - j : j);
      for (std::size_t r = 0; r < count; ++r) {
        sums[r] += static_cast<double>(x[at + static_cast<std::int64_t>(r) * n]);
        out[at + static_cast<std::int64_t>(r) * n] = static_cast<T>(sums[r]);
      }
    }
  };
  parallel_for(blocks, std::max<std::int64_t>(1, piece / std::max<std::int64_t>(1, n * block)),
               [&](std::int64_t first, std::int64_t last) {
                 for (std::int64_t b = first; b < last; ++b) {
                   const std::int64_t begin = b * block, end = std::min(begin + block, rows);
                   if (end - begin == block)
                     run(std::integral_constant<int, block>{}, begin);
                   else
                     for (std::int64_t r = begin; r < end; ++r) run(std::integral_constant<int, 1>{}, r);
                 }
               });
}

const Op cumsum_op{{
    .name = "cumsum",
    .doc = "Sums of the first 1, 2, ... entries along one axis, or of the last ones.",
    .shape =
        [](const ShapeContext& c) {
          normalize_axis(c.attrs.as<Scan>().axis, c.shape().rank(), c.op);
          return same_shape(c);
        },
    .kernel =
        [](const KernelContext& c) {
          const auto& scan = c.attrs.as<Scan>();
          const Shape& shape = c.in().shape();
          const int axis = normalize_axis(scan.axis, shape.rank(), "cumsum");
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T* x = c.in().data<T>();
            T* out = c.out().mutable_data<T>();
            const std::int64_t outer = shape.size(0, axis), inner = shape.size(axis + 1, shape.rank());
            if (inner == 1)
              running_row_sums(x, out, outer, shape[axis], scan.reverse);
            else
              running_sums(x, out, outer, shape[axis], inner, scan.reverse);
          });
        },
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          const auto& scan = c.attrs.as<Scan>();
          return Vars{cumsum(c.cotangent, scan.axis, !scan.reverse)};
        },
    .samples =
        [](SampleGen& g) {
          return Samples{
              {{g.normal({3, 4})}, Scan{0}},
              {{g.normal({3, 4})}, Scan{1}},
              {{g.normal({2, 3, 4})}, Scan{-2, true}},
              {{g.normal({67})}, Scan{0, true}},
              {{g.normal({1})}, Scan{0}},
              {{g.normal({g.integer(1, 5), g.integer(1, 5)})}, Scan{static_cast<int>(g.integer(-2, 1))}},
              {{g.normal({0, 3})}, Scan{0}},
              {{g.normal({0, 3})}, Scan{1}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({2, 3})}, Scan{2}, "axis must lie in [-2, 2): got 2"},
                              {{Tensor::arange(3)}, Scan{0}, "expects f32 or f64"}};
        },
    .edges =
        [] {
          return Edges{
              {{numbers({1, inf, 1, -inf, 1})},
               Scan{0},
               {numbers({1, inf, inf, nan, nan})},
               {numbers({5, 4, 3, 2, 1})}},
              {{numbers({1, nan, 2})}, Scan{0, true}, {numbers({nan, nan, 2})}, {numbers({1, 2, 3})}},
              {{numbers({0x1p24, 1, 1, -0x1p24})},
               Scan{0},
               {numbers({0x1p24, 0x1p24 + 1, 0x1p24 + 2, 2})},
               {numbers({4, 3, 2, 1})}},
              {{numbers({})}, Scan{0}, {numbers({})}, {numbers({})}}};
        },
    .nan = NanRule::somewhere,
    .rows = [](const RowsContext& c) { return all_by_rows_along(c, {c.attrs.as<Scan>().axis}); },
}};

}  // namespace

Var cumsum(const Var& x, int axis, bool reverse) { return apply(cumsum_op, {x}, Scan{axis, reverse}); }

}  // namespace banach
