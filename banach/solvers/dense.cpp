#include <banach/engine/blas.hpp>
#include <banach/solvers/check.hpp>
#include <banach/solvers/linear.hpp>
#include <banach/solvers/vector.hpp>

namespace banach {
namespace {

// Solves (I - M) x = b in double for one sample. Row j of `columns` is column j of M. Singular if the
// reciprocal condition number is lost in rounding: then x is the least-squares solution of least norm.
template <class T>
Status solve_sample(std::int64_t n, const T* columns, const T* b, T* x) {
  constexpr double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  if (!vec::all_finite(columns, n * n) || !vec::all_finite(b, n)) return Status::non_finite;
  PoolVector<double> transposed(static_cast<std::size_t>(n * n)), y(b, b + n);
  const auto fill = [&](bool transpose) {
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        transposed[static_cast<std::size_t>(transpose ? j * n + i : i * n + j)] =
            (i == j ? 1.0 : 0.0) - static_cast<double>(columns[i * n + j]);
  };
  fill(false);
  const double norm = blas::norm_1(n, transposed.data());
  const double lost = std::max(static_cast<double>(n) * std::numeric_limits<double>::epsilon(), epsilon);
  PoolVector<int> pivots(static_cast<std::size_t>(n));
  const bool singular = blas::lu_factor(n, transposed.data(), pivots.data()) > 0 ||
                        !(blas::lu_rcond(n, transposed.data(), norm) > lost);
  if (singular) {
    fill(true);
    const PoolVector<double> rhs = y;
    if (blas::least_squares(n, n, 1, transposed.data(), rhs.data(), y.data(), lost).info > 0)
      return Status::singular;
  } else {
    blas::lu_solve(true, n, 1, transposed.data(), pivots.data(), y.data());
  }
  for (std::int64_t i = 0; i < n; ++i) x[i] = static_cast<T>(y[static_cast<std::size_t>(i)]);
  return singular ? Status::singular : Status::converged;
}

template <class T>
LinearSolution solve(const StateMap& apply, const Tensor& b) {
  constexpr double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  const std::int64_t batch = b.shape()[0], n = b.shape()[1];
  LinearSolution solution{Tensor::zeros(b.shape(), b.dtype()), {}, {}, 0, {}};
  solution.status.assign(static_cast<std::size_t>(batch), Status::converged);
  solution.residual.assign(static_cast<std::size_t>(batch), 0.0);
  solution.applications.assign(static_cast<std::size_t>(batch), 0);
  const T* b_data = b.data<T>();
  if (std::all_of(b_data, b_data + b.size(), [](T value) { return value == T{0}; })) return solution;

  const auto image = [&](const Tensor& argument) {
    Tensor result = apply(argument);
    check_map(Dense::name, argument, result);
    ++solution.evaluations;
    return result;
  };
  Tensor columns = Tensor::empty({batch, n, n}, b.dtype());
  T* columns_data = columns.mutable_data<T>();
  for (std::int64_t j = 0; j < n; ++j) {
    Tensor unit = Tensor::zeros(b.shape(), b.dtype());
    T* unit_data = unit.mutable_data<T>();
    for (std::int64_t s = 0; s < batch; ++s) unit_data[s * n + j] = T{1};
    const Tensor column = image(unit);
    for (std::int64_t s = 0; s < batch; ++s)
      vec::copy(column.data<T>() + s * n, columns_data + (s * n + j) * n, n);
  }
  T* x = solution.x.mutable_data<T>();
  vec::for_pieces(batch, n * n, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = begin; s < end; ++s)
      solution.status[static_cast<std::size_t>(s)] =
          solve_sample(n, columns_data + s * n * n, b_data + s * n, x + s * n);
  });

  const Tensor product = image(solution.x);
  const T* mx = product.data<T>();
  PoolVector<T> residual(static_cast<std::size_t>(n));
  for (std::int64_t s = 0; s < batch; ++s) {
    const double b_norm = vec::norm(b_data + s * n, n);
    if (b_norm == 0.0) {  // the answer is zero, whatever the matrix
      solution.status[static_cast<std::size_t>(s)] = Status::converged;
      std::fill_n(x + s * n, n, T{0});
      continue;
    }
    simd::kernels<T>().add.vv(mx + s * n, b_data + s * n, residual.data(), n);
    vec::subtract(residual.data(), x + s * n, residual.data(), n);
    const double relative = vec::norm(residual.data(), n) / b_norm;
    solution.residual[static_cast<std::size_t>(s)] = relative;
    solution.applications[static_cast<std::size_t>(s)] = solution.evaluations;
    Status& status = solution.status[static_cast<std::size_t>(s)];
    if (status == Status::converged && !(relative <= std::sqrt(epsilon)))
      status = std::isfinite(relative) ? Status::stagnated : Status::non_finite;
  }
  return solution;
}

}  // namespace

void check(const Dense&) {}

LinearSolution solve_linear(const Dense&, const StateMap& apply, const Tensor& b) {
  check_state(Dense::name, "b", b);
  return dispatch_floating(b.dtype(), [&](auto zero) { return solve<decltype(zero)>(apply, b); });
}

}  // namespace banach
