#pragma once
// Linear algebra on stacks of matrices, (..., n, n): leading axes are a batch whose problems never influence
// each other, and run in parallel. f32 and f64. A problem that cannot be solved (not positive definite,
// singular, a NaN or an infinity in its matrix) gives NaN in its own results and derivatives, and no
// exception. Throws ShapeError where shapes do not fit, DTypeError on mixed dtypes and on i64.
//
// Functions of a symmetric matrix take the symmetric part (A + A^T) / 2 of what they are given, so that they
// are functions of all n^2 entries, and their derivatives are symmetric.

#include <banach/engine/op.hpp>

namespace banach {

// ---- Parts of matrices (matrix_parts.cpp) -----------------------------------------------------------------

/// x of (..., m, n) with zeros above the diagonal number `diagonal`, counted from the main one upwards.
Var tril(const Var& x, int diagonal = 0);
/// x of (..., m, n) with zeros below that diagonal.
Var triu(const Var& x, int diagonal = 0);
/// Diagonal number `offset` of (..., m, n), as (..., length); empty if it lies outside.
Var diagonal(const Var& x, int offset = 0);
/// Square matrices with x, (..., k), on diagonal number `offset`, and zeros elsewhere.
Var diagonal_matrix(const Var& x, int offset = 0);
/// Sum of the main diagonal: (..., m, n) to (...).
Var trace(const Var& x);

// ---- Triangular and positive definite systems (cholesky.cpp) ----------------------------------------------

struct CholeskyOptions {
  bool upper = false;  ///< R with A = R^T R in place of L
};

/// L, lower triangular with a positive diagonal, with A = L L^T, for the symmetric part of a. NaN in all of
/// L's entries where that is not positive definite.
Var cholesky(const Var& a, const CholeskyOptions& options = {});

struct TriangularOptions {
  bool upper = false;          ///< which triangle of a is read
  bool transposed = false;     ///< solve A^T x = b
  bool unit_diagonal = false;  ///< the diagonal is not read but taken for ones
};

/// x with A x = b for triangular A: only one triangle of a, (..., n, n), is read. b is (..., n, k), leading
/// axes broadcast, or one vector (n) for all, which gives (..., n). NaN for a problem with a zero on the
/// diagonal.
Var solve_triangular(const Var& a, const Var& b, const TriangularOptions& options = {});

/// x with A x = b for the symmetric part of a, by Cholesky's factorisation. Shapes as in solve_triangular.
/// NaN for a problem that is not positive definite.
Var solve_spd(const Var& a, const Var& b);

// ---- General systems (lu.cpp) -----------------------------------------------------------------------------

/// A = P L U with partial pivoting, to be used any number of times.
struct LuFactor {
  Var matrix;  ///< a itself, through which all derivatives go
  Var lu;      ///< both factors, in the layout of blas::lu_factor; a constant
  Var pivots;  ///< (..., n), i64
};
LuFactor lu_factor(const Var& a);

/// x with A x = b, or A^T x = b if transposed. Shapes as in solve_triangular. NaN for a problem with a pivot
/// of exactly zero; a matrix singular to rounding only gives large numbers.
Var lu_solve(const LuFactor& factor, const Var& b, bool transposed = false);

/// x with A x = b by lu_factor and lu_solve.
Var solve(const Var& a, const Var& b);

/// A^-1. To solve a system, solve() is faster and more accurate.
Var inverse(const Var& a);

struct SignLogDet {
  Var sign;     ///< -1, 1, or 0 for a singular matrix; without derivative
  Var log_abs;  ///< log |det A|; -infinity for a singular matrix, whose derivative is NaN
};
/// Both of shape (...).
SignLogDet slogdet(const Var& a);

// ---- Eigenvalues (eigh.cpp) -------------------------------------------------------------------------------

struct Eigh {
  Var values;   ///< (..., n), ascending
  Var vectors;  ///< (..., n, n): column j belongs to values[j], has length 1 and a fixed sign
};

/// Eigenvalues and eigenvectors of the symmetric part of a. The sign of an eigenvector: of its entries larger
/// than 0.4 times the largest one in magnitude, the first is positive.
///
/// Where eigenvalues i and j coincide, to within n eps of the largest, eigenvectors have no derivative: if
/// the cotangent of the vectors reaches one of the two, the gradient of that problem is NaN. If it reaches
/// neither (only well-separated vectors are used), the gradient is right. Gradients through the values alone
/// are always finite; at coinciding values they are right for functions that treat those alike (a sum, say),
/// and else one of several one-sided ones.
Eigh eigh(const Var& a);

}  // namespace banach
