#pragma once

#include <string>

#include <apps/lab/results.hpp>
#include <banach/nn/dataset.hpp>

namespace banach::lab {

struct ChosenData {
  std::string name;
  nn::ImageDataset images;
  std::string notice;  ///< what the reader must know, if anything
};

/// The images that were asked for. If none were, and Fashion-MNIST is not installed, the digits that are part
/// of the library. Throws FileError naming what is missing or wrong.
ChosenData choose_data(const Options& options);

/// The first images of a split, at most `count`, as they are shown on a page.
std::vector<SampleImage> sample_images(const nn::ImageSplit& split, std::int64_t count);

}  // namespace banach::lab
