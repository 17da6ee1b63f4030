#pragma once
#include <string>

#include <apps/lab/options.hpp>

namespace banach::lab {

/// What a checkpoint of the lab says of the model in it.
struct SavedRun {
  Entries entries{};         ///< the settings, as they are shown
  TrainSettings settings{};  ///< of data, model and seed; nothing else is filled in
  std::string rule{};        ///< that trained it
  std::int64_t step = 0;
};

/// Throws FileError if there is no checkpoint, or if it is damaged or not one of the lab.
SavedRun saved_run(const std::string& path);

}  // namespace banach::lab
