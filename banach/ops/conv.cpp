#include <banach/engine/loop_state.hpp>
#include <banach/engine/panel_product.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/conv_bias.hpp>
#include <banach/ops/conv_columns.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/ops/winograd.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>

namespace banach {
namespace {

// ----------------------------------------------------------------------------------------------------------
// Sizes.

using Geometry = ConvGeometry;

constexpr std::int64_t limit = std::int64_t{1} << 31;  // products of two such numbers fit

void check_pair(std::string_view op, const char* what, Pair pair, std::int64_t low) {
  if (std::min(pair.h, pair.w) < low || std::max(pair.h, pair.w) > limit)
    fail<ValueError>(op, std::string(what) + " must lie in [" + std::to_string(low) + ", 2^31]: got (" +
                             std::to_string(pair.h) + "," + std::to_string(pair.w) + ")");
}

// From the shapes of x and w, and the checks that all three operations share.
Geometry geometry(std::string_view op, const Shape& x, const Shape& w, const Conv2dOptions& options) {
  const auto& [stride, padding, dilation, groups] = options;
  check_pair(op, "stride", stride, 1);
  check_pair(op, "padding", padding, 0);
  check_pair(op, "dilation", dilation, 1);
  if (groups < 1) fail<ValueError>(op, "groups must be at least 1: got " + std::to_string(groups));
  const auto shapes = [&] { return "image " + x.to_string() + ", filter " + w.to_string(); };
  if (x.rank() != 4 || w.rank() != 4) fail<ShapeError>(op, "image and filter must have rank 4: " + shapes());
  check_pair(op, "image", {x[2], x[3]}, 0);
  check_pair(op, "filter", {w[2], w[3]}, 1);
  if (x[1] % groups != 0 || x[1] / groups != w[1] || w[0] % groups != 0)
    fail<ShapeError>(op, "channels must agree (image's = groups x filter's, groups divides both): " +
                             shapes() + ", groups " + std::to_string(groups));
  const std::int64_t room_h = x[2] + 2 * padding.h - dilation.h * (w[2] - 1) - 1;
  const std::int64_t room_w = x[3] + 2 * padding.w - dilation.w * (w[3] - 1) - 1;
  if (room_h < 0 || room_w < 0)
    fail<ShapeError>(op, "filter must fit the padded image: " + shapes() + ", padding (" +
                             std::to_string(padding.h) + "," + std::to_string(padding.w) + "), dilation (" +
                             std::to_string(dilation.h) + "," + std::to_string(dilation.w) + ")");
  return {
      x[0],   x[1],    w[0],     {x[2], x[3]}, {w[2], w[3]}, {room_h / stride.h + 1, room_w / stride.w + 1},
      stride, padding, dilation, groups};
}

void check_y(std::string_view op, const Shape& y, const Geometry& g) {
  if (!(y == g.y()))
    fail<ShapeError>(op, "y must have the shape that conv2d gives for image " + g.x().to_string() +
                             " and filter " + g.w().to_string() + ": " + y.to_string() + " for " +
                             g.y().to_string());
}

// ----------------------------------------------------------------------------------------------------------
// Convolution as a product of matrices, the larger of which is never formed. Along an axis, output r reads
// input s r + e for each tap, with stride s and e = tap * dilation - padding. Inputs of one remainder modulo
// s, a *phase*, are kept together: then output r reads entry r + floor(e / s) of the phase e mod s, so that
// all taps read one after another what outputs one after another need. That holds across the ends of rows and
// images too, if rows lie a period apart that leaves room for zeros between them; the few sums in these gaps
// are dropped. So y is w times a matrix whose rows are ranges of the kept inputs, one for each channel and
// tap. The input gradient is the same with the roles exchanged: entry u of the phase e mod s of the inputs
// reads outputs u - floor(e / s).

// One axis; `result` entries are sums of `source` entries.
struct Axis {
  bool transposed;  // the source is the output of the convolution
  std::int64_t source, result, kernel, stride, dilation, padding;
  std::int64_t cycle = stride / std::gcd(stride, dilation);  // taps whose phases are equal lie so far apart
  std::int64_t phases = std::min(kernel, cycle);             // that some tap has
  std::int64_t source_lines = transposed ? source : ceil_div(source, stride);
  std::int64_t lines = transposed ? ceil_div(result, stride) : result;  // entries of a result phase, at most
  std::int64_t least = std::min(shift(0), shift(kernel - 1)), most = std::max(shift(0), shift(kernel - 1));
  std::int64_t period = std::max({lines, lines + most, source_lines + std::max<std::int64_t>(0, -least)});

