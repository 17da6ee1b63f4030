#pragma once
// Maps g in few dimensions whose log |det(I + J)| is known, with that of every cut of its series.

#include <complex>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <banach/engine/var.hpp>

namespace banach::lab::logdet {

/// Of L = log |det(I + J + sD)| at s = 0: the value, and dL/ds = tr((I + J)^-1 D).
struct Answer {
  double value = 0, derivative = 0;
};

struct Problem {
  std::string name{}, title{}, story{};
  double lipschitz = 0;
  std::function<Var(const Var& x)> map{};           ///< g of rows: (n, d) to (n, d), f64
  Tensor at{};                                      ///< (1, d): where J is taken
  Tensor jacobian{};                                ///< J (d, d)
  std::vector<std::complex<double>> eigenvalues{};  ///< of J, known without it where J is a matrix
  Tensor direction{};  ///< D (d, d), symmetric and positive: no derivative has a larger error than by such

  std::int64_t d() const { return at.size(1); }
  double radius() const;  ///< largest |eigenvalue|
  Answer exact() const;
  /// Of the series after so many terms: what an estimator that cuts there has as its mean.
  Answer cut(int terms) const;
  /// The most that cut and exact may differ by, for any J with this Lipschitz constant.
  Answer bound(int terms) const;
};

/// J = -cI, a normal and a non-normal matrix, and a nonlinear block, all of 8 dimensions and c = 0.9.
std::vector<Problem> known_problems();

}  // namespace banach::lab::logdet
