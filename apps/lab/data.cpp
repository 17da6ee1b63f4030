#include <apps/lab/data.hpp>

#include <filesystem>

#include <fmt/format.h>

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

}  // namespace banach::lab
