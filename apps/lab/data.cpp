#include <apps/lab/data.hpp>

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include <apps/report/png.hpp>
#include <banach/engine/error.hpp>

namespace banach::lab {

ChosenData choose_data(const Options& options) {
  if (!options.data_dir.empty() && !std::filesystem::is_directory(options.data_dir))
    fail<FileError>("data", fmt::format("there is no folder {}, given as --data-dir", options.data_dir));
  if (options.data) return {*options.data, nn::load_images(*options.data, options.data_dir), {}};
  const std::string usual = "fashion-mnist";
  try {
    return {usual, nn::load_images(usual, options.data_dir), {}};
  } catch (const FileError& error) {
    // A folder that was named is meant.
    if (!options.data_dir.empty()) throw;
    return {"digits", nn::load_digits(),
            fmt::format("Fashion-MNIST cannot be read, so the embedded digits were used: {}", error.what())};
  }
}

std::vector<SampleImage> sample_images(const nn::ImageSplit& split, std::int64_t count) {
  std::vector<SampleImage> samples;
  nn::ImageSplit plain = split;
  plain.normalization = {};  // pixels in [0, 1]
  for (std::int64_t i = 0; i < std::min(count, split.size()); ++i) {
    const Tensor image = plain.range(i, i + 1).x;
    samples.push_back({static_cast<int>(image.size(3)), static_cast<int>(image.size(2)),
                       report::gray_levels(image.values<float>()), split.label(i)});
  }
  return samples;
}

}  // namespace banach::lab
