#include <apps/sudoku/constraints.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include <apps/sudoku/boards.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/linalg.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::sudoku {
namespace {

/// An orthonormal basis of the row space, (64, rank), and the singular values that belong to it, descending.
struct RowSpace {
  Tensor basis;
  std::vector<double> singular;
};

RowSpace row_space(const Tensor& a) {
  constexpr double least = 1e-6;  // of the largest singular value; the eigenvalues are their squares
  const Var matrix(a.to(DType::f64));
  const Eigh parts = eigh(matmul(matrix, matrix, {.transpose_a = true}));
  const std::int64_t n = parts.values.size();
  RowSpace space;
  const double largest = parts.values.value().at(n - 1);
  std::int64_t rank = 0;
  for (; rank < n && parts.values.value().at(n - 1 - rank) > least * least * largest; ++rank)
    space.singular.push_back(std::sqrt(parts.values.value().at(n - 1 - rank)));
  space.basis = slice(parts.vectors, 1, n - rank, n).value();
  return space;
}

Tensor projection_of(const Tensor& basis) {
  return matmul(Var(basis), Var(basis), {.transpose_b = true}).value();
}

/// Angles between the directions of `a` and the space of `b`: their sines are the singular values of what
/// the projection leaves of a basis.
std::vector<double> principal_angles(const Tensor& a, const Tensor& b) {
  const Var u(a);
  const Var rest = u - matmul(Var(projection_of(b)), u);
  const Var squares = eigh(matmul(rest, rest, {.transpose_a = true})).values;
  std::vector<double> angles;
  for (std::int64_t i = 0; i < squares.size(); ++i)
    angles.push_back(std::asin(std::sqrt(std::clamp(squares.value().at(i), 0.0, 1.0))) * 180.0 /
                     std::numbers::pi);
  return angles;
}

}  // namespace

Tensor rule_matrix() {
  Tensor rules = Tensor::zeros({4 * cells, board_size}, DType::f64);
  double* row = rules.mutable_data<double>();
  for (std::int64_t cell = 0; cell < cells; ++cell, row += board_size)
    for (std::int64_t digit = 0; digit < digits; ++digit) row[cell * digits + digit] = 1.0;
  for (const auto& unit : units())
    for (std::int64_t digit = 0; digit < digits; ++digit, row += board_size)
      for (const std::size_t cell : unit) row[static_cast<std::int64_t>(cell) * digits + digit] = 1.0;
  return rules;
}

Equalities rule_equalities() {
  return {transpose(Var(row_space(rule_matrix()).basis)).value(),
          Tensor::full({board_size}, 1.0 / static_cast<double>(digits), DType::f64)};
}

double Comparison::mean_angle() const {
  return std::accumulate(angles.begin(), angles.end(), 0.0) /
         std::max(1.0, static_cast<double>(angles.size()));
}

Comparison compare(const Equalities& learned) {
  const RowSpace space = row_space(learned.A), rules = row_space(rule_matrix());
  Comparison result;
  result.rank = static_cast<std::int64_t>(space.singular.size());
  result.condition = space.singular.front() / space.singular.back();
  result.angles = principal_angles(space.basis, rules.basis);
  result.projection = projection_of(space.basis);

  // Az = b = A z0 is P (z - z0) = 0, and the length of that the distance.
  const Var solutions = Var(one_hot(solution_grids()).to(DType::f64));
  const Var off = matmul(solutions - Var(learned.z0.to(DType::f64)), Var(result.projection));
  result.distance = std::sqrt(sum(square(off)).item() / static_cast<double>(solutions.size(0)));
  return result;
}

}  // namespace banach::sudoku
