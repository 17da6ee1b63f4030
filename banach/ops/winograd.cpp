#include <banach/ops/winograd.hpp>

#include <banach/engine/loop_state.hpp>
#include <banach/engine/panel_product.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/winograd_transforms.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>

namespace banach::winograd {
namespace {

// Results are cut into tiles of 4 x 4, each of which reads 6 x 6 sources. Both, and the filters, are taken to
// 36 points, where a convolution is 36 products of matrices: (tiles, sources) times (sources, results).
// Blocks of tiles are so small that their points stay in the second cache; within one, channels are the lanes
// of vectors, so that tiles may be cut and margins filled in at will.

constexpr std::int64_t points = 36;

std::int64_t round_up(std::int64_t a, std::int64_t unit) { return ceil_div(a, unit) * unit; }

/// Distances between points are odd numbers of cache lines: 36 streams must not meet in one set.
std::int64_t point_step(std::int64_t size) {
  return ceil_div(size, 16) % 2 == 0 ? round_up(size, 16) + 16 : round_up(size, 16);
}

/// A convolution: result r reads sources r - margin to r - margin + 2.
struct Layer {
  std::int64_t images, groups, sources, results;  // channels of a group
  Pair source, result, margin;

  std::int64_t source_area() const { return source.h * source.w; }
  std::int64_t result_area() const { return result.h * result.w; }
};

Layer forward(const ConvGeometry& g) {
  return {g.images, g.groups, g.group_channels(), g.group_outputs(), g.input, g.output, g.padding};
}
Layer backward(const ConvGeometry& g) {
  return {g.images,
          g.groups,
          g.group_outputs(),
          g.group_channels(),
          g.output,
          g.input,
          {2 - g.padding.h, 2 - g.padding.w}};
}

/// Tiles side by side. Those of an image come one below the other, so that neighbours share rows.
struct Segment {
  std::int64_t image, row, column, tiles;  // the first tile's place in the result
};

class Segments {
 public:
  static constexpr std::int64_t most = 8;  // tiles; their strips fit the first cache

  explicit Segments(const Layer& layer)
      : across_(ceil_div(layer.result.w, 4)),
        parts_(ceil_div(across_, most)),
        down_(ceil_div(layer.result.h, 4)),
        of_image_(down_ * parts_),
        count_(layer.images * of_image_) {}

  std::int64_t count() const { return count_; }
  std::int64_t longest() const { return ceil_div(across_, parts_); }
  Segment operator[](std::int64_t i) const {
    const std::int64_t in_image = i % of_image_, part = in_image / down_;
    const std::int64_t first = part * across_ / parts_, last = (part + 1) * across_ / parts_;
    return {i / of_image_, in_image % down_ * 4, first * 4, last - first};
  }

 private:
  std::int64_t across_, parts_, down_, of_image_, count_;
};

/// How many segments make a block: as many as fit the second cache, but no fewer tiles than are worth a pass
/// over what blocks share, the transformed filters or their sums.
std::int64_t block_segments(const Layer& layer, const Segments& segments, std::int64_t least_tiles) {
  constexpr std::int64_t cached = 1 << 17;
  const std::int64_t tiles = std::max(least_tiles, cached / (points * (layer.sources + layer.results)));
  return std::clamp<std::int64_t>(tiles / segments.longest(), 1, std::max<std::int64_t>(1, segments.count()));
}

/// The rows of pixels that one segment reads or writes, channels side by side.
class Strip {
 public:
  Strip() : data_(Tensor::empty({(6 + 6) * step()}, DType::f32)) {
    for (int i = 0; i < 6; ++i) rows_[i] = data_.mutable_data<float>() + i * step();
  }

  float* const* rows() const { return rows_; }
  float* scratch() { return data_.mutable_data<float>() + 6 * step(); }  // as much again