  std::int64_t phase(std::int64_t tap) const {
    const std::int64_t e = (tap * dilation - padding) % stride;
    return e < 0 ? e + stride : e;
  }
  std::int64_t shift(std::int64_t tap) const {
    const std::int64_t down = (tap * dilation - padding - phase(tap)) / stride;
    return transposed ? -down : down;
  }
  std::int64_t source_phases() const { return transposed ? 1 : phases; }
  std::int64_t result_phases() const { return transposed ? phases : 1; }
};

// A range of rows of the result in one image, or several whole images where these are small.
struct Tile {
  std::int64_t image, images, row, rows;
};

Axis axis(const Geometry& g, bool transposed, std::int64_t Pair::*of) {
  return {transposed,
          (transposed ? g.output : g.input).*of,
          (transposed ? g.input : g.output).*of,
          g.kernel.*of,
          g.stride.*of,
          g.dilation.*of,
          g.padding.*of};
}

// What both directions need to know, and how the result is cut: into as many tiles as keep a few threads busy
// if it is `shared_out`. A value's bits do not depend on the cut.
struct Plan {
  const Geometry& g;
  Axis h, w;
  std::int64_t sources, results;        // channels of a group
  std::int64_t images, rows;            // of a tile
  std::int64_t image_tiles, row_tiles;  // number of them

  Plan(const Geometry& geometry, bool transposed, bool shared_out)
      : g(geometry),
        h(axis(geometry, transposed, &Pair::h)),
        w(axis(geometry, transposed, &Pair::w)),
        sources(transposed ? g.group_outputs() : g.group_channels()),
        results(transposed ? g.group_channels() : g.group_outputs()) {
    constexpr std::int64_t few = 64, cached = 1 << 17;  // elements of a tile: half of a usual L2
    const std::int64_t area = h.lines * w.lines;
    images = area < few ? std::min(g.images, 2 * few / area) : 1;
    const std::int64_t fits =
        cached / ((sources * h.source_phases() * w.source_phases() + results) * w.period);
    const std::int64_t shared = shared_out ? ceil_div(g.images * h.lines, 4) : h.lines;
    row_tiles = images > 1 ? 1 : ceil_div(h.lines, std::max(ceil_div(few, w.lines), std::min(fits, shared)));
    rows = ceil_div(h.lines, row_tiles);
    row_tiles = ceil_div(h.lines, rows);
    image_tiles = ceil_div(g.images, images);
  }

  std::int64_t tiles() const { return image_tiles * row_tiles; }
  Tile tile(std::int64_t i) const {
    const std::int64_t image = i / row_tiles * images, row = i % row_tiles * rows;
    return {image, std::min(images, g.images - image), row, std::min(rows, h.lines - row)};
  }
  // How many tiles are worth a task.
  std::int64_t grain() const {
    constexpr double piece = 1 << 19;  // multiplications
    const double work = static_cast<double>(g.taps()) * static_cast<double>(g.outputs) *
                        static_cast<double>(images * rows) * static_cast<double>(w.lines);
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(piece / work));
  }

  // Where a tile's sums stand, gaps included: how many there are, and the first of a row.
  std::int64_t position(std::int64_t image, std::int64_t row) const {
    return (image * h.period + row) * w.period;
  }
  std::int64_t positions(const Tile& tile) const {
    return position(tile.images - 1, tile.rows - 1) + w.lines;
  }
};

using Offsets = PoolVector<std::int64_t>;

// The kept sources of one tile and group after the other: for each channel and phase a plane of rows, a
// period apart.
template <class T>
class Planes {
 public:
  explicit Planes(const Plan& plan)
      : plan_(plan),
        data_(Tensor::empty({plan.sources * channel(plan) + simd::product<T>().width}, dtype_of<T>())) {
    clear();
  }

  static std::int64_t plane(const Plan& p) {
    const std::int64_t window = p.position(p.images - 1, p.rows + p.h.most - p.h.least);
    return window + std::max<std::int64_t>(0, -p.w.least);
  }
  static std::int64_t channel(const Plan& p) { return p.h.source_phases() * p.w.source_phases() * plane(p); }
  // Where a tap reads for the first sum.
  static std::int64_t offset(const Plan& p, std::int64_t c, std::int64_t kh, std::int64_t kw) {
    const std::int64_t slot_h = p.h.transposed ? 0 : kh % p.h.cycle,
                       slot_w = p.w.transposed ? 0 : kw % p.w.cycle;
    return c * channel(p) + (slot_h * p.w.source_phases() + slot_w) * plane(p) +
           (p.h.shift(kh) - p.h.least) * p.w.period + p.w.shift(kw) - p.w.least;
  }

