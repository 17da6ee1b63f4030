#include <apps/report/png.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <string_view>

#include <zlib.h>

#include <banach/engine/error.hpp>

namespace banach::report {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::array<std::uint8_t, 8> signature{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

void append_u32(Bytes& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
}

std::uint32_t read_u32(std::span<const std::uint8_t> bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = at; i < at + 4; ++i) value = value << 8 | bytes[i];
  return value;
}

/// Length, type, data, and the CRC of type and data (PNG specification, section 5.3).
void append_chunk(Bytes& out, std::string_view type, const Bytes& data) {
  append_u32(out, static_cast<std::uint32_t>(data.size()));
  const std::size_t start = out.size();
  out.insert(out.end(), type.begin(), type.end());
  out.insert(out.end(), data.begin(), data.end());
  append_u32(out,
             static_cast<std::uint32_t>(crc32(0, out.data() + start, static_cast<uInt>(out.size() - start))));
}

/// Each row starts with its filter; 0 (none) does well on the small images shown here.
Bytes compress_rows(std::span<const std::uint8_t> pixels, std::size_t row_bytes) {
  Bytes rows;
  rows.reserve(pixels.size() + pixels.size() / row_bytes);
  for (std::size_t at = 0; at < pixels.size(); at += row_bytes) {
    rows.push_back(0);
    rows.insert(rows.end(), pixels.begin() + static_cast<std::ptrdiff_t>(at),
                pixels.begin() + static_cast<std::ptrdiff_t>(at + row_bytes));
  }
  uLongf size = compressBound(static_cast<uLong>(rows.size()));
  Bytes out(size);
  if (compress2(out.data(), &size, rows.data(), static_cast<uLong>(rows.size()), Z_BEST_COMPRESSION) !=
      Z_OK) {
    fail<Error>("encode_png", "zlib could not compress the image");
  }
  out.resize(size);
  return out;
}

}  // namespace

Bytes encode_png(std::span<const std::uint8_t> pixels, int width, int height, int channels) {
  if (width < 1 || height < 1 || (channels != 1 && channels != 3)) {
    fail<ValueError>("encode_png",
                     "an image must have at least one pixel and 1 or 3 channels: " + std::to_string(width) +
                         " x " + std::to_string(height) + " x " + std::to_string(channels));
  }
  const std::size_t row_bytes = static_cast<std::size_t>(width) * static_cast<std::size_t>(channels);
  if (pixels.size() != row_bytes * static_cast<std::size_t>(height)) {
    fail<ValueError>("encode_png", "pixels must hold height * width * channels = " +
                                       std::to_string(row_bytes * static_cast<std::size_t>(height)) +
                                       " bytes: " + std::to_string(pixels.size()));
  }
  Bytes header;
  append_u32(header, static_cast<std::uint32_t>(width));
  append_u32(header, static_cast<std::uint32_t>(height));
  const std::uint8_t color_type = channels == 3 ? 2 : 0;
  header.insert(header.end(),
                {8, color_type, 0, 0, 0});  // bits a channel, colour, deflate, filters, not interlaced

  Bytes out(signature.begin(), signature.end());
  append_chunk(out, "IHDR", header);
  append_chunk(out, "IDAT", compress_rows(pixels, row_bytes));
  append_chunk(out, "IEND", {});
  return out;
}

std::vector<std::uint8_t> gray_levels(std::span<const float> values, float lowest, float highest) {
  std::vector<std::uint8_t> levels;
  levels.reserve(values.size());
  const float scale = highest > lowest ? 255 / (highest - lowest) : 0;
  for (const float value : values) {
    const float level = std::isfinite(value) ? (value - lowest) * scale : 0;
    levels.push_back(static_cast<std::uint8_t>(std::clamp(level, 0.0F, 255.0F) + 0.5F));
  }
  return levels;
}

PngSize png_size(std::span<const std::uint8_t> png) {
  constexpr std::size_t header_end = 24;  // signature, chunk length and type, width, height
  if (png.size() < header_end || !std::equal(signature.begin(), signature.end(), png.begin())) {
    fail<ValueError>("report",
                     "a picture must be a PNG file: " + std::to_string(png.size()) + " other bytes");
  }
  return {static_cast<int>(read_u32(png, 16)), static_cast<int>(read_u32(png, 20))};
}

}  // namespace banach::report