  /// So many rows from `top` and `length` columns from `left` of some channels; zeros outside of the planes.
  /// The first `kept` are the last ones of the call before.
  void fill(const float* planes, std::int64_t channels, Pair plane, int rows, int kept, std::int64_t top,
            std::int64_t left, std::int64_t length) {
    const simd::WinogradTransforms& transforms = simd::winograd_transforms();
    const std::int64_t width = transforms.width;
    const std::int64_t first = std::clamp<std::int64_t>(-left, 0, length);
    const std::int64_t last = std::clamp<std::int64_t>(plane.w - left, first, length);
    std::rotate(rows_, rows_ + (rows - kept) % rows, rows_ + rows);
    for (int r = kept; r < rows; ++r) {
      const std::int64_t i = top + r;
      float* to = rows_[r];
      if (i < 0 || i >= plane.h || first == last) {
        std::fill_n(to, length * width, 0.0f);
        continue;
      }
      std::fill_n(to, first * width, 0.0f);
      transforms.to_lanes(channels, last - first, planes + i * plane.w + left + first, plane.h * plane.w,
                          4 * plane.w, to + first * width);
      std::fill(to + last * width, to + length * width, 0.0f);
    }
  }

 private:
  // Of rows; transposes write beyond the end.
  static std::int64_t step() {
    const std::int64_t width = simd::winograd_transforms().width;
    return (4 * Segments::most + 2 + width) * width;
  }
  Tensor data_;
  float* rows_[6];
};

/// Takes the sources of these segments to the points, (tiles, sources) at each of them; how many tiles these
/// are.
std::int64_t transform_sources(const float* x, const Layer& layer, const Segments& segments,
                               std::int64_t begin, std::int64_t end, std::int64_t group, Strip& strip,
                               float* v, std::int64_t tile_step, std::int64_t step) {
  const simd::WinogradTransforms& transforms = simd::winograd_transforms();
  const std::int64_t width = transforms.width;
  std::int64_t tiles = 0;
  for (std::int64_t s = begin; s < end; ++s) tiles += segments[s].tiles;
  for (std::int64_t c = 0; c < layer.sources; c += width) {
    float* to = v + c;
    for (std::int64_t s = begin; s < end; ++s) {
      const Segment at = segments[s];
      strip.fill(x + ((at.image * layer.groups + group) * layer.sources + c) * layer.source_area(),
                 std::min(width, layer.sources - c), layer.source, 6, s > begin && at.row > 0 ? 2 : 0,
                 at.row - layer.margin.h, at.column - layer.margin.w, 4 * at.tiles + 2);
      transforms.sources(at.tiles, strip.rows(), strip.scratch(), to, tile_step, step);
      to += at.tiles * tile_step;
    }
  }
  return tiles;
}

/// Filters at the points, in the panels of a product: u[group][point][panel][source], an entry each.
class Filters {
 public:
  Filters(const float* w, const Layer& layer, bool transposed)
      : sources_(layer.sources),
        padded_(round_up(layer.results, simd::winograd_transforms().width)),
        data_(Tensor::empty({layer.groups * points * step()}, DType::f32)) {
    const simd::WinogradTransforms& transforms = simd::winograd_transforms();
    const std::int64_t width = transforms.width, panels = padded_ / width;
    const std::int64_t of_result = transposed ? 9 : 9 * sources_,
                       of_source = transposed ? 9 * layer.results : 9;
    float* u = data_.mutable_data<float>();
    std::atomic<bool> finite = true;
    parallel_for(
        layer.groups * panels, std::max<std::int64_t>(1, 512 / sources_),
        [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t group = i / panels, panel = i % panels;
            if (!transforms.filters(std::min(width, layer.results - panel * width), sources_,
                                    w + group * 9 * sources_ * layer.results + panel * width * of_result,
                                    of_result, of_source, transposed,
                                    u + group * points * step() + panel * sources_ * width, step()))
              finite.store(false, std::memory_order_relaxed);
          }
        });
    finite_ = finite;
  }

  bool finite() const { return finite_; }
  const float* panels(std::int64_t group, std::int64_t point) const {
    return data_.data<float>() + (group * points + point) * step();
  }