  const T* fill(const T* source, const Tile& tile, std::int64_t group) {
    const Axis &h = plan_.h, &w = plan_.w;
    T* to = data_.template mutable_data<T>();
    if (plan_.row_tiles > 1) clear();  // the margins move
    const std::int64_t all = plan_.sources * plan_.g.groups, area = h.source * w.source;
    for (std::int64_t c = 0; c < plan_.sources; ++c)
      for (std::int64_t i = 0; i < h.source_phases(); ++i)
        for (std::int64_t j = 0; j < w.source_phases(); ++j, to += plane(plan_))
          for (std::int64_t image = 0; image < tile.images; ++image)
            copy_phase(source + ((tile.image + image) * all + group * plan_.sources + c) * area,
                       h.transposed ? 0 : h.phase(i), w.transposed ? 0 : w.phase(j), tile,
                       to + plan_.position(image, 0));
    return data_.template data<T>();
  }

 private:
  void clear() {
    std::memset(data_.template mutable_data<T>(), 0, static_cast<std::size_t>(data_.size()) * sizeof(T));
  }

  void copy_phase(const T* from, std::int64_t phase_h, std::int64_t phase_w, const Tile& tile, T* to) const {
    const Axis &h = plan_.h, &w = plan_.w;
    const std::int64_t step_h = h.transposed ? 1 : h.stride, step_w = w.transposed ? 1 : w.stride;
    const std::int64_t top = tile.row + h.least, first = std::max<std::int64_t>(0, w.least);
    const std::int64_t last = std::min(ceil_div(w.source - phase_w, step_w), w.lines + w.most);
    const std::int64_t begin = std::max<std::int64_t>(0, top);
    const std::int64_t end = std::min(ceil_div(h.source - phase_h, step_h), tile.row + tile.rows + h.most);
    if (begin >= end || first >= last) return;
    to += (begin - top) * w.period + first - w.least;
    from += (begin * step_h + phase_h) * w.source + phase_w;
    const auto copy = simd::product<T>().copy_rows;
    if (step_h == 1 && step_w == 1 && w.period == w.source)  // rows without gaps
      return copy(1, (end - begin - 1) * w.period + last - first, from + first, 0, to, 0, nullptr);
    if (step_w == 1)
      return copy(end - begin, last - first, from + first, step_h * w.source, to, w.period, nullptr);
    for (std::int64_t v = begin; v < end; ++v, from += step_h * w.source, to += w.period)
      for (std::int64_t i = first; i < last; ++i) to[i - first] = from[i * step_w];
  }

