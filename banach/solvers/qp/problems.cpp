#include <banach/engine/error.hpp>
#include <banach/solvers/qp/problems.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
#include <limits>

namespace banach::qp {
namespace {

// Shapes: `rank` counts the axes of one problem. `who` refuses them.
void take(std::string_view who, Part& part, const Tensor& t, int rank, Problems& all) {
  if (!t.defined()) return;
  const std::string given = fmt::format("{} {}", part.name, t.shape().to_string());
  if (t.rank() != rank && t.rank() != rank + 1)
    fail<ShapeError>(who, fmt::format("{} must have {}, or one more for the batch: {}", part.name,
                                      rank == 1 ? "1 axis" : "2 axes", given));
  part.batched = t.rank() == rank + 1;
  if (part.batched) {
    if (all.batched && all.count != t.shape()[0])
      fail<ShapeError>(who, fmt::format("batches must agree: {} after others of {}", given, all.count));
    all.batched = true;
    all.count = t.shape()[0];
  }
  part.size = 1;
  for (int axis = t.rank() - rank; axis < t.rank(); ++axis) part.size *= t.shape()[axis];
  part.values = t.to(DType::f64);
}

void expect(std::string_view who, bool holds, const Part& part, const Tensor& t,
            const std::string& expected) {
  if (!holds)
    fail<ShapeError>(who,
                     fmt::format("{} must have shape {}: {}", part.name, expected, t.shape().to_string()));
}

}  // namespace

Problems problems_of(const QpData& data, std::string_view who) {
  Problems all;
  const Tensor* given[] = {&data.Q, &data.p, &data.G, &data.h, &data.A, &data.b};
  const Tensor* first = nullptr;
  const char* names[] = {"Q", "p", "G", "h", "A", "b"};
  for (int i = 0; i < 6; ++i) {
    if (!given[i]->defined()) continue;
    if (!is_floating(given[i]->dtype()))
      fail<DTypeError>(who, fmt::format("{} must be floating: {}", names[i], name(given[i]->dtype())));
    if (!first) first = given[i];
    if (given[i]->dtype() != first->dtype())
      fail<DTypeError>(who, fmt::format("all must have one dtype: {} is {}, others {}", names[i],
                                        name(given[i]->dtype()), name(first->dtype())));
  }
  if (!first) fail<ValueError>(who, "some part of the problem must be given");
  all.dtype = first->dtype();
  take(who, all.Q, data.Q, 2, all), take(who, all.p, data.p, 1, all), take(who, all.G, data.G, 2, all);
  take(who, all.h, data.h, 1, all), take(who, all.A, data.A, 2, all), take(who, all.b, data.b, 1, all);

  const auto last = [](const Tensor& t) { return t.shape()[t.rank() - 1]; };
  const auto rows = [](const Tensor& t) { return t.shape()[t.rank() - 2]; };
  const Tensor* wide = data.Q.defined()   ? &data.Q
                       : data.p.defined() ? &data.p
                       : data.G.defined() ? &data.G
                                          : &data.A;
  if (!wide->defined()) fail<ValueError>(who, "one of p, Q, G and A must be given");
  all.n = last(*wide);
  const auto across = fmt::format("(...,rows,{})", all.n);
  if (data.Q.defined() && rows(data.Q) != all.n)
    fail<ShapeError>(who, fmt::format("Q must be square, (n,n) or (batch,n,n): got {}, {} by {}",
                                      data.Q.shape().to_string(), rows(data.Q), all.n));
  if (data.p.defined()) expect(who, last(data.p) == all.n, all.p, data.p, fmt::format("(...,{})", all.n));
  const auto constraints = [&](Part& matrix, const Tensor& left, Part& vector, const Tensor& right,
                               std::int64_t& count) {
    if (left.defined() != right.defined())
      fail<ValueError>(who, fmt::format("{} and {} must be given together", matrix.name, vector.name));
    if (!left.defined()) return;
    expect(who, last(left) == all.n, matrix, left, across);
    count = rows(left);
    expect(who, last(right) == count, vector, right,
           fmt::format("(...,{}), as {} has rows", count, matrix.name));
  };
  constraints(all.G, data.G, all.h, data.h, all.m);
  constraints(all.A, data.A, all.b, data.b, all.e);
  return all;
}

Bounds bounds_of(const Problems& all) {
  PoolVector<std::int64_t> column(static_cast<std::size_t>(all.m), -1);
  PoolVector<char> single(static_cast<std::size_t>(all.m), 1);
  const std::int64_t copies = all.G.batched ? all.count : 1;
  for (std::int64_t c = 0; c < copies && all.m > 0; ++c) {
    const double* G = all.G.of(c);
    for (std::int64_t i = 0; i < all.m; ++i) {
      const auto row = static_cast<std::size_t>(i);
      for (std::int64_t j = 0; j < all.n && single[row]; ++j) {
        if (G[i * all.n + j] == 0.0 || !std::isfinite(G[i * all.n + j])) continue;
        if (column[row] >= 0 && column[row] != j) single[row] = 0;
        column[row] = j;
      }
    }
  }
  Bounds result;
  for (std::int64_t i = 0; i < all.m; ++i)
    if (const auto row = static_cast<std::size_t>(i); single[row] && all.n > 0) {
      result.rows.push_back(i);
      result.columns.push_back(std::max<std::int64_t>(0, column[row]));
    }
  for (std::int64_t i = 0; i < all.m; ++i)
    if (!single[static_cast<std::size_t>(i)] || all.n == 0) result.rows.push_back(i);
  return result;
}

Start start_of(const QpStart& given, const Problems& all) {
  constexpr std::string_view op = "qp_solve";
  Start start;
  if (given.lambda.defined() != given.slack.defined())
    fail<ValueError>(op, "start.lambda and start.slack must be given together");
  if (!given.lambda.defined()) return start;
  const auto take_part = [&](Part& part, const Tensor& t) {
    const bool shared = t.shape() == Shape{all.m};
    const std::string expected =
        all.batched ? fmt::format("({},{}) or ({})", all.count, all.m, all.m) : fmt::format("({})", all.m);
    expect(op, shared || (all.batched && t.shape() == Shape{all.count, all.m}), part, t, expected);
    if (!is_floating(t.dtype()))
      fail<DTypeError>(op, fmt::format("{} must be floating: {}", part.name, name(t.dtype())));
    part.values = t.to(DType::f64), part.size = all.m, part.batched = !shared;
  };
  take_part(start.lambda, given.lambda), take_part(start.slack, given.slack);
  return start;
}

Fitness fitness(const Problems& all, std::int64_t problem) {
  const auto finite = [&](const Part& part) {
    const double* v = part.of(problem);
    bool good = true;  // no early end: this takes several at a time
    for (std::int64_t i = 0; v && i < part.size; ++i) good &= std::abs(v[i]) <= DBL_MAX;
    return good;
  };
  for (const Part* part : {&all.Q, &all.p, &all.G, &all.A, &all.b})
    if (!finite(*part)) return Fitness::non_finite;
  const double* h = all.h.of(problem);
  Fitness result = Fitness::good;
  for (std::int64_t i = 0; i < all.m; ++i) {
    if (std::isnan(h[i])) return Fitness::non_finite;
    if (h[i] == -std::numeric_limits<double>::infinity()) result = Fitness::never;
  }
  return result;
}

PoolVector<std::int64_t> finite_rows(const Problems& all, std::int64_t problem) {
  PoolVector<std::int64_t> rows;
  const double* h = all.h.of(problem);
  for (std::int64_t k = 0; k < all.m; ++k)
    if (h[k] < qp_infinity) rows.push_back(k);
  return rows;
}

}  // namespace banach::qp