 private:
  std::int64_t step() const { return point_step(sources_ * padded_); }
  std::int64_t sources_, padded_;
  Tensor data_;
  bool finite_ = true;
};

Images run(const float* x, const float* w, const float* bias, float* y, const Layer& layer, bool transposed) {
  const simd::WinogradTransforms& transforms = simd::winograd_transforms();
  const simd::PanelProduct<float>& product = simd::product<float>();
  const std::int64_t width = transforms.width;
  Images again;
  const Filters filters(w, layer, transposed);
  if (!filters.finite()) {
    for (std::int64_t i = 0; i < layer.images; ++i) again.push_back(i);
    return again;
  }
  const Segments segments(layer);
  std::int64_t of_block = block_segments(layer, segments, 32);
  if (!loops_are_serial()) of_block = std::min(of_block, ceil_div(segments.count(), 4));
  const std::int64_t sources = round_up(layer.sources, width), results = round_up(layer.results, width);
  const std::int64_t most_tiles = of_block * segments.longest();
  const std::int64_t source_step = point_step(most_tiles * sources),
                     result_step = point_step(most_tiles * results);
  PoolVector<char> wrong(static_cast<std::size_t>(layer.images), 0);
  parallel_for(ceil_div(segments.count(), of_block), 1, [&](std::int64_t first, std::int64_t last) {
    Strip strip;
    Tensor buffer = Tensor::empty({points * (source_step + result_step)}, DType::f32);
    float *v = buffer.mutable_data<float>(), *m = v + points * source_step;
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * of_block, end = std::min(begin + of_block, segments.count());
      for (std::int64_t group = 0; group < layer.groups; ++group) {
        const std::int64_t tiles =
            transform_sources(x, layer, segments, begin, end, group, strip, v, sources, source_step);
        for (std::int64_t p = 0; p < points; ++p)
          product.run(tiles, results, layer.sources, v + p * source_step, sources, 1,
                      filters.panels(group, p), layer.sources, nullptr, 0, m + p * result_step, results);
        for (std::int64_t o = 0; o < layer.results; o += width) {
          const float* from = m + o;
          for (std::int64_t s = begin; s < end; ++s) {
            const Segment at = segments[s];
            if (!transforms.results(at.tiles, from, results, result_step, strip.rows()))
              std::atomic_ref(wrong[static_cast<std::size_t>(at.image)]).store(1, std::memory_order_relaxed);
            const std::int64_t channel = group * layer.results + o;
            float* to = y + (at.image * layer.groups * layer.results + channel) * layer.result_area() +
                        at.row * layer.result.w + at.column;
            for (std::int64_t i = 0; i < std::min<std::int64_t>(4, layer.result.h - at.row); ++i)
              transforms.from_lanes(std::min(width, layer.results - o),
                                    std::min(4 * at.tiles, layer.result.w - at.column), strip.rows()[i],
                                    to + i * layer.result.w, layer.result_area(),
                                    bias ? bias + channel : nullptr);
            from += at.tiles * results;
          }
        }
      }
    }
  });
  for (std::int64_t i = 0; i < layer.images; ++i)
    if (wrong[static_cast<std::size_t>(i)]) again.push_back(i);
  return again;
}

/// What tiles add to the filters' cotangents: 36 products (sources, tiles) times (tiles, results), which stay
/// at the points until all tiles have been seen.
class WeightSums {
 public:
  explicit WeightSums(const Layer& layer)
      : layer_(layer),
        segments_(layer),
        of_block_(block_segments(layer, segments_,
                                 std::max<std::int64_t>(32, (layer.sources + layer.results) / 4))) {}

  std::int64_t blocks() const { return ceil_div(segments_.count(), of_block_); }

