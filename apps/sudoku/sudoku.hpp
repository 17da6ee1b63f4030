#pragma once

#include <apps/cli/run.hpp>

namespace banach::sudoku {

/// Adds `banach sudoku`: a quadratic program with learned constraints, and two networks, learn 4x4 Sudoku.
cli::Subcommand add_sudoku(CLI::App& app);

}  // namespace banach::sudoku
