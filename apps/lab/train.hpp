#pragma once

#include <apps/lab/results.hpp>
#include <apps/training/training.hpp>
#include <banach/nn/dataset.hpp>

namespace banach::lab {

/// Trains the classifier once for each rule, from the same parameters and on the same batches, and looks at
/// it along the way: see training::train.
void train(const TrainSettings& settings, const nn::ImageDataset& data, const training::Place& place,
           Results& results);

}  // namespace banach::lab
