#pragma once

#include <apps/copy/options.hpp>
#include <apps/copy/results.hpp>
#include <apps/training/training.hpp>

namespace banach::copy_task {

/// Trains each model on the same sequences, all of them new, and looks at held-out ones along the way: see
/// training::train.
void train(const Settings& settings, const training::Place& place, Results& results);

}  // namespace banach::copy_task
