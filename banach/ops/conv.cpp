#include <banach/engine/blas.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/conv.hpp>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

namespace banach {
namespace {

// ----------------------------------------------------------------------------------------------------------
// Sizes. All three operations are parts of one trilinear form in x (n, c, h, w), w (o, c / groups, kh, kw)
// and y (n, o, oh, ow): <conv2d(x, w), y> = <x, input_grad(y, w)> = <w, weight_grad(x, y)>. So each one's
// derivatives are the other two.

struct Geometry {
  std::int64_t images, channels, outputs;
  Pair input, kernel, output, stride, padding, dilation;
  std::int64_t groups;

  std::int64_t group_channels() const { return channels / groups; }
  std::int64_t group_outputs() const { return outputs / groups; }
  std::int64_t taps() const { return group_channels() * kernel.h * kernel.w; }  // inputs of one output value
  std::int64_t pixels() const { return output.h * output.w; }
  Shape x() const { return {images, channels, input.h, input.w}; }
  Shape w() const { return {outputs, group_channels(), kernel.h, kernel.w}; }
  Shape y() const { return {images, outputs, output.h, output.w}; }
};

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
// Convolution as matrix products. The columns of a tile of output pixels, (taps, pixels of the tile), hold
// for each pixel the inputs it sees (Chellapilla et al. 2006, "im2col"); y = w columns for each group of
// channels. A tile is a range of rows of one image, or several whole images where these are small.

struct Tile {
  std::int64_t image, images, row, rows;
  std::int64_t pixels(const Geometry& g) const { return images * rows * g.output.w; }
};

struct Tiling {
  std::int64_t images, rows;            // of a tile
  std::int64_t image_tiles, row_tiles;  // number of them

  explicit Tiling(const Geometry& g) {
    constexpr std::int64_t few_pixels = 64, cached = 1 << 16;  // elements of the columns: half of a usual L2
    images = g.pixels() < few_pixels ? std::min(g.images, 2 * few_pixels / g.pixels()) : 1;
    const std::int64_t most = std::max<std::int64_t>(1, std::max(few_pixels, cached / g.taps()) / g.output.w);
    row_tiles = images > 1 ? 1 : (g.output.h + most - 1) / most;
    rows = (g.output.h + row_tiles - 1) / row_tiles;
    row_tiles = (g.output.h + rows - 1) / rows;
    image_tiles = (g.images + images - 1) / images;
  }
  std::int64_t count() const { return image_tiles * row_tiles; }
  std::int64_t pixels(const Geometry& g) const { return images * rows * g.output.w; }  // at most, of a tile
  Tile tile(const Geometry& g, std::int64_t i) const {
    const std::int64_t image = i / row_tiles * images, row = i % row_tiles * rows;
    return {image, std::min(images, g.images - image), row, std::min(rows, g.output.h - row)};
  }
};

// A matrix inside a larger array.
template <class T>
struct Matrix {
  T* data;
  std::int64_t stride;  // from row to row
};

// Rows are copied in whole vectors of 16 bytes; what is written too much is overwritten next, by the
// following row.
constexpr std::int64_t slack = 16 / sizeof(float);

template <std::size_t vectors, class T>
void copy_rows(T* to, const T* from, std::int64_t rows, std::int64_t length, std::int64_t stride) {
  constexpr std::size_t lanes = 16 / sizeof(T);
  for (std::int64_t r = 0; r < rows; ++r, to += length, from += stride)
    for (std::size_t v = 0; v < vectors; ++v) std::memcpy(to + v * lanes, from + v * lanes, 16);
}

template <class T>
void copy_rows(T* to, const T* from, std::int64_t rows, std::int64_t length, std::int64_t stride) {
  switch ((static_cast<std::size_t>(length) * sizeof(T) + 15) / 16) {
    case 1:
      return copy_rows<1>(to, from, rows, length, stride);
    case 2:
      return copy_rows<2>(to, from, rows, length, stride);
    case 3:
      return copy_rows<3>(to, from, rows, length, stride);
    case 4:
      return copy_rows<4>(to, from, rows, length, stride);
    case 5:
      return copy_rows<5>(to, from, rows, length, stride);
    case 6:
      return copy_rows<6>(to, from, rows, length, stride);
    case 7:
      return copy_rows<7>(to, from, rows, length, stride);
    case 8:
      return copy_rows<8>(to, from, rows, length, stride);
    default:
      for (std::int64_t r = 0; r < rows; ++r, to += length, from += stride) std::copy_n(from, length, to);
  }
}

// Scratch memory that makes the columns of one tile and group after the other.
template <class T>
class Columns {
 public:
  Columns(const Geometry& g, const Tiling& tiling)
      : g_(g),
        window_((tiling.rows - 1) * g.stride.h + g.dilation.h * (g.kernel.h - 1) + 1),
        width_(g.input.w + 2 * g.padding.w),
        padded_(scratch({tiling.images, g.group_channels(), window_, width_})),
        columns_(scratch({g.taps(), tiling.images, tiling.rows, g.output.w})) {}

