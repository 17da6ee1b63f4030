#include <banach/engine/op.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/implicit/rank_two.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/rows.hpp>
#include <banach/ops/shape_ops.hpp>

#include <algorithm>
#include <limits>

namespace banach {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();

Spec matrices_of(const ShapeContext& c) {
  const DType dtype = common_floating(c);
  const Shape &u = c.shape(0), &v = c.shape(1);
  if (u.rank() != 2 || v.rank() != 2 || u[0] != v[0] || !(c.shape(2) == u) || !(c.shape(3) == v))
    fail<ShapeError>(c.op, "expects (batch,m), (batch,n), (batch,m), (batch,n): got " + u.to_string() + ", " +
                               v.to_string() + ", " + c.shape(2).to_string() + ", " + c.shape(3).to_string());
  return {{u[0], u[1], v[1]}, dtype};
}

// M_i x_i, or M_i' x_i.
Var times(const Var& M, const Var& x, bool transposed) {
  const Var column = reshape(x, {x.shape()[0], x.shape()[1], 1});
  return reshape(matmul(M, column, {.transpose_a = transposed}),
                 {M.shape()[0], M.shape()[transposed ? 2 : 1]});
}

const Op rank_two_op{{
    .name = "rank_two",
    .doc = "u v' + s t' for each row: inputs u, v, s, t.",
    .shape = matrices_of,
    .kernel =
        [](const KernelContext& c) {
          const std::int64_t m = c.in(0).shape()[1], n = c.in(1).shape()[1];
          if (c.out().size() == 0) return;
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T *u = c.in(0).data<T>(), *v = c.in(1).data<T>(), *s = c.in(2).data<T>(),
                    *t = c.in(3).data<T>();
            T* const out = c.out().mutable_data<T>();
            const std::int64_t rows = c.in(0).size(), grain = std::max<std::int64_t>(1, 16384 / n);
            parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
              for (std::int64_t row = begin; row < end; ++row) {
                const T *right = v + row / m * n, *other = t + row / m * n, left = u[row], beside = s[row];
                T* const to = out + row * n;
                for (std::int64_t j = 0; j < n; ++j) to[j] = left * right[j] + beside * other[j];
              }
            });
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          Vars cotangents(4);
          for (int i = 0; i < 4; ++i)
            if (c.needs(i))
              cotangents[static_cast<std::size_t>(i)] = times(c.cotangent, c.in(i ^ 1), i % 2 == 1);
          return cotangents;
        },
    .samples =
        [](SampleGen& g) {
          const auto four = [&](std::int64_t batch, std::int64_t m, std::int64_t n) {
            return Sample{
                {g.normal({batch, m}), g.normal({batch, n}), g.normal({batch, m}), g.normal({batch, n})}};
          };
          return Samples{four(3, 2, 4), four(2, 3, 3), four(1, 1, 1), four(0, 2, 2), four(2, 0, 3)};
        },
    .errors =
        [] {
          const auto z = [](std::int64_t m) { return Tensor::zeros({2, m}, DType::f64); };
          return ErrorSamples{
              {{z(3), z(4), z(4), z(4)},
               {},
               "expects (batch,m), (batch,n), (batch,m), (batch,n): got (2,3), (2,4)"},
              {{Tensor::zeros({2}), Tensor::zeros({2}), Tensor::zeros({2}), Tensor::zeros({2})},
               {},
               "expects"}};
        },
    .edges =
        [] {
          return Edges{{{tensor({1.0, nan}, {1, 2}), tensor({0.0, 1.0}, {1, 2}), tensor({inf, 2.0}, {1, 2}),
                         tensor({1.0, 0.0}, {1, 2})},
                        {},
                        {tensor({inf, nan, nan, nan}, {1, 2, 2})}}};
        },
    .rows = all_by_rows,
}};

}  // namespace

Var rank_two(const Var& u, const Var& v, const Var& s, const Var& t) {
  return apply(rank_two_op, {u, v, s, t});
}

}  // namespace banach
