#include <apps/cli/output.hpp>

#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include <banach/engine/error.hpp>
#include <banach/nn/file.hpp>

namespace banach::cli {

OutputFolder::OutputFolder(const std::string& path) : path_(path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail<FileError>("out", fmt::format("cannot make the folder {}: {}", path, error.message()));
  const std::string probe = file(".writable");
  nn::write_atomically(probe, std::string_view());
  std::filesystem::remove(probe, error);
}

}  // namespace banach::cli
