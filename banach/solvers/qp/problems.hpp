#pragma once
// Internal: the data of a batch of quadratic programs, checked, and what is plain to see in them.

#include <cmath>
#include <string_view>

#include <banach/solvers/qp.hpp>

namespace banach::qp {

using Numbers = PoolVector<double>;

/// One part of the data: so many numbers for each problem, or for all of them.
struct Part {
  const char* name;
  Tensor values = {};     // f64; undefined: absent
  std::int64_t size = 0;  // of one problem
  bool batched = false;

  /// Null if absent.
  const double* of(std::int64_t problem) const {
    return values.defined() ? values.data<double>() + (batched ? problem * size : 0) : nullptr;
  }
};

/// min 1/2 z'Qz + p'z with Gz <= h and Az = b: n variables, m inequalities, e equations.
struct Problems {
  std::int64_t count = 1, n = 0, m = 0, e = 0;
  bool batched = false;
  DType dtype = DType::f64;
  Part Q{"Q"}, p{"p"}, G{"G"}, h{"h"}, A{"A"}, b{"b"};
};

/// Throws where parts do not fit together: ShapeError, DTypeError or ValueError that name `who`.
Problems problems_of(const QpData& data, std::string_view who);

/// Rows of G with at most one entry, in the same column in every problem, come first.
struct Bounds {
  PoolVector<std::int64_t> rows;     // of G, in the order in which they are solved
  PoolVector<std::int64_t> columns;  // of the first ones
};
Bounds bounds_of(const Problems& all);

/// An active set to begin with.
struct Start {
  Part lambda{"start.lambda"}, slack{"start.slack"};

  bool known(std::int64_t i) const {
    const double *l = lambda.of(i), *s = slack.of(i);
    for (std::int64_t k = 0; k < lambda.size; ++k)
      if (std::isnan(l[k]) || std::isnan(s[k])) return false;
    return true;
  }
  bool active(std::int64_t i, std::int64_t row) const { return lambda.of(i)[row] > slack.of(i)[row]; }
};
/// Throws ShapeError, DTypeError or ValueError.
Start start_of(const QpStart& given, const Problems& all);

enum class Fitness { good, non_finite, never };  // never: some h is -infinity
Fitness fitness(const Problems& all, std::int64_t problem);

/// Rows of G that bind at all.
PoolVector<std::int64_t> finite_rows(const Problems& all, std::int64_t problem);

/// An entry of the symmetric part of Q.
inline double symmetric(const double* Q, std::int64_t n, std::int64_t i, std::int64_t j) {
  return i == j ? Q[i * n + i] : 0.5 * (Q[i * n + j] + Q[j * n + i]);
}

}  // namespace banach::qp
