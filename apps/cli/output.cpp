#include <apps/cli/output.hpp>

#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include <banach/engine/error.hpp>
#include <banach/nn/file.hpp>

namespace banach::cli {

OutputFolder::OutputFolder(const std::string& path, const std::vector<std::string>& names) : path_(path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail<FileError>("out", fmt::format("cannot make the folder {}: {}", path, error.message()));
  for (const std::string& name : names) nn::check_writable(file(name));
}

}  // namespace banach::cli
