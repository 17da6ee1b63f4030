#pragma once

#include <apps/flow/results.hpp>
#include <apps/flow/sets.hpp>
#include <apps/training/training.hpp>

namespace banach::flow {

/// Trains a model for each set and estimator by maximum likelihood, on points that are new at each step: see
/// training::train.
void train(const Options& options, const training::Place& place, Results& results);

/// The points that a model was not trained on.
Points held_out(const ModelResult& model);

/// Share of the labels that the model's classifier says.
double accuracy(PointFlow& model, const Points& points);

/// A model of a checkpoint of `banach flow train`; without a name, the first. Throws FileError if there is
/// none.
ModelResult load_model(const std::string& checkpoint, const std::string& name);

}  // namespace banach::flow
