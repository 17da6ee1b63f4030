#include <banach/engine/blas.hpp>
#include <banach/engine/tape.hpp>
#include <banach/nn/singular_bound.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

namespace banach::nn {
namespace {

using Numbers = std::vector<double>;

double frobenius(const Numbers& x) {
  double largest = 0.0, sum = 0.0;
  for (const double value : x) {
    if (!std::isfinite(value)) return std::numeric_limits<double>::quiet_NaN();
    largest = std::max(largest, std::abs(value));
  }
  if (largest == 0.0) return 0.0;
  for (const double value : x) sum += value / largest * (value / largest);
  return largest * std::sqrt(sum);
}

// Bound of the largest singular value of W from `gram`, W^T W / unit^2 or W W^T / unit^2, (r,r), each entry a
// sum of `other` products; any bound at or below `enough` will do. With G_0 = gram / s_0 and G_{k+1} = G_k^2
// / s_{k+1}, s being Frobenius norms, log sigma^2 <= log unit^2 + log s_0 + log s_1 / 2 + ... + log s_k /
// 2^k.
double gram_iteration(Numbers gram, std::int64_t r, double unit, std::int64_t other, double enough) {
  constexpr int most = 30;
  constexpr double gain = 1e-6;
  Numbers next(gram.size());
  double log_square = 2.0 * std::log(unit), weight = 1.0, bound = std::numeric_limits<double>::infinity();
  for (int k = 0;; ++k) {
    const double s = frobenius(gram);
    log_square += weight * std::log(s);
    const double before = bound;
    bound = std::exp(0.5 * log_square);
    if (!(bound > enough) || k == most || bound > before * (1.0 - gain)) break;
    for (double& value : gram) value /= s;
    blas::gemm(false, false, r, r, r, 1.0, gram.data(), r, gram.data(), r, 0.0, next.data(), r);
    gram.swap(next);
    weight *= 0.5;
  }
  // Each product loses at most so much of the norm, and counts half as much as the one before.
  return bound *
         (1.0 + 4.0 * static_cast<double>(std::max(r, other)) * std::numeric_limits<double>::epsilon());
}

// The same for w, (m,n) row by row.
double matrix_bound(const Numbers& w, std::int64_t m, std::int64_t n, double enough) {
  const bool wide = m < n;
  const std::int64_t r = std::min(m, n), other = std::max(m, n);
  const double size = frobenius(w);
  if (!(size > 0.0)) return size;
  Numbers scaled = w, gram(static_cast<std::size_t>(r * r));
  for (double& value : scaled) value /= size;
  blas::gemm(!wide, wide, r, r, other, 1.0, scaled.data(), n, scaled.data(), n, 0.0, gram.data(), r);
  return gram_iteration(std::move(gram), r, size, other, enough);
}

// How many entries an image has, and what a convolution makes of it.
struct Sizes {
  Shape input, output;
};
Sizes sizes_of(const Tensor& w, Pair image, const Conv2dOptions& o) {
  const auto places = [](std::int64_t extent, std::int64_t padding, std::int64_t reach, std::int64_t stride) {
    return std::max<std::int64_t>(0, (extent + 2 * padding - reach - 1 + stride) / stride);
  };
  return {{1, w.size(1) * o.groups, image.h, image.w},
          {1, w.size(0), places(image.h, o.padding.h, o.dilation.h * (w.size(2) - 1), o.stride.h),
           places(image.w, o.padding.w, o.dilation.w * (w.size(3) - 1), o.stride.w)}};
}

// The same for a convolution as it is, zeros at the borders included. What A^T A (or A A^T, if that is
// smaller) makes of each unit vector, some at a time, is a row of the Gram matrix: A itself, which is larger,
// is never there as a whole.
double dense_bound(const Tensor& w, const Sizes& sizes, const Conv2dOptions& geometry) {
  const auto values = w.values<double>();
  const double unit = frobenius(Numbers(values.begin(), values.end()));
  if (!(unit > 0.0)) return unit;
  Tensor scaled = w.clone();
  for (std::int64_t i = 0; i < w.size(); ++i) scaled.mutable_data<double>()[i] /= unit;
  const bool by_outputs = sizes.output.size() < sizes.input.size();
  const Shape& side = by_outputs ? sizes.output : sizes.input;
  const Pair image{sizes.input[2], sizes.input[3]};
  const std::int64_t r = side.size();
  constexpr std::int64_t piece = 64;
  const NoGrad off;
  Numbers gram(static_cast<std::size_t>(r * r));
  for (std::int64_t begin = 0; begin < r; begin += piece) {
    const std::int64_t n = std::min(piece, r - begin);
    Tensor units = Tensor::zeros({n, side[1], side[2], side[3]}, DType::f64);
    for (std::int64_t i = 0; i < n; ++i) units.mutable_data<double>()[i * r + begin + i] = 1.0;
    const Var kernel(scaled), x(std::move(units));
    const Var rows = by_outputs ? conv2d(conv2d_input_grad(x, kernel, image, geometry), kernel, geometry)
                                : conv2d_input_grad(conv2d(x, kernel, geometry), kernel, image, geometry);
    std::copy_n(rows.value().data<double>(), n * r, gram.data() + begin * r);
  }
  return gram_iteration(std::move(gram), r, unit, w.size(), 0.0);
}

// One axis of a strided, dilated kernel: tap i stands on grid (dilation i) mod stride, (dilation i) / stride
// steps away.
struct AxisPlan {
  std::int64_t taps, stride, dilation, period;

