#pragma once

#include <apps/denoise/options.hpp>
#include <apps/denoise/results.hpp>
#include <apps/training/training.hpp>

namespace banach::denoise {

/// Trains and tests the methods, one after another, with a test after every epoch: see training::train.
void train(const Settings& settings, const training::Place& place, Results& results);

}  // namespace banach::denoise
