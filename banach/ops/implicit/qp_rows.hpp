#pragma once
// Internal: the parts of quadratic programs, some absent, some shared by all problems of the batch.

#include <banach/ops/implicit/qp.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::qp {

inline QpData data_of(const QpParameters& given) {
  const auto value = [](const Var& x) { return x.defined() ? x.value() : Tensor(); };
  return {value(given.Q), value(given.p), value(given.G), value(given.h), value(given.A), value(given.b)};
}

/// What is absent is a constant without elements, or zero.
inline QpParameters complete(const QpParameters& given, const QpSizes& s) {
  const auto part = [&](const Var& x, const Shape& shape) {
    return x.defined() ? x : Var(Tensor::zeros(shape, s.dtype));
  };
  return {part(given.Q, {s.n, s.n}), part(given.p, {s.n}),    part(given.G, {0, s.n}),
          part(given.h, {0}),        part(given.A, {0, s.n}), part(given.b, {0})};
}

/// x of one problem's rank `rank` with a batch axis in front, unless it has one.
inline Var spread(const Var& x, int rank, std::int64_t batch) {
  if (x.rank() > rank) return x;
  Ints extents{batch};
  for (const std::int64_t extent : x.shape()) extents.push_back(extent);
  return broadcast_to(x, Shape(extents));
}

/// The parts of each problem, of rank `rank`, joined along `axis`, a negative one; with a batch axis if one
/// of them has one.
inline Var joined(const Var& x, const Var& y, int rank, int axis) {
  if (x.rank() == y.rank()) return concat({x, y}, axis);
  const std::int64_t batch = (x.rank() > rank ? x : y).shape()[0];
  return concat({spread(x, rank, batch), spread(y, rank, batch)}, axis);
}

/// Matrices with rows and columns exchanged.
inline Var turned(const Var& x) { return x.rank() == 2 ? transpose(x) : permute(x, {0, 2, 1}); }

/// (..., m) as (..., m, 1).
inline Var as_column(const Var& x) {
  Ints extents;
  for (const std::int64_t extent : x.shape()) extents.push_back(extent);
  extents.push_back(1);
  return reshape(x, Shape(extents));
}

/// v_i M_i for each problem: v (batch, rows), M (rows, n) or one for each.
inline Var rows_times(const Var& v, const Var& m) {
  if (m.rank() == 2) return matmul(v, m);
  const Shape s = v.shape();
  return reshape(matmul(reshape(v, {s[0], 1, s[1]}), m), {s[0], m.shape()[2]});
}

}  // namespace banach::qp
