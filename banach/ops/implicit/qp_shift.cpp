#include <banach/ops/cast.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/qp_shift.hpp>
#include <banach/ops/shape_ops.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace banach {
namespace {

// x with a batch axis in front, unless it has one or batch is negative.
Var spread(const Var& x, int rank, std::int64_t batch) {
  if (x.rank() > rank || batch < 0) return x;
  Ints extents{batch};
  for (int i = 0; i < x.rank(); ++i) extents.push_back(x.shape()[i]);
  return broadcast_to(x, Shape(extents));
}

// Joined along the last axis, with a batch axis if one has one.
Var joined(const Var& x, const Var& y, int rank) {
  const std::int64_t batch = x.rank() > rank ? x.shape()[0] : y.rank() > rank ? y.shape()[0] : -1;
  return concat({spread(x, rank, batch), spread(y, rank, batch)}, -1);
}

Var turned(const Var& x) { return x.rank() == 2 ? transpose(x) : permute(x, {0, 2, 1}); }

// (..., m) as (..., m, 1).
Var with_column(const Var& x) {
  Ints extents;
  for (const std::int64_t extent : x.shape()) extents.push_back(extent);
  extents.push_back(1);
  return reshape(x, Shape(extents));
}

}  // namespace

QpShift qp_shift(const QpParameters& given, const QpSolveOptions& options) {
  const auto value = [](const Var& x) { return x.defined() ? x.value() : Tensor(); };
  const QpData data{value(given.Q), value(given.p), value(given.G),
                    value(given.h), value(given.A), value(given.b)};
  return qp_shift(given, solve_qp(data, {options.tolerance, options.max_steps}).report, options);
}

QpShift qp_shift(const QpParameters& given, const QpReport& report, const QpSolveOptions& options) {
  bool batched = false;
  for (const Var* x : {&given.p, &given.h, &given.b}) batched = batched || (x->defined() && x->rank() == 2);
  for (const Var* x : {&given.Q, &given.G, &given.A}) batched = batched || (x->defined() && x->rank() == 3);
  const auto last = [](const Var& x) { return x.shape()[x.rank() - 1]; };
  const std::int64_t n = last(given.G.defined()   ? given.G
                              : given.A.defined() ? given.A
                              : given.p.defined() ? given.p
                                                  : given.Q);
  const auto part = [](const Var& x, const Shape& empty) {
    return cast(x.defined() ? x : Var(Tensor::zeros(empty, DType::f64)), DType::f64);
  };
  Var G = part(given.G, {0, n}), h = part(given.h, {0});
  const Var A = part(given.A, {0, n}), b = part(given.b, {0});
  const std::int64_t m = last(h), e = last(b);

  const Var real = less(abs(Var(h.value())), 1e30);  // what is no constraint has a multiplier of 0
  h = where(real, h, 1.0);
  G = where(with_column(real), G, 0.0);
  const Var identity(Tensor::eye(m + e, DType::f64));
  const QpSolved dual = qp_solve({.Q = identity,
                                  .p = joined(h, b, 1),
                                  .G = -slice(identity, 0, 0, m),
                                  .h = Var(Tensor::zeros({m}, DType::f64)),
                                  .A = joined(turned(G), turned(A), 2),
                                  .b = Var(Tensor::zeros({n}, DType::f64))},
                                 {options.tolerance, options.max_steps});

  // One row a problem.
  const auto count = std::ssize(report.samples);
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
    return batched ? rows : reshape(rows, {shift.shape()[shift.rank() - 1]});
  };
  result.h = out(dual.slack);  // exactly 0 where it is 0
  result.b = out(slice(dual.z, -1, m, m + e));
  return result;
}

}  // namespace banach
