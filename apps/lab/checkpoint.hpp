#pragma once
// The lab's part of a checkpoint: its settings, how far it is, and what it found so far.

#include <cstddef>
#include <string>

#include <apps/lab/results.hpp>
#include <banach/nn/checkpoint.hpp>

namespace banach::lab {

/// Adds settings, results and the rule in training (by its place; their number once all are done).
void put_results(nn::Progress& progress, const Results& results, std::size_t rule);

/// Reads them back into `results`, whose settings and rules must be in place; returns the rule in training.
/// Throws FileError if there is no checkpoint, if it is damaged or not one of the lab, or naming the first
/// setting that differs.
std::size_t take_results(const std::string& path, Results& results);

/// Throws FileError if a new run would destroy something: if there is a file at `path`, and not the
/// checkpoint of a finished run of the same settings.
void check_replaceable(const std::string& path, const TrainSettings& settings);

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