  AxisPlan(std::int64_t k, std::int64_t s, std::int64_t d, std::int64_t extent)
      : taps(k), stride(s), dilation(d) {
    // Long enough for every output to see what it would on an endless line: ceil(extent / s) places, one
    // more where padding shifts the grid, and the reach of the kernel.
    period = (extent + s - 1) / s + 1 + (d * (k - 1)) / s;
  }
  std::int64_t grid(std::int64_t tap) const { return dilation * tap % stride; }
  double angle(std::int64_t tap, std::int64_t frequency) const {
    const std::int64_t turns = dilation * tap / stride * frequency % period;
    return -2.0 * std::numbers::pi * static_cast<double>(turns) / static_cast<double>(period);
  }
};

}  // namespace

double singular_bound(const Tensor& weight) {
  if (weight.rank() != 2)
    fail<ShapeError>("singular_bound", "expects a matrix (m,n): got " + weight.shape().to_string());
  const Tensor w = weight.to(DType::f64);
  const auto values = w.values<double>();
  return matrix_bound(Numbers(values.begin(), values.end()), w.size(0), w.size(1), 0.0);
}

double conv_singular_bound(const Tensor& weight, Pair image, const Conv2dOptions& geometry,
                           std::int64_t most_dense) {
  if (weight.rank() != 4 || image.h < 1 || image.w < 1 || geometry.groups < 1 ||
      weight.size(0) % geometry.groups != 0)
    fail<ShapeError>(
        "conv_singular_bound",
        fmt::format("expects filters (out, in / groups, kh, kw) and an image: got {} and {} x {}",
                    weight.shape().to_string(), image.h, image.w));
  const Pair stride = geometry.stride, dilation = geometry.dilation;
  if (std::min({stride.h, stride.w, dilation.h, dilation.w}) < 1)
    fail<ValueError>("conv_singular_bound",
                     fmt::format("stride and dilation must be at least 1: got ({},{}) and ({},{})", stride.h,
                                 stride.w, dilation.h, dilation.w));
  const Tensor w = weight.to(DType::f64);
  // A kernel of one pixel sees no border.
  if (const Sizes sizes = sizes_of(w, image, geometry);
      w.size(2) * w.size(3) > 1 && std::min(sizes.input.size(), sizes.output.size()) <= most_dense)
    return sizes.output.size() == 0 ? 0.0 : dense_bound(w, sizes, geometry);
  const std::int64_t outputs = w.size(0) / geometry.groups, inputs = w.size(1), kh = w.size(2),
                     kw = w.size(3);
  const AxisPlan rows(kh, geometry.stride.h, geometry.dilation.h, image.h),
      columns(kw, geometry.stride.w, geometry.dilation.w, image.w);
  // The complex matrix A + iB of a frequency as the real (A, -B; B, A), which has its singular values twice.
  const std::int64_t width = inputs * rows.stride * columns.stride, m = 2 * outputs, n = 2 * width;
  Numbers matrix(static_cast<std::size_t>(m * n));
  double largest = 0.0;
  for (std::int64_t group = 0; group < geometry.groups; ++group)
    for (std::int64_t fh = 0; fh < rows.period; ++fh)
      for (std::int64_t fw = 0; fw <= columns.period / 2; ++fw) {  // the others are conjugates of these
        std::fill(matrix.begin(), matrix.end(), 0.0);
        for (std::int64_t i = 0; i < kh; ++i)
          for (std::int64_t j = 0; j < kw; ++j) {
            const double angle = rows.angle(i, fh) + columns.angle(j, fw);
            const double re = std::cos(angle), im = std::sin(angle);
            const std::int64_t grid = rows.grid(i) * columns.stride + columns.grid(j);
            for (std::int64_t o = 0; o < outputs; ++o)
              for (std::int64_t c = 0; c < inputs; ++c) {
                const double value =
                    w.data<double>()[(((group * outputs + o) * inputs + c) * kh + i) * kw + j];
                const std::int64_t column = c * rows.stride * columns.stride + grid;
                double* top = matrix.data() + o * n;
                double* bottom = matrix.data() + (outputs + o) * n;
                top[column] += value * re;
                top[width + column] -= value * im;
                bottom[column] += value * im;
                bottom[width + column] += value * re;
              }
          }
        const double bound = matrix_bound(matrix, m, n, largest);
        if (std::isnan(bound)) return bound;
        largest = std::max(largest, bound);
      }
  return largest;
}

}  // namespace banach::nn