  const Plan& plan_;
  Tensor data_;
};

// Copies the sums of a tile, `ld` apart for each channel, to their phase of the result. A convolution may
// have a bias, one number for each output, which is added on the way; an input gradient has none.
template <class T>
void copy_sums(const T* sums, std::int64_t ld, const Plan& plan, const Tile& tile, std::int64_t group,
               std::int64_t phase_h, std::int64_t phase_w, const T* bias, T* result) {
  const Axis &h = plan.h, &w = plan.w;
  const std::int64_t step_h = h.transposed ? h.stride : 1, step_w = w.transposed ? w.stride : 1;
  const std::int64_t all = plan.results * plan.g.groups, columns = ceil_div(w.result - phase_w, step_w);
  const std::int64_t rows = std::min(tile.rows, ceil_div(h.result - phase_h, step_h) - tile.row);
  const auto copy = simd::product<T>().copy_rows;
  for (std::int64_t image = 0; image < tile.images; ++image)
    for (std::int64_t c = 0; c < plan.results; ++c) {
      const std::int64_t channel = group * plan.results + c;
      T* to = result + ((tile.image + image) * all + channel) * h.result * w.result +
              (tile.row * step_h + phase_h) * w.result + phase_w;
      const T *from = sums + c * ld + plan.position(image, 0), *shift = bias ? bias + channel : nullptr;
      if (step_h == 1 && step_w == 1 && w.period == w.result)  // rows without gaps
        copy(1, rows * w.result, from, 0, to, 0, shift);
      else if (step_w == 1)
        copy(rows, columns, from, w.period, to, step_h * w.result, shift);
      else
        for (std::int64_t row = 0; row < rows; ++row)
          for (std::int64_t i = 0; i < columns; ++i)
            to[row * step_h * w.result + i * step_w] = from[row * w.period + i];
    }
}

// The convolution of x, plus a bias unless that is null, or, transposed, the gradient in x from one in y.
template <class T>
void convolve_directly(const T* source, const T* w, const T* bias, T* result, const Geometry& g,
                       bool transposed) {
  const Plan plan(g, transposed, !loops_are_serial());
  const simd::PanelProduct<T>& product = simd::product<T>();
  const std::int64_t area = g.kernel.h * g.kernel.w, taps = g.taps();
  if (transposed && plan.h.phases * plan.w.phases < g.stride.h * g.stride.w)  // some inputs are never read
    std::fill_n(result, g.x().size(), T{0});
  Offsets w_rows;
  for (std::int64_t i = 0; i < plan.results; ++i) w_rows.push_back(i * (transposed ? area : taps));
  const Tile first = plan.tile(0);
  const std::int64_t ld = ceil_div(plan.positions(first), product.width) * product.width;
  for (std::int64_t i = 0; i < plan.h.result_phases(); ++i) {
    for (std::int64_t j = 0; j < plan.w.result_phases(); ++j) {
      Offsets w_columns, reads;  // of the taps that this phase has
      for (std::int64_t kh = i; kh < g.kernel.h; kh += transposed ? plan.h.cycle : 1)
        for (std::int64_t kw = j; kw < g.kernel.w; kw += transposed ? plan.w.cycle : 1) {
          w_columns.push_back(kh * g.kernel.w + kw);
          reads.push_back(Planes<T>::offset(plan, 0, kh, kw));
        }
      const std::size_t of_channel = reads.size();
      const std::int64_t between = Planes<T>::channel(plan);
      for (std::size_t k = of_channel; k < of_channel * static_cast<std::size_t>(plan.sources); ++k) {
        w_columns.push_back(w_columns[k - of_channel] + (transposed ? taps : area));
        reads.push_back(reads[k - of_channel] + between);
      }
      const std::int64_t phase_h = transposed ? plan.h.phase(i) : 0,
                         phase_w = transposed ? plan.w.phase(j) : 0;
      parallel_for(plan.tiles(), plan.grain(), [&](std::int64_t begin, std::int64_t end) {
        Planes<T> planes(plan);
        Tensor scratch = Tensor::empty({plan.results * ld}, dtype_of<T>());
        T* sums = scratch.mutable_data<T>();
        for (std::int64_t t = begin; t < end; ++t) {
          const Tile tile = plan.tile(t);
          const std::int64_t n = ceil_div(plan.positions(tile), product.width) * product.width;
          for (std::int64_t group = 0; group < g.groups; ++group) {
            const T* read = planes.fill(source, tile, group);
            product.run_gathered(plan.results, n, static_cast<std::int64_t>(reads.size()),
                                 w + group * g.group_outputs() * taps, w_rows.data(), w_columns.data(), read,
                                 reads.data(), nullptr, 0, sums, ld);
            copy_sums(sums, ld, plan, tile, group, phase_h, phase_w, bias, result);
          }
        }
      });
    }
  }
}

// Adds what one weight, entry `index` of w, sends back from y.
template <class T>
void add_tap(const T* y, T weight, std::int64_t index, T* dx, const Geometry& g) {
  const std::int64_t o = index / g.taps(), area = g.kernel.h * g.kernel.w;
  const std::int64_t c = o / g.group_outputs() * g.group_channels() + index % g.taps() / area;
  const std::int64_t down = index % area / g.kernel.w * g.dilation.h - g.padding.h;
  const std::int64_t right = index % g.kernel.w * g.dilation.w - g.padding.w;
  for (std::int64_t image = 0; image < g.images; ++image)
    for (std::int64_t r = 0; r < g.output.h; ++r)
      for (std::int64_t i = 0; i < g.output.w; ++i) {
        const std::int64_t h = r * g.stride.h + down, w = i * g.stride.w + right;
        if (h >= 0 && h < g.input.h && w >= 0 && w < g.input.w)
          dx[((image * g.channels + c) * g.input.h + h) * g.input.w + w] +=
              weight * y[((image * g.outputs + o) * g.output.h + r) * g.output.w + i];
      }
}

// The same on some of the images.
template <class Direct>
void each_image(const winograd::Images& images, const Geometry& g, const Direct& direct) {
  Geometry one = g;
  one.images = 1;
  for (const std::int64_t i : images) direct(i * g.x().size() / g.images, i * g.y().size() / g.images, one);
}

template <class T>
void convolve(const T* x, const T* w, const T* bias, T* y, const Geometry& g) {
  if constexpr (std::is_same_v<T, float>)
    if (winograd::pays(g))
      return each_image(winograd::convolve(x, w, bias, y, g), g,
                        [&](std::int64_t in, std::int64_t out, const Geometry& one) {
                          convolve_directly(x + in, w, bias, y + out, one, false);
                        });
  if (columns::pays(g) && all_finite(w, g.w().size())) return columns::convolve(x, w, bias, y, g);
  convolve_directly(x, w, bias, y, g, false);
}

// Inputs near a border are read by fewer taps, where the product has zeros: no weight but a finite one may
// meet them.
template <class T>
void input_gradient_directly(const T* y, const T* w, T* dx, const Geometry& g) {
  const std::int64_t size = g.w().size();
  if (all_finite(w, size))
    return columns::pays(g) ? columns::input_gradient(y, w, dx, g)
                            : convolve_directly<T>(y, w, nullptr, dx, g, true);
  PoolVector<T> finite(w, w + size);
  for (T& weight : finite)
    if (!std::isfinite(weight)) weight = 0;
  convolve_directly<T>(y, finite.data(), nullptr, dx, g, true);
  for (std::int64_t i = 0; i < size; ++i)
    if (!std::isfinite(w[i])) add_tap(y, w[i], i, dx, g);
}

template <class T>
void input_gradient(const T* y, const T* w, T* dx, const Geometry& g) {
  if constexpr (std::is_same_v<T, float>)
    if (winograd::pays(g))
      return each_image(winograd::input_gradient(y, w, dx, g), g,
                        [&](std::int64_t in, std::int64_t out, const Geometry& one) {
                          input_gradient_directly(y + out, w, dx + in, one);
                        });
  input_gradient_directly(y, w, dx, g);
}

// The sums over some tiles of the images for dw, in the layout (taps, outputs) for each group: the taps'
// ranges of the kept inputs times y, which is turned to (pixels, outputs) for that.
template <class T>
class WeightSumsByPixel {
 public:
  explicit WeightSumsByPixel(const Plan& plan, const Offsets& reads)
      : plan_(plan), reads_(reads), outputs_(plan.g.group_outputs()) {
    for (std::int64_t image = 0; image < plan.images; ++image)  // the first tile's, which is as large as any
      for (std::int64_t row = 0; row < plan.rows; ++row)
        for (std::int64_t i = 0; i < plan.g.output.w; ++i) {
          y_rows_.push_back(std::ssize(pixels_) * outputs_);
          pixels_.push_back(plan.position(image, row) + i);
        }
    turned_ = Tensor::zeros({std::ssize(y_rows_) * outputs_ + simd::product<T>().width}, dtype_of<T>());
  }

