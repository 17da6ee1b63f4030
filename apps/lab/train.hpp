#pragma once

#include <functional>
#include <string>

#include <apps/lab/results.hpp>
#include <banach/nn/dataset.hpp>

namespace banach::lab {

/// Trains the classifier once for each rule, from the same parameters and on the same batches, and looks at
/// it along the way. The checkpoint is written at every probe and at every end; with `resume`, the run goes
/// on from it and finds bit for bit what an uninterrupted one finds (times apart). `stop` is asked before
/// each step: once it says so, the checkpoint is written and Error thrown. Throws FileError if the checkpoint
/// cannot be used, such as one made with other settings.
void train(const TrainSettings& settings, const nn::ImageDataset& data, const std::string& checkpoint,
           bool resume, const std::function<bool()>& stop, Results& results);

/// Throws FileError if a new run would destroy a checkpoint that is not that of a finished run of these
/// settings.
void check_replaceable(const std::string& checkpoint, const TrainSettings& settings);

}  // namespace banach::lab
