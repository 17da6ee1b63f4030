#include <banach/engine/panel_product.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/conv_columns.hpp>

#include <algorithm>
#include <cmath>

namespace banach::columns {
namespace {

// At stride 1, each pixel P of the images with many channels meets, for each tap, pixel P + shift(tap) of
// those with few, be these the inputs or the outputs. The columns of the few are a matrix (few x taps, pixels
// of the many) that has, for each P, what P meets, and 0 where that lies outside. With the weights as a
// matrix W (many, few x taps),
//     many = W columns,    columns = W^T many (which are then added up),    dW = many columns^T
// are the three operations. Only the few are copied: the many are read and written where they are.
struct Sides {
  const ConvGeometry& g;
  bool few_are_inputs = g.channels <= g.outputs;
  std::int64_t few = few_are_inputs ? g.channels : g.outputs, many = few_are_inputs ? g.outputs : g.channels;
  Pair few_size = few_are_inputs ? g.input : g.output, many_size = few_are_inputs ? g.output : g.input;
  std::int64_t area = g.kernel.h * g.kernel.w, rows = few * area;
  std::int64_t few_pixels = few_size.h * few_size.w, pixels = many_size.h * many_size.w;

  // Where w has the entry of W in the row of the many's channel m.
  std::int64_t weight(std::int64_t m, std::int64_t row) const {
    const std::int64_t i = row / area, tap = row % area;
    return (few_are_inputs ? m * few + i : i * many + m) * area + tap;
  }
};

// What one axis of a tap has of both sides: `count` pixels, the first of them at `many` and `few`.
struct Meeting {
  std::int64_t many, few, count;
};
Meeting meeting(const Sides& s, std::int64_t tap, std::int64_t Pair::*axis) {
  const std::int64_t down = tap * s.g.dilation.*axis - s.g.padding.*axis;
  const std::int64_t shift = s.few_are_inputs ? down : -down;
  const std::int64_t first = std::max<std::int64_t>(0, -shift),
                     last = std::min(s.many_size.*axis, s.few_size.*axis - shift);
  return {first, first + shift, std::max<std::int64_t>(0, last - first)};
}

// body(row of the columns, few's channel, rows that meet, columns that meet)
template <class Body>
void for_rows(const Sides& s, const Body& body) {
  for (std::int64_t i = 0; i < s.few; ++i)
    for (std::int64_t kh = 0; kh < s.g.kernel.h; ++kh)
      for (std::int64_t kw = 0; kw < s.g.kernel.w; ++kw)
        body((i * s.g.kernel.h + kh) * s.g.kernel.w + kw, i, meeting(s, kh, &Pair::h),
             meeting(s, kw, &Pair::w));
}

std::int64_t grain(const Sides& s) {
  constexpr std::int64_t piece = 1 << 19;  // multiplications that are worth a task
  return std::max<std::int64_t>(1, piece / (s.rows * s.many * s.pixels));
}

using Offsets = PoolVector<std::int64_t>;

Offsets multiples(std::int64_t count, std::int64_t step) {
  Offsets result;
  for (std::int64_t i = 0; i < count; ++i) result.push_back(i * step);
  return result;
}

// Columns of one image after the other, and one row of ones below.
template <class T>
class Columns {
 public:
  explicit Columns(const Sides& sides)
      : sides_(sides),
        ld_(ceil_div(sides.pixels, simd::product<T>().width) * simd::product<T>().width),
        data_(Tensor::zeros({(sides.rows + 1) * ld_}, dtype_of<T>())) {
    std::fill_n(data() + sides.rows * ld_, sides.pixels, T{1});
  }

  std::int64_t ld() const { return ld_; }
  T* data() { return data_.template mutable_data<T>(); }