  void add(const T* kept, const T* y, const Tile& tile, T* sums) {
    const std::int64_t length = tile.rows * plan_.g.output.w, taps = std::ssize(reads_);
    T* turned = turned_.template mutable_data<T>();
    for (std::int64_t image = 0; image < tile.images; ++image)
      simd::product<T>().transpose(outputs_, length, y + image * plan_.g.outputs * plan_.g.pixels(),
                                   plan_.g.pixels(), turned + image * length * outputs_, outputs_);
    simd::product<T>().run_gathered(taps, outputs_, tile.images * length, kept, reads_.data(), pixels_.data(),
                                    turned, y_rows_.data(), sums, outputs_, sums, outputs_);
  }

  void finish(const T* sums, T* dw) const {
    simd::product<T>().transpose(std::ssize(reads_), outputs_, sums, outputs_, dw, std::ssize(reads_));
  }

 private:
  const Plan& plan_;
  const Offsets& reads_;
  std::int64_t outputs_;
  Offsets pixels_, y_rows_;
  Tensor turned_;
};

// The same as products of rows of y and of the kept inputs, in the layout (outputs, taps).
template <class T>
class WeightSumsByRow {
 public:
  explicit WeightSumsByRow(const Plan& plan, const Offsets& reads) : plan_(plan), reads_(reads) {
    for (std::int64_t o = 0; o < plan.g.group_outputs(); ++o) y_rows_.push_back(o * plan.g.pixels());
  }

  void add(const T* kept, const T* y, const Tile& tile, T* sums) {
    const std::int64_t w = plan_.g.output.w, taps = std::ssize(reads_);
    const bool joined = plan_.w.period == w;  // rows without gaps
    for (std::int64_t image = 0; image < tile.images; ++image)
      simd::product<T>().add_dots(std::ssize(y_rows_), taps, joined ? 1 : tile.rows,
                                  joined ? tile.rows * w : w, y + image * plan_.g.outputs * plan_.g.pixels(),
                                  y_rows_.data(), w, kept + plan_.position(image, 0), reads_.data(),
                                  plan_.w.period, sums, taps);
  }

  void finish(const T* sums, T* dw) const { std::copy_n(sums, y_rows_.size() * reads_.size(), dw); }

