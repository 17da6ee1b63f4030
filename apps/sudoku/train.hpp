#pragma once

#include <apps/sudoku/options.hpp>
#include <apps/sudoku/results.hpp>
#include <apps/training/training.hpp>

namespace banach::sudoku {

/// Trains each model on the same batches, mean squared error by Adam, and looks at its errors along the way:
/// see training::train. Throws ValueError if there are not as many boards.
void train(const Settings& settings, const training::Place& place, Results& results);

}  // namespace banach::sudoku
