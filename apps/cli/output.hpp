#pragma once

#include <string>
#include <vector>

namespace banach::cli {

/// A folder for results. Made if it is not there; each file to come is tried at once, so that a long job does
/// not fail at its end.
class OutputFolder {
 public:
  /// `names`: the files that will be written. Throws FileError saying why one of them cannot be.
  OutputFolder(const std::string& path, const std::vector<std::string>& names);
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace banach::cli
