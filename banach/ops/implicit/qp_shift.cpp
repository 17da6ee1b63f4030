#include <banach/ops/cast.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/qp_rows.hpp>
#include <banach/ops/implicit/qp_shift.hpp>
#include <banach/ops/shape_ops.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace banach {
QpShift qp_shift(const QpParameters& given, const QpSolveOptions& options) {
  const QpData data = qp::data_of(given);
  sizes(data, "qp_shift");  // refuses in its name what does not fit together
  return qp_shift(given, solve_qp(data, {options.tolerance, options.max_steps}).report, options);
}

QpShift qp_shift(const QpParameters& given, const QpReport& report, const QpSolveOptions& options) {
  const QpSizes size = sizes(qp::data_of(given), "qp_shift");
  const std::int64_t count = size.count, n = size.n, m = size.m, e = size.e;
  const QpParameters all = qp::complete(given, size);
  const Var A = cast(all.A, DType::f64), b = cast(all.b, DType::f64);

  // What is no constraint has a multiplier of 0, and no shift helps against -infinity.
  const Var right = cast(Var(all.h.value()), DType::f64);
  const Var real = less(right, qp_infinity) * greater(right, -std::numeric_limits<double>::infinity());
  const Var h = where(real, cast(all.h, DType::f64), 1.0);
  const Var G = where(qp::as_column(real), cast(all.G, DType::f64), 0.0);
  const Var identity(Tensor::eye(m + e, DType::f64));
  const QpSolved dual = qp_solve({.Q = identity,
                                  .p = qp::joined(h, b, 1, -1),
                                  .G = -slice(identity, 0, 0, m),
                                  .h = Var(Tensor::zeros({m}, DType::f64)),
                                  .A = qp::turned(qp::joined(G, A, 2, -2)),
                                  .b = Var(Tensor::zeros({n}, DType::f64))},
                                 {options.tolerance, options.max_steps});

  // One row a problem.
  const bool each = dual.z.rank() == 2;
  Tensor wanted = Tensor::zeros({count, 1}, DType::f64);
  QpShift result{{},
                 {},
                 PoolVector<double>(static_cast<std::size_t>(count), 0.0),
                 PoolVector<char>(static_cast<std::size_t>(count), 0)};
  for (std::int64_t i = 0; i < count; ++i) {
    const auto k = static_cast<std::size_t>(i);
    const std::int64_t at = each ? i : 0;
    if (report.samples[k].status != QpStatus::primal_infeasible ||
        dual.report.samples[static_cast<std::size_t>(at)].status != QpStatus::solved)
      continue;
    wanted.mutable_data<double>()[i] = 1.0;
    const double* s = dual.slack.value().data<double>() + at * m;
    const double* r = dual.z.value().data<double>() + at * (m + e) + m;
    const double* room = dual.lambda.value().data<double>() + at * m;
    result.length[k] = std::sqrt(std::inner_product(s, s + m, s, std::inner_product(r, r + e, r, 0.0)));
    for (std::int64_t j = 0; j < m; ++j)
      if (std::max(s[j], room[j]) <= 1e-7 * result.length[k]) result.kinked[k] = 1;
  }
  const auto out = [&](const Var& shift) {
    const Var rows = where(Var(wanted), shift, 0.0);
    return size.batched ? rows : reshape(rows, {shift.shape()[shift.rank() - 1]});
  };
  result.h = out(dual.slack);  // exactly 0 where it is 0
  result.b = out(slice(dual.z, -1, m, m + e));
  return result;
}

}  // namespace banach