  // The zeros around are the same for every image.
  const T* fill(const T* few) {
    T* to = data();
    for_rows(sides_, [&](std::int64_t row, std::int64_t i, const Meeting& h, const Meeting& w) {
      simd::product<T>().copy_rows(h.count, w.count,
                                   few + i * sides_.few_pixels + h.few * sides_.few_size.w + w.few,
                                   sides_.few_size.w, to + row * ld_ + h.many * sides_.many_size.w + w.many,
                                   sides_.many_size.w, nullptr);
    });
    return to;
  }

  // Adds them up, each where it belongs.
  void add_up(T* few) {
    const T* from = data();
    for_rows(sides_, [&](std::int64_t row, std::int64_t i, const Meeting& h, const Meeting& w) {
      for (std::int64_t r = 0; r < h.count; ++r) {
        T* to = few + i * sides_.few_pixels + (h.few + r) * sides_.few_size.w + w.few;
        const T* terms = from + row * ld_ + (h.many + r) * sides_.many_size.w + w.many;
        for (std::int64_t j = 0; j < w.count; ++j) to[j] += terms[j];
      }
    });
  }

 private:
  const Sides& sides_;
  std::int64_t ld_;
  Tensor data_;
};

// many = W columns, plus a bias unless that is null: a weight of the row of ones.
template <class T>
void spread(const Sides& s, const T* few, const T* w, const T* bias, T* many) {
  constexpr std::int64_t together = 4;  // channels: more of them are written in pieces too short for memory
  const std::int64_t terms = s.rows + (bias ? 1 : 0);
  PoolVector<T> weights;
  for (std::int64_t m = 0; m < s.many; ++m) {
    for (std::int64_t row = 0; row < s.rows; ++row) weights.push_back(w[s.weight(m, row)]);
    if (bias) weights.push_back(bias[m]);
  }
  const Offsets w_rows = multiples(s.many, terms), w_columns = multiples(terms, 1);
  parallel_for(s.g.images, grain(s), [&](std::int64_t begin, std::int64_t end) {
    Columns<T> columns(s);
    const Offsets reads = multiples(terms, columns.ld());
    for (std::int64_t image = begin; image < end; ++image) {
      const T* from = columns.fill(few + image * s.few * s.few_pixels);
      for (std::int64_t m = 0; m < s.many; m += together)
        simd::product<T>().run_gathered(std::min(together, s.many - m), s.pixels, terms, weights.data(),
                                        w_rows.data() + m, w_columns.data(), from, reads.data(), nullptr, 0,
                                        many + (image * s.many + m) * s.pixels, s.pixels);
    }
  });
}

// few = the sums of W^T many, plus a bias unless that is null.
template <class T>
void gather(const Sides& s, const T* many, const T* w, const T* bias, T* few) {
  const simd::PanelProduct<T>& product = simd::product<T>();
  PoolVector<T> weights;
  for (std::int64_t row = 0; row < s.rows; ++row)
    for (std::int64_t m = 0; m < s.many; ++m) weights.push_back(w[s.weight(m, row)]);
  const Offsets w_rows = multiples(s.rows, s.many), w_columns = multiples(s.many, 1);
  // Products read whole vectors, and there may be nothing behind the last image.
  const std::int64_t whole = s.pixels / product.width * product.width, rest = s.pixels - whole;
  const Offsets reads = multiples(s.many, s.pixels), rest_reads = multiples(s.many, product.width);
  parallel_for(s.g.images, grain(s), [&](std::int64_t begin, std::int64_t end) {
    Columns<T> columns(s);
    PoolVector<T> last(static_cast<std::size_t>(rest > 0 ? s.many * product.width : 0), T{0});
    const auto multiply = [&](const T* from, const Offsets& starts, std::int64_t first, std::int64_t count) {
      product.run_gathered(s.rows, count, s.many, weights.data(), w_rows.data(), w_columns.data(), from,
                           starts.data(), nullptr, 0, columns.data() + first, columns.ld());
    };
    for (std::int64_t image = begin; image < end; ++image) {
      const T* from = many + image * s.many * s.pixels;
      multiply(from, reads, 0, whole);
      if (rest > 0) {
        product.copy_rows(s.many, rest, from + whole, s.pixels, last.data(), product.width, nullptr);
        multiply(last.data(), rest_reads, whole, product.width);
      }
      T* to = few + image * s.few * s.few_pixels;
      for (std::int64_t i = 0; i < s.few; ++i)
        std::fill_n(to + i * s.few_pixels, s.few_pixels, bias ? bias[i] : T{0});
      columns.add_up(to);
    }
  });
}

}  // namespace

bool pays(const ConvGeometry& g) {
  constexpr std::int64_t cached = 1 << 15, long_rows = 64;  // elements of columns, and pixels in a row
  const auto inside = [&](std::int64_t Pair::*axis) {       // every pixel of y meets one of x
    return g.padding.*axis <= (g.kernel.*axis - 1) * g.dilation.*axis;
  };
  if (g.groups != 1 || g.stride.h != 1 || g.stride.w != 1 || !inside(&Pair::h) || !inside(&Pair::w))
    return false;
  const Sides s{g};
  // Columns are copied in place of the many, sums or sources.
  return s.rows <= s.many && s.pixels >= long_rows && s.pixels <= cached / s.rows;
}

template <class T>
void convolve(const T* x, const T* w, const T* bias, T* y, const ConvGeometry& g) {
  const Sides s{g};
  s.few_are_inputs ? spread(s, x, w, bias, y) : gather(s, x, w, bias, y);
}

template <class T>
void input_gradient(const T* y, const T* w, T* dx, const ConvGeometry& g) {
  const Sides s{g};
  s.few_are_inputs ? gather<T>(s, y, w, nullptr, dx) : spread<T>(s, y, w, nullptr, dx);
}

// Sums over images in a number of parts that the sizes decide; the parts are then added in order.
template <class T>
bool weight_gradient(const T* x, const T* y, T* dw, const ConvGeometry& g) {
  const Sides s{g};
  constexpr std::int64_t most_parts = 16;
  const T *few = s.few_are_inputs ? x : y, *many = s.few_are_inputs ? y : x;
  const std::int64_t size = g.w().size(), parts = std::min(most_parts, g.images);
  Tensor partial = Tensor::zeros({parts * size}, dtype_of<T>());
  T* sums = partial.mutable_data<T>();
  const Offsets reads = multiples(s.many, s.pixels);
  parallel_for(parts, 1, [&](std::int64_t begin, std::int64_t end) {
    Columns<T> columns(s);
    const Offsets column_reads = multiples(s.rows, columns.ld());
    for (std::int64_t part = begin; part < end; ++part)
      for (std::int64_t image = g.images * part / parts; image < g.images * (part + 1) / parts; ++image)
        simd::product<T>().add_dots(s.many, s.rows, 1, s.pixels, many + image * s.many * s.pixels,
                                    reads.data(), 0, columns.fill(few + image * s.few * s.few_pixels),
                                    column_reads.data(), 0, sums + part * size, s.rows);
  });
  for (std::int64_t part = 1; part < parts; ++part) simd::kernels<T>().add_to(sums + part * size, sums, size);
  for (std::int64_t m = 0; m < s.many; ++m)
    for (std::int64_t row = 0; row < s.rows; ++row) dw[s.weight(m, row)] = sums[m * s.rows + row];
  return all_finite(dw, size);
}

template void convolve(const float*, const float*, const float*, float*, const ConvGeometry&);
template void convolve(const double*, const double*, const double*, double*, const ConvGeometry&);
template void input_gradient(const float*, const float*, float*, const ConvGeometry&);
template void input_gradient(const double*, const double*, double*, const ConvGeometry&);
template bool weight_gradient(const float*, const float*, float*, const ConvGeometry&);
template bool weight_gradient(const double*, const double*, double*, const ConvGeometry&);

}  // namespace banach::columns
