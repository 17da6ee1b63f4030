#include <banach/engine/error.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/qp_admm.hpp>
#include <banach/ops/implicit/qp_rows.hpp>
#include <banach/ops/linalg.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace banach {

QpAdmm qp_admm(const QpParameters& given, const QpAdmmOptions& options) {
  const auto positive = [](const char* what, double value) {
    if (!(value > 0.0) || !std::isfinite(value))
      fail<ValueError>("qp_admm", fmt::format("{} must be positive: {}", what, value));
  };
  positive("rho", options.rho), positive("sigma", options.sigma);
  if (!(options.relaxation > 0.0 && options.relaxation < 2.0))
    fail<ValueError>("qp_admm", fmt::format("relaxation must lie in (0, 2): {}", options.relaxation));
  const QpSizes size = sizes(qp::data_of(given), "qp_admm");
  const std::int64_t n = size.n, m = size.m, e = size.e;
  const DType dtype = size.dtype;
  const QpParameters all = qp::complete(given, size);

  Tensor weights = Tensor::empty({m + e}, DType::f64), equations = Tensor::zeros({m + e}, DType::f64);
  std::fill_n(weights.mutable_data<double>(), m, options.rho);
  std::fill_n(weights.mutable_data<double>() + m, e, 1e3 * options.rho);
  std::fill_n(equations.mutable_data<double>() + m, e, 1.0);
  const Var R(weights.to(dtype)), equation(equations.to(dtype)), identity(Tensor::eye(n, dtype));

  const Var C = qp::joined(all.G, all.A, 2, -2), Ct = qp::turned(C), right = qp::joined(all.h, all.b, 1, -1);
  const Var inverse =
      solve_spd(all.Q + options.sigma * identity + matmul(Ct, qp::as_column(R) * C), identity);
  const auto projected = [&](const Var& v) { return where(equation, right, minimum(v, right)); };
  const auto z_of = [&](const Var& state) { return slice(state, 1, 0, n); };
  const auto v_of = [&](const Var& state) { return slice(state, 1, n, n + m + e); };
  const auto step = [&](const Var& state) {
    const Var z = z_of(state), v = v_of(state), w = projected(v);
    const Var target = options.sigma * z - all.p + qp::rows_times((2.0 * w - v) * R, C);
    const Var next = qp::rows_times(target, inverse);
    return concat(
        {z + options.relaxation * (next - z), v + options.relaxation * (qp::rows_times(next, Ct) - w)}, 1);
  };
  FixedPointOptions fixed = options.fixed_point;
  fixed.batch = Batch::axis0;
  const FixedPoint found = fixed_point(step, Var(Tensor::zeros({size.count, n + m + e}, dtype)), fixed);

  const Var v = v_of(found.z), w = projected(v), multipliers = R * (v - w);
  const auto out = [&](const Var& x) { return size.batched ? x : reshape(x, {x.shape()[1]}); };
  return {out(z_of(found.z)),
          out(slice(multipliers, 1, m, m + e)),
          out(slice(multipliers, 1, 0, m)),
          out(slice(right - w, -1, 0, m)),
          found.report,
          found.adjoint};
}

}  // namespace banach