  Matrix<const T> fill(const T* x, const Tile& tile, std::int64_t group) {
    const Pair one = 1;
    if (g_.kernel == one && g_.stride == one && g_.padding == Pair(0) && tile.images == 1)  // already columns
      return {image(x, tile.image, group) + tile.row * g_.output.w, g_.pixels()};
    pad(x, tile, group);
    const std::int64_t stride = tile.images * tile.rows * g_.output.w;
    const T* from = padded_.template data<T>();
    T* to = columns_.template mutable_data<T>();
    for (std::int64_t c = 0; c < g_.group_channels(); ++c)
      for (std::int64_t kh = 0; kh < g_.kernel.h; ++kh)
        for (std::int64_t kw = 0; kw < g_.kernel.w; ++kw)
          for (std::int64_t i = 0; i < tile.images; ++i, to += tile.rows * g_.output.w)
            copy_tap(to,
                     from + ((i * g_.group_channels() + c) * window_ + kh * g_.dilation.h) * width_ +
                         kw * g_.dilation.w,
                     tile.rows);
    return {columns_.template data<T>(), stride};
  }

 private:
  static Tensor scratch(const Shape& shape) { return Tensor::empty({shape.size() + slack}, dtype_of<T>()); }

  const T* image(const T* x, std::int64_t i, std::int64_t group) const {
    return x + (i * g_.channels + group * g_.group_channels()) * g_.input.h * g_.input.w;
  }

  // The rows of the input that the tile sees, with their margins of zeros.
  void pad(const T* x, const Tile& tile, std::int64_t group) {
    T* to = padded_.template mutable_data<T>();
    if (!(g_.padding == Pair(0))) std::memset(to, 0, static_cast<std::size_t>(padded_.size()) * sizeof(T));
    const std::int64_t top = tile.row * g_.stride.h - g_.padding.h;
    const std::int64_t first = std::max<std::int64_t>(0, -top), last = std::min(window_, g_.input.h - top);
    for (std::int64_t i = 0; i < tile.images; ++i) {
      const T* from = image(x, tile.image + i, group);
      for (std::int64_t c = 0; c < g_.group_channels();
           ++c, from += g_.input.h * g_.input.w, to += window_ * width_) {
        if (g_.padding.w == 0) {
          if (first < last)
            std::copy_n(from + (top + first) * width_, (last - first) * width_, to + first * width_);
          continue;
        }
        for (std::int64_t r = first; r < last; ++r)
          std::copy_n(from + (top + r) * g_.input.w, g_.input.w, to + r * width_ + g_.padding.w);
      }
    }
  }

  void copy_tap(T* to, const T* from, std::int64_t rows) const {
    if (g_.stride.w == 1 && g_.output.w == width_ * g_.stride.h) {  // rows without gaps
      std::copy_n(from, rows * g_.output.w, to);
      return;
    }
    if (g_.stride.w == 1) return copy_rows(to, from, rows, g_.output.w, width_ * g_.stride.h);
    for (std::int64_t r = 0; r < rows; ++r, to += g_.output.w, from += width_ * g_.stride.h)
      for (std::int64_t i = 0; i < g_.output.w; ++i) to[i] = from[i * g_.stride.w];
  }

