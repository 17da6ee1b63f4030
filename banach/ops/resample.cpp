#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/resample.hpp>

#include <algorithm>
#include <limits>
#include <string>

namespace banach {

void Windowing::start(std::int64_t first, std::int64_t count) {
  const std::int64_t last = outputs() - 1;
  const bool back =
      last >= 0 && (first < first_.back() ||
                    first + count < first_.back() + static_cast<std::int64_t>(weights(last).size()));
  if (first < 0 || first + count > inputs_ || back)
    fail<ValueError>("resample2d", "windows must lie inside and not go back: [" + std::to_string(first) +
                                       ", " + std::to_string(first + count) + ") of " +
                                       std::to_string(inputs_));
  first_.push_back(first);
}

void Windowing::add(std::int64_t first, std::span<const double> weights) {
  start(first, static_cast<std::int64_t>(weights.size()));
  weights_.insert(weights_.end(), weights.begin(), weights.end());
  begin_.push_back(weights_.size());
}

void Windowing::add(std::int64_t first, std::int64_t count, double weight) {
  start(first, count);
  weights_.insert(weights_.end(), static_cast<std::size_t>(count), weight);
  begin_.push_back(weights_.size());
}

Windowing Windowing::transposed() const {
  Windowing result(outputs());
  PoolVector<double> row;
  std::int64_t from = 0;  // the first output whose window does not end before input i
  for (std::int64_t i = 0; i < inputs_; ++i) {
    const auto end = [&](std::int64_t o) { return first(o) + static_cast<std::int64_t>(weights(o).size()); };
    while (from < outputs() && end(from) <= i) ++from;
    row.clear();
    for (std::int64_t o = from; o < outputs() && first(o) <= i; ++o)
      row.push_back(weights(o)[static_cast<std::size_t>(i - first(o))]);
    result.add(from, row);
  }
  return result;
}

namespace {

struct ResampleAttrs {
  Windowing rows, columns;
};

// Sums start at -0, which adding anything leaves as it is: a single -0 stays one.
template <class T>
T weighted_sum(const T* x, std::span<const double> weights) {
  if (weights.empty()) return T{0};
  double sum = -0.0;
  for (std::size_t j = 0; j < weights.size(); ++j) sum += weights[j] * static_cast<double>(x[j]);
  return static_cast<T>(sum);
}

// The same for a whole row of results, a strip of columns at a time.
template <class T>
void weighted_sum_of_rows(const T* x, std::int64_t width, std::span<const double> weights, T* out) {
  constexpr std::int64_t strip = 256;
  double sums[strip];
  for (std::int64_t begin = 0; begin < width; begin += strip) {
    const std::int64_t count = std::min(strip, width - begin);
    std::fill_n(sums, count, weights.empty() ? 0.0 : -0.0);
    for (std::size_t j = 0; j < weights.size(); ++j) {
      const T* row = x + static_cast<std::int64_t>(j) * width + begin;
      for (std::int64_t i = 0; i < count; ++i) sums[i] += weights[j] * static_cast<double>(row[i]);
    }
    for (std::int64_t i = 0; i < count; ++i) out[begin + i] = static_cast<T>(sums[i]);
  }
}

template <class T>
void resample(const T* x, T* y, std::int64_t images, const Windowing& rows, const Windowing& columns) {
  const std::int64_t h = rows.inputs(), w = columns.inputs(), oh = rows.outputs(), ow = columns.outputs();
  const std::int64_t work = std::max<std::int64_t>(1, h * columns.terms() + rows.terms() * ow);
  parallel_for(images, std::max<std::int64_t>(1, (1 << 15) / work),
               [&](std::int64_t begin, std::int64_t end) {
                 Tensor narrow = Tensor::empty({h, ow}, dtype_of<T>());
                 T* between = narrow.mutable_data<T>();
                 for (std::int64_t image = begin; image < end; ++image) {
                   for (std::int64_t r = 0; r < h; ++r)
                     for (std::int64_t i = 0; i < ow; ++i)
                       between[r * ow + i] =
                           weighted_sum(x + (image * h + r) * w + columns.first(i), columns.weights(i));
                   for (std::int64_t r = 0; r < oh; ++r)
                     weighted_sum_of_rows(between + rows.first(r) * ow, ow, rows.weights(r),
                                          y + (image * oh + r) * ow);
                 }
               });
}

// Overlapping windows, gaps between them, and one without inputs.
Windowing example() {
  Windowing result(4);
  result.add(0, 2, 0.5);
  result.add(1, 1, -2.0);
  result.add(2, 0, 1.0);
  result.add(3, 1, 0.25);
  return result;
}

Windowing identity(std::int64_t n) {
  Windowing result(n);
  for (std::int64_t i = 0; i < n; ++i) result.add(i, 1, 1.0);
  return result;
}

const Op resample2d_op{{
    .name = "resample2d",
    .doc = "Images mapped by a sparse matrix along their rows' axis, and by another along their columns'.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          const auto& [rows, columns] = c.attrs.as<ResampleAttrs>();
          const Shape& x = c.shape();
          if (x.rank() != 4) fail<ShapeError>(c.op, "image must have rank 4: got " + x.to_string());
          if (x[2] != rows.inputs() || x[3] != columns.inputs())
            fail<ShapeError>(c.op, "the maps must fit the image: (" + std::to_string(rows.inputs()) + "," +
                                       std::to_string(columns.inputs()) + ") for " + x.to_string());
          return Spec{{x[0], x[1], rows.outputs(), columns.outputs()}, dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          const auto& [rows, columns] = c.attrs.as<ResampleAttrs>();
          const Windowing &r = rows, &w = columns;
          if (c.out().size() == 0) return;
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            resample(c.in().data<T>(), c.out().mutable_data<T>(), c.in().shape().size(0, 2), r, w);
          });
        },
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          const auto& [rows, columns] = c.attrs.as<ResampleAttrs>();
          return Vars{resample2d(c.cotangent, rows.transposed(), columns.transposed())};
        },
    .samples =
        [](SampleGen& g) {
          return Samples{
              {{g.normal({2, 3, 4, 4})}, ResampleAttrs{example(), example()}},
              {{g.normal({1, 2, 4, 3})}, ResampleAttrs{example(), identity(3)}},
              {{g.normal({2, 1, 4, 4})}, ResampleAttrs{example().transposed(), example().transposed()}},
              {{g.normal({0, 2, 4, 4})}, ResampleAttrs{example(), example()}},
              {{g.normal({1, 1, 1, 1})}, ResampleAttrs{identity(1), identity(1)}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({1, 1, 4, 3})},
                               ResampleAttrs{example(), example()},
                               "[resample2d] the maps must fit the image: (4,4) for (1,1,4,3)"},
                              {{Tensor::zeros({4, 4})},
                               ResampleAttrs{example(), example()},
                               "[resample2d] image must have rank 4: got (4,4)"}};
        },
    .edges =
        [] {
          constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                           inf = std::numeric_limits<double>::infinity();
          // What no window holds goes nowhere; a window without inputs gives 0.
          return Edges{{{tensor({inf, 1.0, nan, -0.0}, {1, 1, 1, 4})},
                        ResampleAttrs{identity(1), example()},
                        {tensor({inf, -2.0, 0.0, -0.0}, {1, 1, 1, 4})},
                        {tensor({0.5, -1.5, 0.0, 0.25}, {1, 1, 1, 4})}},
                       {{Tensor::zeros({2, 0, 4, 4}, DType::f64)},
                        ResampleAttrs{example(), example()},
                        {Tensor::zeros({2, 0, 4, 4}, DType::f64)}}};
        },
    .rows = first_by_rows,
}};

}  // namespace

Var resample2d(const Var& x, const Windowing& rows, const Windowing& columns) {
  return apply(resample2d_op, {x}, ResampleAttrs{rows, columns});
}

}  // namespace banach
