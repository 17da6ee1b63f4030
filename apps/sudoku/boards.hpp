#pragma once
// Sudoku of 4x4 cells: rows, columns and blocks of 2x2 hold each of the digits 1 to 4 once. All solution
// grids, puzzles made of them, and the data sets for training.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <banach/engine/random.hpp>
#include <banach/engine/tensor.hpp>

namespace banach::sudoku {

inline constexpr std::int64_t digits = 4, cells = 16, board_size = cells * digits;

/// Digits by rows, 1 to 4; 0 is an empty cell.
using Board = std::array<std::uint8_t, cells>;

/// The rows, columns and blocks, as numbers of cells.
const std::array<std::array<std::size_t, digits>, 12>& units();

/// All 288 complete boards, in the order of their digits.
std::vector<Board> solution_grids();

/// Every row, column and block holds each digit once.
bool is_solution(const Board& board);

/// The digit that one step of deduction puts into an empty cell, or 0 if none does: the one digit that the
/// cell's row, column and block leave (a naked single), or one that has no other place in one of the three (a
/// hidden single).
std::uint8_t deduced(const Board& board, std::size_t cell);

/// A puzzle: cells of the solution are emptied in random order, each if its digit can be deduced from those
/// that are left, until none can be. So it has one solution, which single steps of deduction find.
Board make_puzzle(const Board& solution, Random& random);

struct Example {
  Board puzzle, solution;
};

enum class Split : std::uint8_t {
  puzzle,  ///< no puzzle is in both parts
  grid,    ///< no solution grid is in both parts
};

struct Dataset {
  std::vector<Example> train, test;  ///< all puzzles differ
};

/// Decided by the seed. Throws ValueError if there are not as many puzzles as asked for.
Dataset make_dataset(std::int64_t train, std::int64_t test, Split split, std::uint64_t seed);

/// One-hot boards (batch, 64) in f32: cell by cell, four entries each; zeros for an empty cell.
Tensor one_hot(const std::vector<Board>& boards);

/// In each cell the digit of the largest entry of a prediction (64), the first one on ties.
Board read_board(const float* prediction);

}  // namespace banach::sudoku
