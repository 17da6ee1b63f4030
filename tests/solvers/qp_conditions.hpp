#pragma once
// What makes a point a solution of a quadratic program, recomputed from the data in the plainest arithmetic.

#include <banach/solvers/qp.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace banach::test {

// A x of one problem, A (rows, n) in the batch at i.
inline std::vector<double> times(const Tensor& a, std::int64_t i, const std::vector<double>& x,
                                 bool transposed) {
  const std::int64_t rows = a.shape()[a.rank() - 2], n = a.shape()[a.rank() - 1];
  const std::int64_t from = a.rank() == 3 ? i * rows * n : 0;
  std::vector<double> y(static_cast<std::size_t>(transposed ? n : rows), 0.0);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < n; ++c) {
      const double entry = a.at(from + r * n + c);
      if (transposed)
        y[static_cast<std::size_t>(c)] += entry * x[static_cast<std::size_t>(r)];
      else
        y[static_cast<std::size_t>(r)] += entry * x[static_cast<std::size_t>(c)];
    }
  return y;
}

inline std::vector<double> row(const Tensor& t, std::int64_t i, int rank = 1) {
  const std::int64_t n = t.shape()[t.rank() - 1], from = t.rank() > rank ? i * n : 0;
  std::vector<double> result;
  for (std::int64_t k = 0; k < n; ++k) result.push_back(t.at(from + k));
  return result;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (std::size_t k = 0; k < a.size(); ++k) sum += a[k] * b[k];
  return sum;
}

// The largest violation of the optimality conditions, recomputed.
inline double violation(const QpData& d, const QpSolution& s, std::int64_t i) {
  const auto z = row(s.z, i), nu = row(s.nu, i), lambda = row(s.lambda, i), slack = row(s.slack, i);
  const auto p = row(d.p, i), qz = times(d.Q, i, z, false);
  double worst = 0.0;
  std::vector<double> dual = qz;
  for (std::size_t k = 0; k < dual.size(); ++k) dual[k] += p[k];
  double gap = dot(z, qz) + dot(p, z);
  if (d.A.defined()) {
    const auto az = times(d.A, i, z, false), at = times(d.A, i, nu, true), b = row(d.b, i);
    for (std::size_t k = 0; k < az.size(); ++k) worst = std::max(worst, std::abs(az[k] - b[k]));
    for (std::size_t k = 0; k < dual.size(); ++k) dual[k] += at[k];
    gap += dot(b, nu);
  }
  if (d.G.defined()) {
    const auto gz = times(d.G, i, z, false), gt = times(d.G, i, lambda, true), h = row(d.h, i);
    for (std::size_t k = 0; k < gz.size(); ++k) {
      worst = std::max({worst, gz[k] - h[k], -lambda[k], -slack[k], std::abs(slack[k] * lambda[k])});
      if (std::isfinite(h[k]))
        gap += h[k] * lambda[k], worst = std::max(worst, std::abs(h[k] - gz[k] - slack[k]));
    }
    for (std::size_t k = 0; k < dual.size(); ++k) dual[k] += gt[k];
  }
  for (double v : dual) worst = std::max(worst, std::abs(v));
  return std::max(worst, std::abs(gap) / std::max(1.0, std::abs(0.5 * dot(z, qz) + dot(p, z))));
}

}  // namespace banach::test