 private:
  const Plan& plan_;
  const Offsets& reads_;
  Offsets y_rows_;
};

// Sums over images in a number of parts that the sizes decide; the parts are then added in order.
template <class T, class Sums>
void weight_gradient(const T* x, const T* y, T* dw, const Geometry& g, const Plan& plan) {
  constexpr std::int64_t most_parts = 16, most_elements = 1 << 22;
  const std::int64_t size = g.w().size(), group_size = size / g.groups;
  const std::int64_t parts =
      std::clamp<std::int64_t>(std::min(most_parts, most_elements / size), 1, plan.tiles());
  Offsets reads;
  for (std::int64_t c = 0; c < g.group_channels(); ++c)
    for (std::int64_t kh = 0; kh < g.kernel.h; ++kh)
      for (std::int64_t kw = 0; kw < g.kernel.w; ++kw) reads.push_back(Planes<T>::offset(plan, c, kh, kw));
  Tensor partial = Tensor::zeros({parts * size}, dtype_of<T>());
  T* sums = partial.mutable_data<T>();
  parallel_for(parts, 1, [&](std::int64_t begin, std::int64_t end) {
    Planes<T> planes(plan);
    Sums products(plan, reads);
    for (std::int64_t part = begin; part < end; ++part)
      for (std::int64_t t = plan.tiles() * part / parts; t < plan.tiles() * (part + 1) / parts; ++t) {
        const Tile tile = plan.tile(t);
        for (std::int64_t group = 0; group < g.groups; ++group)
          products.add(
              planes.fill(x, tile, group),
              y + (tile.image * g.outputs + group * g.group_outputs()) * g.pixels() + tile.row * g.output.w,
              tile, sums + part * size + group * group_size);
      }
  });
  for (std::int64_t part = 1; part < parts; ++part) simd::kernels<T>().add_to(sums + part * size, sums, size);
  const Sums products(plan, reads);
  for (std::int64_t group = 0; group < g.groups; ++group)
    products.finish(sums + group * group_size, dw + group * group_size);
}

template <class T>
void weight_gradient_directly(const T* x, const T* y, T* dw, const Geometry& g) {
  const Plan plan(g, false, true);  // sums over tiles: always the same
  // Few outputs leave most lanes of a vector of outputs empty, narrow images those of a vector of pixels.
  const std::int64_t width = simd::product<T>().width, outputs = g.group_outputs();
  if (outputs <= width && outputs * ceil_div(g.output.w, width) <= g.output.w)
    weight_gradient<T, WeightSumsByRow<T>>(x, y, dw, g, plan);
  else
    weight_gradient<T, WeightSumsByPixel<T>>(x, y, dw, g, plan);
}

template <class T>
void weight_gradient(const T* x, const T* y, T* dw, const Geometry& g) {
  if constexpr (std::is_same_v<T, float>)
    if (winograd::pays(g) && winograd::weight_gradient(x, y, dw, g)) return;
  if (columns::pays(g) && columns::weight_gradient(x, y, dw, g)) return;
  weight_gradient_directly(x, y, dw, g);
}

// ----------------------------------------------------------------------------------------------------------
// The operations. `extent` is what the shapes of the inputs do not tell: the image's size for the input
// gradient, the filter's for the weight gradient.

struct ConvAttrs {
  Conv2dOptions options;
  Pair extent = 0;
};

Geometry geometry(std::string_view op, std::span<const Var> inputs, const Attrs& attrs) {
  const auto& [options, extent] = attrs.as<ConvAttrs>();
  const Shape &a = inputs[0].shape(), &b = inputs[1].shape();
  if (op == "conv2d") return geometry(op, a, b, options);
  if (a.rank() != 4 || b.rank() != 4)
    fail<ShapeError>(op, "operands must have rank 4: " + a.to_string() + ", " + b.to_string());
  check_pair(op, op == "conv2d_input_grad" ? "image" : "filter", extent, 0);
  check_pair(op, "groups and channels of the filter", {options.groups, b[1]}, 0);
  const std::int64_t groups = std::max<std::int64_t>(options.groups, 1);
  if (op == "conv2d_input_grad") {
    const Geometry g = geometry(op, Shape{a[0], b[1] * groups, extent.h, extent.w}, b, options);
    check_y(op, a, g);
    return g;
  }
  const Geometry g = geometry(op, a, Shape{b[1], a[1] / groups, extent.h, extent.w}, options);
  check_y(op, b, g);
  return g;
}

// Runs one of the three functions, unless there is nothing to add up.
template <class Function>
void run(const char* op, const KernelContext& c, const Function& function) {
  const Geometry g = geometry(op, c.inputs, c.attrs);
  dispatch_floating(c.out().dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = c.out().mutable_data<T>();
    const T* bias = c.inputs.size() > 2 ? c.in(2).data<T>() : nullptr;
    if (c.in(0).size() != 0 && c.in(1).size() != 0 && c.out().size() != 0)
      return function(c.in(0).data<T>(), c.in(1).data<T>(), bias, out, g);
    std::fill_n(out, c.out().size(), T{0});
    if (bias)  // of sums without terms
      for (std::int64_t i = 0; i < c.out().size(); ++i) out[i] = bias[i / g.pixels() % g.outputs];
  });
}

const Conv2dOptions& options(const VjpContext& c) { return c.attrs.as<ConvAttrs>().options; }
Pair spatial(const Var& x) { return {x.shape()[2], x.shape()[3]}; }

// Uses of the three operations that together reach every path: strides, margins, dilation, groups, tiles of
// rows and of images, 1 x 1 filters.
struct Use {
  Shape x, w;
  Conv2dOptions options;
};