  const Geometry& g_;
  std::int64_t window_, width_;  // rows and columns of the padded part of an image
  Tensor padded_, columns_;
};

// The part of y that belongs to a tile and group is a matrix already, (outputs of the group, pixels), if the
// tile lies in one image; if not, it passes through scratch memory.
template <class T>
Matrix<T> part_of_y(T* y, const Geometry& g, const Tile& tile, std::int64_t group) {
  return {y + (tile.image * g.outputs + group * g.group_outputs()) * g.pixels() + tile.row * g.output.w,
          g.pixels()};
}

template <class T>
Tensor part_scratch(const Geometry& g, const Tiling& tiling) {
  return Tensor::empty({tiling.images > 1 ? g.group_outputs() * tiling.pixels(g) : 0}, dtype_of<T>());
}

// Calls copy(place in y, place in the matrix) for each image of the tile and output of the group.
template <class Y, class Part, class Copy>
void for_images(Y* y, Part* part, const Geometry& g, const Tile& tile, std::int64_t group, const Copy& copy) {
  for (std::int64_t i = 0; i < tile.images; ++i)
    for (std::int64_t o = 0; o < g.group_outputs(); ++o)
      copy(part_of_y(y, g, {tile.image + i, 1, 0, 0}, group).data + o * g.pixels(),
           part + (o * tile.images + i) * g.pixels());
}

template <class T>
Matrix<const T> collect(const T* y, const Geometry& g, const Tile& tile, std::int64_t group,
                        Tensor& scratch) {
  if (tile.images == 1) return part_of_y(y, g, tile, group);
  T* part = scratch.mutable_data<T>();
  for_images(y, part, g, tile, group, [&](const T* from, T* to) { std::copy_n(from, g.pixels(), to); });
  return {part, tile.pixels(g)};
}

// How many tiles of so many pixels are worth a task.
std::int64_t grain(const Geometry& g, std::int64_t pixels) {
  constexpr double piece = 1 << 19;  // multiplications
  const double work =
      static_cast<double>(g.taps()) * static_cast<double>(g.outputs) * static_cast<double>(pixels);
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(piece / work));
}

template <class T>
void convolve(const T* x, const T* w, T* y, const Geometry& g) {
  const Tiling tiling(g);
  const std::int64_t taps = g.taps(), outputs = g.group_outputs();
  parallel_for(tiling.count(), grain(g, tiling.pixels(g)), [&](std::int64_t begin, std::int64_t end) {
    Columns<T> columns(g, tiling);
    Tensor scratch = part_scratch<T>(g, tiling);
    for (std::int64_t i = begin; i < end; ++i) {
      const Tile tile = tiling.tile(g, i);
      const std::int64_t pixels = tile.pixels(g);
      const bool direct = tile.images == 1;
      for (std::int64_t group = 0; group < g.groups; ++group) {
        const Matrix<const T> from = columns.fill(x, tile, group);
        const Matrix<T> to =
            direct ? part_of_y(y, g, tile, group) : Matrix<T>{scratch.mutable_data<T>(), pixels};
        blas::gemm(false, false, outputs, pixels, taps, T{1}, w + group * outputs * taps, taps, from.data,
                   from.stride, T{0}, to.data, to.stride);
        if (!direct)
          for_images(y, to.data, g, tile, group,
                     [&](T* image, const T* part) { std::copy_n(part, g.pixels(), image); });
      }
    }
  });
}

// Sums over images in a number of parts that the sizes decide; the parts are then added in order.
template <class T>
void weight_gradient(const T* x, const T* y, T* dw, const Geometry& g) {
  constexpr std::int64_t most_parts = 16, most_elements = 1 << 22;
  const Tiling tiling(g);
  const std::int64_t taps = g.taps(), outputs = g.group_outputs(), size = g.outputs * taps;
  const std::int64_t parts =
      std::clamp<std::int64_t>(std::min(most_parts, most_elements / size), 1, tiling.count());
  Tensor partial = Tensor::empty({(parts - 1) * size}, dtype_of<T>());
  T* more = partial.mutable_data<T>();
  parallel_for(parts, 1, [&](std::int64_t first, std::int64_t last) {
    Columns<T> columns(g, tiling);
    Tensor scratch = part_scratch<T>(g, tiling);
    for (std::int64_t part = first; part < last; ++part) {
      T* to = part == 0 ? dw : more + (part - 1) * size;
      const std::int64_t begin = tiling.count() * part / parts, end = tiling.count() * (part + 1) / parts;
      for (std::int64_t i = begin; i < end; ++i) {
        const Tile tile = tiling.tile(g, i);
        for (std::int64_t group = 0; group < g.groups; ++group) {
          const Matrix<const T> from = columns.fill(x, tile, group);
          const Matrix<const T> values = collect(y, g, tile, group, scratch);
          blas::gemm(false, true, outputs, taps, tile.pixels(g), T{1}, values.data, values.stride, from.data,
                     from.stride, i == begin ? T{0} : T{1}, to + group * outputs * taps, taps);
        }
      }
    }
  });
  parallel_for(size, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = 1; part < parts; ++part)
      simd::kernels<T>().add_to(more + (part - 1) * size + begin, dw + begin, end - begin);
  });
}

