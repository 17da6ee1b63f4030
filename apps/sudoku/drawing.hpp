#pragma once
// Boards and matrices as pictures.

#include <string>
#include <vector>

#include <apps/report/page.hpp>
#include <apps/sudoku/boards.hpp>

namespace banach::sudoku {

struct NamedBoard {
  std::string name;
  Board board;
};

/// A puzzle and what models make of it, as SVG: given digits bold, a wrong cell crossed out and red.
report::Picture draw_boards(const std::string& title, const Example& example,
                            const std::vector<NamedBoard>& predictions);

/// The entries of a matrix as squares: blue below zero, white, red above, full at `reach`.
report::Picture draw_matrix(const std::string& title, const Tensor& matrix, double reach);

}  // namespace banach::sudoku