std::vector<Use> uses() {
  return {{{2, 3, 5, 4}, {2, 3, 3, 3}, {.padding = 1}},
          {{3, 2, 6, 5}, {3, 2, 3, 2}, {.stride = {2, 1}, .padding = {0, 1}}},
          {{1, 4, 5, 6}, {6, 2, 2, 3}, {.padding = 1, .dilation = {1, 2}, .groups = 2}},
          {{1, 3, 6, 5}, {6, 1, 1, 4}, {.padding = {0, 2}, .groups = 3}},
          {{2, 4, 7, 6}, {2, 2, 3, 2}, {.stride = 2, .padding = {2, 1}, .dilation = 2, .groups = 2}},
          {{2, 1, 6, 1}, {2, 1, 3, 1}, {.padding = {1, 0}, .dilation = {2, 1}}},
          {{2, 3, 4, 4}, {4, 3, 1, 1}, {}},
          {{2, 2, 9, 9}, {2, 2, 3, 3}, {.stride = 3, .padding = 1}},
          {{1, 2, 3, 3}, {2, 1, 1, 1}, {.padding = 2, .groups = 2}},
          {{1, 1, 9, 10}, {2, 1, 3, 3}, {.padding = 1}},
          {{0, 2, 4, 4}, {3, 2, 3, 3}, {.padding = 1}},
          {{1, 1, 1, 1}, {1, 1, 1, 1}, {}}};
}

const Op conv2d_op{{
    .name = "conv2d",
    .doc = "Cross-correlation of images with filters over the last two axes, with stride, padding, dilation, "
           "groups; plus a bias, if given.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          const Geometry g = geometry(c.op, c.inputs, c.attrs);
          if (c.inputs.size() > 2 && !(c.shape(2) == Shape{g.outputs}))
            fail<ShapeError>(c.op, "bias must have one entry for each of the " + std::to_string(g.outputs) +
                                       " filters: " + c.shape(2).to_string());
          return Spec{g.y(), dtype};
        },
    .kernel = [](const KernelContext& c) { run("conv2d", c, [](auto... a) { convolve(a...); }); },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          Vars cotangents(c.inputs.size());
          if (c.needs(0))
            cotangents[0] = conv2d_input_grad(c.cotangent, c.in(1), spatial(c.in(0)), options(c));
          if (c.needs(1))
            cotangents[1] = conv2d_weight_grad(c.in(0), c.cotangent, spatial(c.in(1)), options(c));
          if (c.inputs.size() > 2 && c.needs(2)) {
            const std::int64_t outputs = c.cotangent.size(1);
            cotangents[2] = reshape(sum_to(c.cotangent, {outputs, 1, 1}), {outputs});
          }
          return cotangents;
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const Use& use : uses())
            samples.push_back({{g.normal(use.x), g.normal(use.w)}, ConvAttrs{use.options}});
          for (const Use& use : uses())
            samples.push_back(
                {{g.normal(use.x), g.normal(use.w), g.normal({use.w[0]})}, ConvAttrs{use.options}});
          return samples;
        },
    .errors =
        [] {
          const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape); };
          return ErrorSamples{
              {{zeros({1, 3, 8, 8}), zeros({4, 2, 3, 3})},
               ConvAttrs{},
               "[conv2d] channels must agree (image's = groups x filter's, groups divides both): image "
               "(1,3,8,8), "
               "filter (4,2,3,3), groups 1"},
              {{zeros({1, 2, 2, 8}), zeros({4, 2, 3, 3})},
               ConvAttrs{},
               "[conv2d] filter must fit the padded image: image (1,2,2,8), filter (4,2,3,3)"},
              {{zeros({2, 8, 8}), zeros({4, 2, 3, 3})},
               ConvAttrs{},
               "[conv2d] image and filter must have rank 4: image (2,8,8)"},
              {{zeros({1, 2, 8, 8}), zeros({4, 2, 3, 3})},
               ConvAttrs{{.stride = 0}},
               "[conv2d] stride must lie in [1, 2^31]"},
              {{zeros({1, 2, 8, 8}), zeros({4, 2, 3, 3}), zeros({2})},
               ConvAttrs{},
               "[conv2d] bias must have one entry for each of the 4 filters: (2)"}};
        },
    .edges =
        [] {
          constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                           inf = std::numeric_limits<double>::infinity();
          const auto row = [](std::initializer_list<double> values) {
            return tensor(values, {1, 1, 1, static_cast<std::int64_t>(values.size())});
          };
          // A NaN or infinity reaches the windows that hold it. Padding holds zeros, and 0 * inf is NaN.
          return Edges{{{row({nan, 1, 2, inf}), row({1, 2})},
                        ConvAttrs{},
                        {row({nan, 5, inf})},
                        {row({1, 3, 3, 2}), row({nan, inf})}},
                       {{row({1, 2}), row({inf, 1})},
                        ConvAttrs{{.padding = {0, 1}}},
                        {row({nan, inf, inf})},
                        {row({inf, inf}), row({3, 3})}},
                       {{Tensor::zeros({0, 1, 2, 2}, DType::f64), Tensor::ones({3, 1, 1, 1}, DType::f64)},
                        ConvAttrs{},
                        {Tensor::zeros({0, 3, 2, 2}, DType::f64)},
                        {Tensor::zeros({0, 1, 2, 2}, DType::f64), Tensor::zeros({3, 1, 1, 1}, DType::f64)}},
                       {{Tensor::zeros({1, 0, 2, 1}, DType::f64),
                         Tensor::zeros({1, 0, 1, 1}, DType::f64)},  // no channels
                        ConvAttrs{},
                        {Tensor::zeros({1, 1, 2, 1}, DType::f64)},
                        {Tensor::zeros({1, 0, 2, 1}, DType::f64), Tensor::zeros({1, 0, 1, 1}, DType::f64)}},
                       {{Tensor::zeros({1, 0, 2, 1}, DType::f64), Tensor::zeros({2, 0, 1, 1}, DType::f64),
                         tensor({3.0, inf}, {2})},
                        ConvAttrs{},
                        {tensor({3.0, 3.0, inf, inf}, {1, 2, 2, 1})},
                        {Tensor::zeros({1, 0, 2, 1}, DType::f64), Tensor::zeros({2, 0, 1, 1}, DType::f64),
                         tensor({2.0, 2.0}, {2})}}};
        },
    .rows = first_by_rows,
}};

