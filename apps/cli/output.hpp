#pragma once

#include <string>
#include <vector>

#include <apps/report/page.hpp>

namespace banach::cli {

/// A folder for results. Made if it is not there; each file to come is tried at once, so that a long job does
/// not fail at its end.
class OutputFolder {
 public:
  /// `names`: the files that will be written. Throws FileError saying why one of them cannot be.
  OutputFolder(const std::string& path, const std::vector<std::string>& names);
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::string path_;
  std::vector<std::string> names_;
};

/// What a command found.
struct Outcome {
  std::string summary_json{};
  std::string metrics_csv{};  ///< empty: there is none
  report::Page page{};
  std::string table{};                   ///< of the main numbers
  std::vector<std::string> sentences{};  ///< that it tells
};

/// The end of a command: writes summary.json, metrics.csv and report.html into its folder, and prints table,
/// sentences and the names of the folder's files.
void conclude(const OutputFolder& folder, const Outcome& outcome);

}  // namespace banach::cli
