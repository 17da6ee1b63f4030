#pragma once
// PNG files in memory, so that a page can show the images that a model sees.

#include <cstdint>
#include <span>
#include <vector>

namespace banach::report {

/// Encodes 8-bit pixels, row-major, as PNG. `channels` is 1 (gray) or 3 (RGB, interleaved); `pixels` holds
/// height * width * channels bytes. Throws ValueError on other sizes.
std::vector<std::uint8_t> encode_png(std::span<const std::uint8_t> pixels, int width, int height,
                                     int channels = 1);

/// Maps values from [lowest, highest] to 0..255 gray levels, clamped; values that are not finite become 0.
std::vector<std::uint8_t> gray_levels(std::span<const float> values, float lowest = 0, float highest = 1);

struct PngSize {
  int width = 0, height = 0;
};

/// Reads the size from a PNG's header. Throws ValueError if `png` does not start like one.
PngSize png_size(std::span<const std::uint8_t> png);

}  // namespace banach::report
