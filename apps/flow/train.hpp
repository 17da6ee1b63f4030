#pragma once

#include <string>

#include <apps/flow/results.hpp>
#include <apps/training/training.hpp>

namespace banach::flow {

/// Trains a model for each set and estimator, by maximum likelihood, by its labels, or by both: see
/// training::train. The options are resolved.
void train(const Options& options, const training::Place& place, Results& results);

/// A model of a checkpoint of `banach flow train`; without a name, the first. Throws FileError if there is
/// none.
ModelResult load_model(const std::string& checkpoint, const std::string& name);

}  // namespace banach::flow