  /// Writes the cotangent of one group's filters from these blocks.
  void add(const float* x, const float* y, std::int64_t group, std::int64_t first, std::int64_t last,
           float* dw) const {
    const simd::WinogradTransforms& transforms = simd::winograd_transforms();
    const simd::PanelProduct<float>& product = simd::product<float>();
    const std::int64_t width = transforms.width, rows = of_block_ * segments_.longest();
    const std::int64_t sources = round_up(layer_.sources, width), results = round_up(layer_.results, width);
    const std::int64_t source_step = point_step(rows * sources), result_step = point_step(rows * results);
    const std::int64_t sum_step = point_step(layer_.sources * results);
    Strip strip;
    Tensor buffer = Tensor::empty({points * (source_step + result_step + sum_step)}, DType::f32);
    float *v = buffer.mutable_data<float>(), *m = v + points * source_step, *sums = m + points * result_step;
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * of_block_, end = std::min(begin + of_block_, segments_.count());
      const std::int64_t tiles =
          transform_sources(x, layer_, segments_, begin, end, group, strip, v, sources, source_step);
      for (std::int64_t o = 0; o < layer_.results; o += width) {
        float* to = m + o * rows;
        for (std::int64_t s = begin; s < end; ++s) {
          const Segment at = segments_[s];
          strip.fill(y + ((at.image * layer_.groups + group) * layer_.results + o) * layer_.result_area(),
                     std::min(width, layer_.results - o), layer_.result, 4, 0, at.row, at.column,
                     4 * at.tiles);
          transforms.result_cotangents(at.tiles, strip.rows(), to, width, result_step);
          to += at.tiles * width;
        }
      }
      for (std::int64_t p = 0; p < points; ++p) {
        float* sum = sums + p * sum_step;
        product.run(layer_.sources, results, tiles, v + p * source_step, 1, sources, m + p * result_step,
                    rows, block == first ? nullptr : sum, block == first ? 0 : results, sum, results);
      }
    }
    Tensor taps = Tensor::empty({(9 * layer_.sources + width) * width}, DType::f32);
    for (std::int64_t o = 0; o < layer_.results; o += width) {
      transforms.filter_cotangents(layer_.sources, sums + o, results, sum_step, taps.mutable_data<float>());
      transforms.from_lanes(std::min(width, layer_.results - o), 9 * layer_.sources, taps.data<float>(),
                            dw + o * 9 * layer_.sources, 9 * layer_.sources, nullptr);
    }
  }

 private:
  const Layer& layer_;
  Segments segments_;
  std::int64_t of_block_;
};

}  // namespace

bool pays(const ConvGeometry& g) {
  constexpr std::int64_t least_channels = 16;
  const auto tiles = [](Pair size) { return ceil_div(size.h, 4) * ceil_div(size.w, 4); };
  const auto enough = [&](Pair size) { return tiles(size) >= 4 && size.h * size.w >= 8 * tiles(size); };
  return g.kernel == Pair(3) && g.stride == Pair(1) && g.dilation == Pair(1) &&
         std::min(g.group_channels(), g.group_outputs()) >= least_channels && enough(g.input) &&
         enough(g.output);
}

Images convolve(const float* x, const float* w, const float* bias, float* y, const ConvGeometry& g) {
  return run(x, w, bias, y, forward(g), false);
}

Images input_gradient(const float* y, const float* w, float* dx, const ConvGeometry& g) {
  return run(y, w, nullptr, dx, backward(g), true);
}

bool weight_gradient(const float* x, const float* y, float* dw, const ConvGeometry& g) {
  constexpr std::int64_t most_parts = 16, most_elements = 1 << 22;
  const Layer layer = forward(g);
  const std::int64_t size = g.w().size(), group_size = size / g.groups;
  const WeightSums sums(layer);
  const std::int64_t parts =
      std::clamp<std::int64_t>(std::min(most_parts, most_elements / size), 1, sums.blocks());
  Tensor partial = Tensor::empty({(parts - 1) * size}, DType::f32);
  float* others = partial.mutable_data<float>();
  parallel_for(parts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = begin; part < end; ++part)
      for (std::int64_t group = 0; group < g.groups; ++group)
        sums.add(x, y, group, sums.blocks() * part / parts, sums.blocks() * (part + 1) / parts,
                 (part == 0 ? dw : others + (part - 1) * size) + group * group_size);
  });
  for (std::int64_t part = 1; part < parts; ++part)
    simd::kernels<float>().add_to(others + (part - 1) * size, dw, size);
  return all_finite(dw, size);
}

}  // namespace banach::winograd

namespace banach::simd {

const WinogradTransforms& winograd_transforms() {
  switch (active()) {
    case Isa::avx512:
      return detail::avx512_winograd;
    case Isa::avx2:
      return detail::avx2_winograd;
    case Isa::sse2:
      break;
  }
  return detail::sse2_winograd;
}

}  // namespace banach::simd