// Adds the columns of a tile's rows, of one image and channel, back to where they came from; `columns` holds
// one row for each tap.
template <class T>
void add_columns(Matrix<const T> columns, const Tile& tile, T* dx, const Geometry& g) {
  for (std::int64_t kh = 0; kh < g.kernel.h; ++kh)
    for (std::int64_t kw = 0; kw < g.kernel.w; ++kw, columns.data += columns.stride) {
      const std::int64_t shift = kw * g.dilation.w - g.padding.w;  // the input column of output column 0
      const std::int64_t first = shift >= 0 ? 0 : (-shift + g.stride.w - 1) / g.stride.w;
      const std::int64_t last =
          shift >= g.input.w ? 0 : std::min(g.output.w, (g.input.w - 1 - shift) / g.stride.w + 1);
      const T* from = columns.data;
      for (std::int64_t r = tile.row; r < tile.row + tile.rows; ++r, from += g.output.w) {
        const std::int64_t h = r * g.stride.h + kh * g.dilation.h - g.padding.h;
        if (h < 0 || h >= g.input.h) continue;
        T* to = dx + h * g.input.w;
        for (std::int64_t i = first; i < last; ++i) to[shift + i * g.stride.w] += from[i];
      }
    }
}

template <class T>
void input_gradient(const T* y, const T* w, T* dx, const Geometry& g) {
  const Tiling tiling(g);
  const std::int64_t taps = g.taps(), outputs = g.group_outputs(), channels = g.group_channels();
  const std::int64_t area = g.input.h * g.input.w, most = tiling.pixels(g);
  // The tiles of an image write to the same pixels: they belong to one task.
  parallel_for(
      tiling.image_tiles, grain(g, most * tiling.row_tiles), [&](std::int64_t begin, std::int64_t end) {
        Tensor columns = Tensor::empty({taps * most}, dtype_of<T>()), collected = part_scratch<T>(g, tiling);
        for (std::int64_t i = begin * tiling.row_tiles; i < end * tiling.row_tiles; ++i) {
          const Tile tile = tiling.tile(g, i);
          const std::int64_t pixels = tile.pixels(g);
          T* images = dx + tile.image * g.channels * area;
          if (tile.row == 0) std::fill_n(images, tile.images * g.channels * area, T{0});
          for (std::int64_t group = 0; group < g.groups; ++group) {
            const Matrix<const T> part = collect(y, g, tile, group, collected);
            T* to = columns.mutable_data<T>();
            blas::gemm(true, false, taps, pixels, outputs, T{1}, w + group * outputs * taps, taps, part.data,
                       part.stride, T{0}, to, pixels);
            for (std::int64_t c = 0; c < channels; ++c)
              for (std::int64_t image = 0; image < tile.images; ++image)
                add_columns<T>({to + c * g.kernel.h * g.kernel.w * pixels + image * g.pixels(), pixels}, tile,
                               images + (image * g.channels + group * channels + c) * area, g);
          }
        }
      });
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
    if (c.in(0).size() == 0 || c.in(1).size() == 0 || c.out().size() == 0)
      std::fill_n(out, c.out().size(), T{0});
    else
      function(c.in(0).data<T>(), c.in(1).data<T>(), out, g);
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
           "groups.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          return Spec{geometry(c.op, c.inputs, c.attrs).y(), dtype};
        },
    .kernel = [](const KernelContext& c) { run("conv2d", c, [](auto... a) { convolve(a...); }); },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          Vars cotangents(2);
          if (c.needs(0))
            cotangents[0] = conv2d_input_grad(c.cotangent, c.in(1), spatial(c.in(0)), options(c));
          if (c.needs(1))
            cotangents[1] = conv2d_weight_grad(c.in(0), c.cotangent, spatial(c.in(1)), options(c));
          return cotangents;
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const Use& use : uses())
            samples.push_back({{g.normal(use.x), g.normal(use.w)}, ConvAttrs{use.options}});
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
               "[conv2d] stride must lie in [1, 2^31]"}};
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
                        {Tensor::zeros({1, 0, 2, 1}, DType::f64), Tensor::zeros({1, 0, 1, 1}, DType::f64)}}};
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
        [](const KernelContext& c) { run("conv2d_input_grad", c, [](auto... a) { input_gradient(a...); }); },
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
          run("conv2d_weight_grad", c, [](auto... a) { weight_gradient(a...); });
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

Var conv2d_input_grad(const Var& y, const Var& w, Pair input, const Conv2dOptions& options) {
  return apply(conv2d_input_grad_op, {y, w}, ConvAttrs{options, input});
}

Var conv2d_weight_grad(const Var& x, const Var& y, Pair kernel, const Conv2dOptions& options) {
  return apply(conv2d_weight_grad_op, {x, y}, ConvAttrs{options, kernel});
}

}  // namespace banach
