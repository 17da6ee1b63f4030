#include <apps/flow/drawing.hpp>

#include <algorithm>
#include <array>
#include <cmath>

#include <apps/report/png.hpp>

namespace banach::flow {
namespace {

// From dark blue over green to yellow, of even steps in lightness.
using Colour = std::array<double, 3>;
constexpr std::array<Colour, 6> scale{
    {{20, 12, 56}, {49, 48, 120}, {36, 99, 138}, {33, 146, 128}, {120, 194, 82}, {250, 232, 60}}};

void append(std::vector<std::uint8_t>& pixels, double share) {
  const double place = std::clamp(share, 0.0, 1.0) * (scale.size() - 1.0);
  const auto below = std::min(static_cast<std::size_t>(place), scale.size() - 2);
  const double part = place - static_cast<double>(below);
  for (std::size_t k = 0; k < 3; ++k)
    pixels.push_back(
        static_cast<std::uint8_t>(std::lround((1.0 - part) * scale[below][k] + part * scale[below + 1][k])));
}

}  // namespace

report::Picture draw_heat_map(const std::string& title, const std::string& caption, const Tensor& values,
                              std::int64_t side, double most) {
  std::vector<std::uint8_t> pixels;
  for (std::int64_t i = 0; i < values.size(); ++i)
    append(pixels, std::isfinite(values.at(i)) && most > 0.0 ? values.at(i) / most : 0.0);
  return {.title = title,
          .caption = caption,
          .alt = "Density of " + title,
          .png = report::encode_png(pixels, static_cast<int>(side), static_cast<int>(side), 3),
          .width = 2 * static_cast<int>(side)};
}

double bright(const Tensor& values) {
  std::vector<double> sorted;
  for (std::int64_t i = 0; i < values.size(); ++i)
    if (std::isfinite(values.at(i))) sorted.push_back(values.at(i));
  if (sorted.empty()) return 0.0;
  const auto place =
      sorted.begin() + static_cast<std::ptrdiff_t>(0.999 * static_cast<double>(sorted.size() - 1));
  std::nth_element(sorted.begin(), place, sorted.end());
  return *place;
}

Tensor histogram(const Tensor& points, std::int64_t side, double reach) {
  Tensor counts = Tensor::zeros({side * side}, DType::f64);
  const double cell = 2.0 * reach / static_cast<double>(side);
  const double one = 1.0 / (static_cast<double>(points.size(0)) * cell * cell);
  for (std::int64_t i = 0; i < points.size(0); ++i) {
    const double column = std::floor((points.at(2 * i) + reach) / cell),
                 row = std::floor((reach - points.at(2 * i + 1)) / cell);
    const auto limit = static_cast<double>(side);
    if (column >= 0 && column < limit && row >= 0 && row < limit)
      counts.mutable_data<double>()[static_cast<std::int64_t>(row) * side +
                                    static_cast<std::int64_t>(column)] += one;
  }
  return counts;
}

report::Picture draw_images(const std::string& title, const std::string& caption, const Tensor& images,
                            std::int64_t columns, double most) {
  const std::int64_t n = images.size(0), h = images.size(2), w = images.size(3), gap = 1;
  const std::int64_t rows = (n + columns - 1) / columns, width = columns * (w + gap) - gap,
                     height = rows * (h + gap) - gap;
  std::vector<float> pixels(static_cast<std::size_t>(width * height), static_cast<float>(most / 2));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t y = 0; y < h; ++y)
      for (std::int64_t x = 0; x < w; ++x)
        pixels[static_cast<std::size_t>((i / columns * (h + gap) + y) * width + i % columns * (w + gap) +
                                        x)] = static_cast<float>(images.at((i * h + y) * w + x));
  const std::vector<std::uint8_t> gray = report::gray_levels(pixels, 0, static_cast<float>(most));
  const std::int64_t enlarged = std::max<std::int64_t>(1, 24 / w + 1);
  return {.title = title,
          .caption = caption,
          .alt = title,
          .png = report::encode_png(gray, static_cast<int>(width), static_cast<int>(height)),
          .width = static_cast<int>(width * enlarged)};
}

report::Series series_of(const std::string& name, const Tensor& points, report::Series::Mark mark) {
  report::Series series{.name = name, .mark = mark};
  for (std::int64_t i = 0; i < points.size(0); ++i) {
    series.x.push_back(points.at(2 * i));
    series.y.push_back(points.at(2 * i + 1));
  }
  return series;
}

}  // namespace banach::flow
