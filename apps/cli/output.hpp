#pragma once

#include <string>

namespace banach::cli {

/// A folder for results. Made if it is not there, and tried at once, so that a long job does not fail at its
/// end.
class OutputFolder {
 public:
  /// Throws FileError saying why nothing can be written there.
  explicit OutputFolder(const std::string& path);
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace banach::cli
