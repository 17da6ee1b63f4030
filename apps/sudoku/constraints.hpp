#pragma once
// How learned equalities Az = b compare with the rules of the game.

#include <cstdint>
#include <vector>

#include <apps/sudoku/models.hpp>

namespace banach::sudoku {

/// The rules as a matrix (64, 64) in f64 of zeros and ones: z with entries z[cell, digit] obeys them if Cz
/// = 1. Sixteen rows each: a cell holds one digit; a digit stands once in a row, in a column, in a block.
/// Rank 40.
Tensor rule_matrix();

struct Comparison {
  std::int64_t rank = 0;       ///< singular values of A above 1e-6 of the largest
  double condition = 0.0;      ///< largest singular value over the smallest of these
  std::vector<double> angles;  ///< principal angles between the row spaces of A and of the rules, in degrees,
                               ///< ascending: as many as A has rank, 0 where the two share a direction
  double distance = 0.0;       ///< of the 288 solutions from { Az = b }, root of the mean square; a solution
                               ///< has length 4
  Tensor projection;           ///< (64, 64) f64: onto the row space of A

  double mean_angle() const;
};

Comparison compare(const Equalities& learned);

/// The rules as equalities that depend on each other in nothing: 40 orthonormal rows.
Equalities rule_equalities();

}  // namespace banach::sudoku
