#include <apps/cli/output.hpp>

#include <filesystem>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <banach/engine/error.hpp>
#include <banach/nn/file.hpp>

namespace banach::cli {

OutputFolder::OutputFolder(const std::string& path, const std::vector<std::string>& names)
    : path_(path), names_(names) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail<FileError>("out", fmt::format("cannot make the folder {}: {}", path, error.message()));
  for (const std::string& name : names) nn::check_writable(file(name));
}

void conclude(const OutputFolder& folder, const Outcome& outcome) {
  nn::write_atomically(folder.file("summary.json"), outcome.summary_json);
  if (!outcome.metrics_csv.empty()) nn::write_atomically(folder.file("metrics.csv"), outcome.metrics_csv);
  nn::write_atomically(folder.file("report.html"), report::render(outcome.page));
  fmt::print("{}\n", outcome.table);
  for (const std::string& text : outcome.sentences) fmt::print("{}\n", text);
  fmt::print("{}/{}\n", folder.path(), fmt::join(folder.names(), ", "));
}

}  // namespace banach::cli
