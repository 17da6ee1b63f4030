#include <apps/sudoku/boards.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include <banach/engine/error.hpp>

namespace banach::sudoku {
namespace {

using Digits = unsigned;  // a set: bit d - 1 for digit d
constexpr Digits all_digits = 0b1111;

Digits bit_of(std::uint8_t digit) { return digit == 0 ? 0 : 1u << (digit - 1); }

bool has(const std::array<std::size_t, digits>& unit, std::size_t cell) {
  return std::find(unit.begin(), unit.end(), cell) != unit.end();
}

/// The digits that no cell in sight holds.
Digits candidates(const Board& board, std::size_t cell) {
  Digits seen = 0;
  for (const auto& unit : units())
    if (has(unit, cell))
      for (const std::size_t other : unit) seen |= bit_of(board[other]);
  return all_digits & ~seen;
}

void fill(Board& board, std::size_t cell, std::vector<Board>& found) {
  if (cell == board.size()) {
    found.push_back(board);
    return;
  }
  const Digits possible = candidates(board, cell);
  for (std::uint8_t digit = 1; digit <= digits; ++digit) {
    if ((possible & bit_of(digit)) == 0) continue;
    board[cell] = digit;
    fill(board, cell + 1, found);
  }
  board[cell] = 0;
}

}  // namespace

const std::array<std::array<std::size_t, digits>, 12>& units() {
  static const auto list = [] {
    std::array<std::array<std::size_t, digits>, 12> all{};
    for (std::size_t i = 0; i < 4; ++i)
      for (std::size_t k = 0; k < 4; ++k) {
        all[i][k] = 4 * i + k;
        all[4 + i][k] = 4 * k + i;
        all[8 + i][k] = 4 * (i / 2 * 2 + k / 2) + i % 2 * 2 + k % 2;
      }
    return all;
  }();
  return list;
}

std::vector<Board> solution_grids() {
  std::vector<Board> found;
  Board board{};
  fill(board, 0, found);
  return found;
}

bool is_solution(const Board& board) {
  return std::all_of(units().begin(), units().end(), [&](const auto& unit) {
    Digits seen = 0;
    for (const std::size_t cell : unit) seen |= bit_of(board[cell]);
    return seen == all_digits;
  });
}

std::uint8_t deduced(const Board& board, std::size_t cell) {
  const Digits possible = candidates(board, cell);
  const auto digit_of = [](Digits set) { return static_cast<std::uint8_t>(std::countr_zero(set) + 1); };
  if (std::has_single_bit(possible)) return digit_of(possible);
  for (const auto& unit : units()) {
    if (!has(unit, cell)) continue;
    Digits elsewhere = 0;
    for (const std::size_t other : unit)
      if (other != cell && board[other] == 0) elsewhere |= candidates(board, other);
    const Digits only_here = possible & ~elsewhere;
    if (std::has_single_bit(only_here)) return digit_of(only_here);
  }
  return 0;
}

Board make_puzzle(const Board& solution, Random& random) {
  Board puzzle = solution;
  // What cannot be deduced now cannot be later, with fewer cells to deduce it from: one round is enough.
  for (const std::int64_t next : random.permutation(cells)) {
    const auto cell = static_cast<std::size_t>(next);
    puzzle[cell] = 0;
    if (deduced(puzzle, cell) == 0) puzzle[cell] = solution[cell];
  }
  return puzzle;
}

Dataset make_dataset(std::int64_t train, std::int64_t test, Split split, std::uint64_t seed) {
  constexpr std::uint64_t stream = 6;
  Random random(seed, stream);
  std::vector<Board> grids = solution_grids();
  const auto count = static_cast<std::int64_t>(grids.size());
  std::vector<Board> shuffled;
  for (const std::int64_t i : random.permutation(count))
    shuffled.push_back(grids[static_cast<std::size_t>(i)]);

  std::set<Board> taken;
  const auto draw = [&](std::int64_t wanted, std::int64_t first, std::int64_t last, const char* part) {
    std::vector<Example> examples;
    for (int in_vain = 0; static_cast<std::int64_t>(examples.size()) < wanted; ++in_vain) {
      if (in_vain == 300)
        fail<ValueError>("sudoku", fmt::format("there must be as many different puzzles as are asked for: {} "
                                               "boards for {}, found {}",
                                               wanted, part, examples.size()));
      const Board& solution = shuffled[static_cast<std::size_t>(first + random.below(last - first))];
      const Board puzzle = make_puzzle(solution, random);
      if (!taken.insert(puzzle).second) continue;
      examples.push_back({puzzle, solution});
      in_vain = 0;
    }
    return examples;
  };
  const double share = static_cast<double>(test) / static_cast<double>(train + test);
  const std::int64_t held_out =
      std::clamp<std::int64_t>(std::llround(share * static_cast<double>(count)), 1, count - 1);
  const bool by_grid = split == Split::grid;
  Dataset data;
  data.test = draw(test, 0, by_grid ? held_out : count, "testing");
  data.train = draw(train, by_grid ? held_out : 0, count, "training");
  return data;
}

Tensor one_hot(const std::vector<Board>& boards) {
  Tensor x = Tensor::zeros({static_cast<std::int64_t>(boards.size()), board_size}, DType::f32);
  float* row = x.mutable_data<float>();
  for (const Board& board : boards)
    for (const std::uint8_t digit : board) {
      if (digit > 0) row[digit - 1] = 1.0f;
      row += digits;
    }
  return x;
}

Board read_board(const float* prediction) {
  Board board{};
  for (std::uint8_t& digit : board) {
    digit = static_cast<std::uint8_t>(std::max_element(prediction, prediction + digits) - prediction + 1);
    prediction += digits;
  }
  return board;
}

}  // namespace banach::sudoku