const Op conv2d_input_grad_op{{
    .name = "conv2d_input_grad",
    .doc = "Transpose of conv2d in its images.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          return Spec{geometry(c.op, c.inputs, c.attrs).x(), dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          run("conv2d_input_grad", c, [](auto y, auto w, auto, auto... a) { input_gradient(y, w, a...); });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          Vars cotangents(2);
          if (c.needs(0)) cotangents[0] = conv2d(c.cotangent, c.in(1), options(c));
          if (c.needs(1))
            cotangents[1] = conv2d_weight_grad(c.cotangent, c.in(0), spatial(c.in(1)), options(c));
          return cotangents;
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const Use& use : uses())
            samples.push_back({{g.normal(geometry("sample", use.x, use.w, use.options).y()), g.normal(use.w)},
                               ConvAttrs{use.options, {use.x[2], use.x[3]}}});
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({1, 4, 6, 6}), Tensor::zeros({4, 2, 3, 3})},
               ConvAttrs{{}, 9},
               "[conv2d_input_grad] y must have the shape that conv2d gives for image (1,2,9,9) and filter "
               "(4,2,3,3): (1,4,6,6) for (1,4,7,7)"}};
        },
    .rows = first_by_rows,
}};

const Op conv2d_weight_grad_op{{
    .name = "conv2d_weight_grad",
    .doc = "Transpose of conv2d in its filters.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          return Spec{geometry(c.op, c.inputs, c.attrs).w(), dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          run("conv2d_weight_grad", c, [](auto x, auto y, auto, auto... a) { weight_gradient(x, y, a...); });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          Vars cotangents(2);
          if (c.needs(0))
            cotangents[0] = conv2d_input_grad(c.in(1), c.cotangent, spatial(c.in(0)), options(c));
          if (c.needs(1)) cotangents[1] = conv2d(c.in(0), c.cotangent, options(c));
          return cotangents;
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const Use& use : uses())
            samples.push_back({{g.normal(use.x), g.normal(geometry("sample", use.x, use.w, use.options).y())},
                               ConvAttrs{use.options, {use.w[2], use.w[3]}}});
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({1, 2, 8, 8}), Tensor::zeros({2, 4, 6, 6})},
               ConvAttrs{{}, 3},
               "[conv2d_weight_grad] y must have the shape that conv2d gives for image (1,2,8,8) and filter "
               "(4,2,3,3): (2,4,6,6) for (1,4,6,6)"}};
        },
}};

}  // namespace

Var conv2d(const Var& x, const Var& w, const Conv2dOptions& options) {
  return apply(conv2d_op, {x, w}, ConvAttrs{options});
}

Var conv2d(const Var& x, const Var& w, const Var& bias, const Conv2dOptions& options) {
  return apply(conv2d_op, {x, w, bias}, ConvAttrs{options});
}

Var conv2d_input_grad(const Var& y, const Var& w, Pair input, const Conv2dOptions& options) {
  return apply(conv2d_input_grad_op, {y, w}, ConvAttrs{options, input});
}

Var conv2d_weight_grad(const Var& x, const Var& y, Pair kernel, const Conv2dOptions& options) {
  return apply(conv2d_weight_grad_op, {x, y}, ConvAttrs{options, kernel});
}

}  // namespace banach
