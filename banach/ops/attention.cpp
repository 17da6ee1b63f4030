#include <banach/engine/blas.hpp>
#include <banach/engine/grad.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/attention.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/ops/softmax.hpp>
#include <banach/ops/walk.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace banach {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();

struct AttentionAttrs {
  AttentionOptions options;
  bool masked = false;
  bool mask_cotangent = false;  // of the vjp: whether it computes the mask's too
};

// ---- Sizes ------------------------------------------------------------------------------------------------

struct Sizes {
  Shape scores;  // (..., l, m)
  std::int64_t count, queries, keys, inner, outer;
  double scale;
  bool causal;

  // Keys that the queries before `end` see.
  std::int64_t seen(std::int64_t end) const { return causal ? std::min(keys, end) : keys; }
};

Sizes sizes(std::string_view op, std::span<const Var> in, const AttentionAttrs& attrs) {
  const Shape &q = in[0].shape(), &k = in[1].shape(), &v = in[2].shape();
  const int rank = q.rank();
  const auto shapes = [&] { return q.to_string() + ", " + k.to_string() + ", " + v.to_string(); };
  if (rank < 2 || k.rank() != rank || v.rank() != rank)
    fail<ShapeError>(op, "q, k and v must have one rank, 2 or more: " + shapes());
  for (int i = 0; i < rank - 2; ++i)
    if (q[i] != k[i] || q[i] != v[i]) fail<ShapeError>(op, "leading axes must be equal: " + shapes());
  if (q[rank - 1] != k[rank - 1] || k[rank - 2] != v[rank - 2])
    fail<ShapeError>(op, "q (l,d), k (m,d) and v (m,e) must agree: " + shapes());
  Ints scores;
  for (int i = 0; i < rank - 1; ++i) scores.push_back(q[i]);
  scores.push_back(k[rank - 2]);
  const double d = static_cast<double>(std::max<std::int64_t>(q[rank - 1], 1));
  Sizes s{Shape(scores),
          q.size(0, rank - 2),
          q[rank - 2],
          k[rank - 2],
          q[rank - 1],
          v[rank - 1],
          attrs.options.scale.value_or(1.0 / std::sqrt(d)),
          attrs.options.causal};
  if (!std::isfinite(s.scale)) fail<ValueError>(op, "scale must be finite: got " + std::to_string(s.scale));
  if (!attrs.masked) return s;
  const Shape& mask = in[3].shape();
  bool fits = mask.rank() >= 2 && mask.rank() <= rank;
  for (int i = 1; fits && i <= mask.rank(); ++i)
    fits = mask[mask.rank() - i] == 1 || mask[mask.rank() - i] == s.scores[rank - i];
  if (!fits)
    fail<ShapeError>(
        op, "the mask must broadcast to the scores: " + mask.to_string() + " to " + s.scores.to_string());
  return s;
}

// Which matrix of the mask goes with which product, and how it is read.
struct MaskLayout {
  Ints extents, strides;             // of the leading axes
  std::int64_t row = 0, column = 0;  // strides, 0 where it broadcasts
  std::int64_t size = 0;             // of one matrix

  MaskLayout(const Shape& mask, const Shape& scores) {
    const Ints all = broadcast_strides(mask, scores);
    const int rank = scores.rank();
    for (int i = 0; i < rank - 2; ++i) extents.push_back(scores[i]), strides.push_back(all[i]);
    row = all[rank - 2];
    column = all[rank - 1];
    size = mask.size(mask.rank() - 2, mask.rank());
  }
  std::int64_t offset(std::int64_t item) const {
    std::int64_t result = 0;
    for (int i = extents.count() - 1; i >= 0; item /= extents[i--]) result += item % extents[i] * strides[i];
    return result;
  }
};

// ---- Kernels ----------------------------------------------------------------------------------------------

// out (m x n) = alpha op(w) x, or added to it. Where x is not finite, what has weight 0 is left out: 0 * inf
// is NaN, and a hidden key must not be heard.
template <class T>
void weigh(bool transpose, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* w,
           std::int64_t stride, const T* x, bool finite, T* out, bool add) {
  if (m == 0 || n == 0) return;
  if (!add && (k == 0 || !finite)) std::fill_n(out, m * n, T{0});
  if (k == 0) return;
  if (finite) return blas::gemm(transpose, false, m, n, k, alpha, w, stride, x, n, add ? T{1} : T{0}, out, n);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < k; ++j) {
      const T weight = transpose ? w[j * stride + i] : w[i * stride + j];
      if (weight == T{0}) continue;
      for (std::int64_t c = 0; c < n; ++c) out[i * n + c] += alpha * weight * x[j * n + c];
    }
}

// A sum of finite numbers may overflow too: then the slower way is taken for nothing.
template <class T>
bool all_finite(const T* x, std::int64_t n) {
  return std::isfinite(simd::kernels<T>().sum(x, n));
}

// Queries that are looked at together: enough for a matrix product, few enough for their scores to stay in
// cache.
std::int64_t block_rows(const Sizes& s) {
  return std::clamp<std::int64_t>((1 << 17) / std::max<std::int64_t>(s.keys, 1), 64, 128);
}

template <class T>
struct Operands {
  const T *q, *k, *v, *mask;
};

// The softmax of the scores of queries [begin, end) of one product with the keys that the last one sees, as
// rows of that length. `mask` is its matrix of the mask, or null.
template <class T>
void weights(const Sizes& s, const T* q, const T* k, const T* mask, const MaskLayout& layout,
             std::int64_t begin, std::int64_t end, T* p) {
  const std::int64_t keys = s.seen(end), rows = end - begin;
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  if (s.inner == 0)
    std::fill_n(p, rows * keys, T{0});
  else if (keys > 0)
    blas::gemm(false, true, rows, keys, s.inner, static_cast<T>(s.scale), q + begin * s.inner, s.inner, k,
               s.inner, T{0}, p, keys);
  const simd::Kernels<T>& kernels = simd::kernels<T>();
  for (std::int64_t i = begin; i < end; ++i, p += keys) {
    const std::int64_t seen = std::min(keys, s.seen(i + 1));
    if (mask)
      for (std::int64_t j = 0; j < seen; ++j) {
        const T value = mask[i * layout.row + j * layout.column];
        p[j] = value == lowest ? lowest : p[j] + value;
      }
    std::fill(p + seen, p + keys, T{0});
    if (kernels.max(p, seen) == lowest)
      std::fill_n(p, seen, T{0});
    else
      kernels.softmax_row(p, p, seen);
  }
}

template <class T>
void attend(const Sizes& s, const Operands<T>& x, const MaskLayout& layout, T* y) {
  const std::int64_t block = block_rows(s), blocks = (s.queries + block - 1) / block;
  const std::int64_t work = std::max<std::int64_t>(1, block * s.keys * (s.inner + s.outer));
  parallel_for(s.count * blocks, std::max<std::int64_t>(1, (1 << 17) / work),
               [&](std::int64_t first, std::int64_t last) {
                 Tensor scratch = Tensor::empty({block * s.keys}, dtype_of<T>());
                 T* p = scratch.mutable_data<T>();
                 for (std::int64_t i = first; i < last; ++i) {
                   const std::int64_t item = i / blocks, begin = i % blocks * block,
                                      end = std::min(begin + block, s.queries), keys = s.seen(end);
                   const T *k = x.k + item * s.keys * s.inner, *v = x.v + item * s.keys * s.outer;
                   weights(s, x.q + item * s.queries * s.inner, k,
                           x.mask ? x.mask + layout.offset(item) : nullptr, layout, begin, end, p);
                   weigh(false, end - begin, s.outer, keys, T{1}, p, keys, v, all_finite(v, keys * s.outer),
                         y + (item * s.queries + begin) * s.outer, false);
                 }
               });
}

template <class T>
struct Cotangents {
  T *q, *k, *v, *mask;  // mask: null unless wanted
};

// P = softmax(S), Y = P V: dV = P^T G, dP = G V^T, dS = P (dP - <P, dP>) row by row, dQ = scale dS K,
// dK = scale dS^T Q, and dS itself for the mask.
template <class T>
void pull_item(const Sizes& s, const Operands<T>& all, const MaskLayout& layout, const T* gs,
               std::int64_t item, const Cotangents<T>& out, T* p, T* ds) {
  const std::int64_t block = block_rows(s);
  const T *q = all.q + item * s.queries * s.inner, *k = all.k + item * s.keys * s.inner,
          *v = all.v + item * s.keys * s.outer, *g = gs + item * s.queries * s.outer;
  T *dq = out.q + item * s.queries * s.inner, *dk = out.k + item * s.keys * s.inner,
    *dv = out.v + item * s.keys * s.outer;
  const T* mask = all.mask ? all.mask + layout.offset(item) : nullptr;
  const auto scale = static_cast<T>(s.scale);
  const bool finite_q = all_finite(q, s.queries * s.inner), finite_k = all_finite(k, s.keys * s.inner),
             finite_g = all_finite(g, s.queries * s.outer);
  std::fill_n(dk, s.keys * s.inner, T{0});
  std::fill_n(dv, s.keys * s.outer, T{0});
  for (std::int64_t begin = 0; begin < s.queries; begin += block) {
    const std::int64_t end = std::min(begin + block, s.queries), rows = end - begin, keys = s.seen(end);
    weights(s, q, k, mask, layout, begin, end, p);
    if (keys > 0 && s.outer > 0)
      blas::gemm(false, true, rows, keys, s.outer, T{1}, g + begin * s.outer, s.outer, v, s.outer, T{0}, ds,
                 keys);
    else
      std::fill_n(ds, rows * keys, T{0});
    for (std::int64_t r = 0; r < rows; ++r) {
      const T* weight = p + r * keys;
      T* row = ds + r * keys;
      for (std::int64_t j = 0; j < keys; ++j) row[j] = weight[j] == T{0} ? T{0} : row[j];
      const T projection = simd::kernels<T>().dot(weight, row, keys);
      for (std::int64_t j = 0; j < keys; ++j)
        row[j] = weight[j] == T{0} ? T{0} : weight[j] * (row[j] - projection);
      if (out.mask) {
        T* to = out.mask + layout.offset(item) + (begin + r) * layout.row;
        for (std::int64_t j = 0; j < keys; ++j) to[j * layout.column] += row[j];
      }
    }
    weigh(false, rows, s.inner, keys, scale, ds, keys, k, finite_k, dq + begin * s.inner, false);
    weigh(true, keys, s.inner, rows, scale, ds, keys, q + begin * s.inner, finite_q, dk, true);
    weigh(true, keys, s.outer, rows, T{1}, p, keys, g + begin * s.outer, finite_g, dv, true);
  }
}

// The products in groups that share a matrix of the mask, one group after the other, and where each begins: a
// group adds to one place, in order, so it belongs to one task.
struct Groups {
  PoolVector<std::int64_t> items, begin;

  Groups(const Sizes& s, const MaskLayout& layout, std::int64_t matrices)
      : items(static_cast<std::size_t>(s.count)), begin(static_cast<std::size_t>(matrices) + 1) {
    const auto group = [&](std::int64_t item) {
      return static_cast<std::size_t>(layout.offset(item) / layout.size);
    };
    for (std::int64_t i = 0; i < s.count; ++i) ++begin[group(i) + 1];
    for (std::size_t m = 1; m < begin.size(); ++m) begin[m] += begin[m - 1];
    PoolVector<std::int64_t> next(begin.begin(), begin.end() - 1);
    for (std::int64_t i = 0; i < s.count; ++i) items[static_cast<std::size_t>(next[group(i)]++)] = i;
  }
};

template <class T>
void pull(const Sizes& s, const Operands<T>& x, const MaskLayout& layout, std::int64_t matrices, const T* g,
          const Cotangents<T>& out) {
  const std::int64_t block = block_rows(s);
  const auto run = [&](std::int64_t count, std::int64_t grain, const auto& item) {
    parallel_for(count, grain, [&](std::int64_t first, std::int64_t last) {
      Tensor scratch = Tensor::empty({2, block * s.keys}, dtype_of<T>());
      T *p = scratch.mutable_data<T>(), *ds = p + block * s.keys;
      for (std::int64_t i = first; i < last; ++i) pull_item(s, x, layout, g, item(i), out, p, ds);
    });
  };
  const std::int64_t work = std::max<std::int64_t>(1, 2 * s.queries * s.keys * (s.inner + s.outer));
  if (!out.mask)
    return run(s.count, std::max<std::int64_t>(1, (1 << 17) / work), [](std::int64_t i) { return i; });
  const Groups groups(s, layout, matrices);
  parallel_for(matrices, 1, [&](std::int64_t first, std::int64_t last) {
    const std::int64_t begin = groups.begin[static_cast<std::size_t>(first)],
                       end = groups.begin[static_cast<std::size_t>(last)];
    run(end - begin, std::max<std::int64_t>(1, end - begin),
        [&](std::int64_t i) { return groups.items[static_cast<std::size_t>(begin + i)]; });
  });
}

template <class T>
Operands<T> operands(const KernelContext& c, bool masked) {
  return {c.in(0).data<T>(), c.in(1).data<T>(), c.in(2).data<T>(), masked ? c.in(3).data<T>() : nullptr};
}

MaskLayout mask_layout(const KernelContext& c, const Sizes& s, bool masked) {
  return {masked ? c.in(3).shape() : s.scores, s.scores};
}

// ---- The same, composed: what derivatives of derivatives are taken of
// ---------------------------------------

Var composed(std::span<const Var> in, const AttentionAttrs& attrs) {
  const Sizes s = sizes("scaled_dot_product_attention", in, attrs);
  Var scores = matmul(in[0], in[1], {.transpose_b = true}) * s.scale;
  if (attrs.masked) scores = scores + in[3];
  if (s.causal) {
    Tensor hidden = Tensor::zeros({s.queries, s.keys}, DType::f64);
    for (std::int64_t i = 0; i < s.queries; ++i)
      for (std::int64_t j = i + 1; j < s.keys; ++j) hidden.mutable_data<double>()[i * s.keys + j] = -inf;
    scores = scores + Var(hidden.to(scores.dtype()));
  }
  if (scores.size() == 0) return matmul(scores, in[2]);
  const Var blind = equal(max(scores, {-1}, true), -inf);
  return matmul(where(blind, 0.0, softmax(where(blind, 0.0, scores))), in[2]);
}

// ---- Rows -----------------------------------------------------------------------------------------------

// Bits of q, k and v, and of a mask that has the output's rows. Of one product the queries are the rows, if
// their places do not matter.
RowInputs attention_rows(const RowsContext& c) {
  const auto& attrs = c.attrs.as<AttentionAttrs>();
  const bool stacked = c.out().rank() > 2;
  if (!stacked && attrs.options.causal) return {};
  const std::uint64_t by_rows = stacked ? 7 : 1;
  if (!attrs.masked || c.shape(3).rank() < c.out().rank() || c.shape(3)[0] != c.out()[0]) return by_rows;
  return by_rows | 8;
}

// ---- The operations ---------------------------------------------------------------------------------------

// Inputs for both: leading axes and sizes that reach every path.
Samples uses(SampleGen& g) {
  Samples samples;
  const auto add = [&](const Ints& lead, Ints lmde, const AttentionOptions& options,
                       const Tensor& mask = {}) {
    const auto shape = [&](std::int64_t rows, std::int64_t columns) {
      Ints extents = lead;
      extents.push_back(rows);
      extents.push_back(columns);
      return Shape(extents);
    };
    Sample sample{{g.normal(shape(lmde[0], lmde[2])), g.normal(shape(lmde[1], lmde[2])),
                   g.normal(shape(lmde[1], lmde[3]))},
                  AttentionAttrs{options, mask.defined()}};
    if (mask.defined()) sample.inputs.push_back(mask);
    samples.push_back(sample);
  };
  Tensor hiding = g.normal({3, 4});  // one query sees no key
  for (const int i : {1, 4, 5, 6, 7}) hiding.mutable_data<double>()[i] = -inf;
  add({2}, {3, 4, 3, 2}, {});
  add({}, {4, 4, 2, 3}, {.causal = true});
  add({2, 1}, {3, 5, 2, 2}, {.causal = true, .scale = 0.7});
  add({1}, {5, 2, 2, 1}, {.causal = true});
  add({2}, {3, 4, 2, 2}, {}, g.normal({3, 4}));
  add({2, 2}, {2, 3, 2, 2}, {}, g.normal({2, 1, 1, 3}));
  add({2}, {3, 4, 2, 2}, {.scale = 1.5}, hiding);
  add({3, 2}, {2, 2, 1, 2}, {.causal = true}, g.normal({2, 2, 1}));
  add({}, {3, 3, 2, 2}, {});
  add({}, {3, 4, 2, 2}, {}, g.normal({3, 4}));
  add({}, {3, 4, 2, 2}, {}, g.normal({1, 4}));
  add({2}, {3, 0, 2, 2}, {});
  add({0}, {3, 2, 2, 2}, {});
  add({}, {1, 1, 1, 1}, {});
  return samples;
}

const Op attention_vjp_op{{
    .name = "scaled_dot_product_attention_vjp",
    .doc = "The cotangents of q, k, v, and of the mask if asked, for that of the attention.",
    .kernel =
        [](const KernelContext& c) {
          const auto& attrs = c.attrs.as<AttentionAttrs>();
          const Sizes s = sizes("scaled_dot_product_attention_vjp", c.inputs, attrs);
          const MaskLayout layout = mask_layout(c, s, attrs.masked);
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            Cotangents<T> out{c.out(0).mutable_data<T>(), c.out(1).mutable_data<T>(),
                              c.out(2).mutable_data<T>(), nullptr};
            std::int64_t matrices = 0;
            if (attrs.mask_cotangent) {
              out.mask = c.out(3).mutable_data<T>();
              std::fill_n(out.mask, c.out(3).size(), T{0});
              if (layout.size == 0)
                out.mask = nullptr;
              else
                matrices = c.out(3).size() / layout.size;
            }
            const T* g = c.inputs.back().value().data<T>();
            pull(s, operands<T>(c, attrs.masked), layout, matrices, g, out);
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const auto& attrs = c.attrs.as<AttentionAttrs>();
          const auto pullback = [&](const Vars& at) {
            const auto attention = [&](const Vars& x) { return Vars{composed(x, attrs)}; };
            Vars result = vjp(attention, Vars(at.begin(), at.end() - 1), {at.back()}).cotangents;
            result.resize(c.outputs.size());
            return result;
          };
          Vars cotangents;
          for (std::size_t i = 0; i < c.outputs.size(); ++i)
            cotangents.push_back(c.cotangents[i].defined() ? c.cotangents[i] : zeros_like(c.inputs[i]));
          return vjp(pullback, Vars(c.inputs.begin(), c.inputs.end()), cotangents).cotangents;
        },
    .samples =
        [](SampleGen& g) {
          Samples samples = uses(g);
          for (Sample& sample : samples) {
            AttentionAttrs attrs = sample.attrs.as<AttentionAttrs>();
            attrs.mask_cotangent = attrs.masked;
            sample.attrs = attrs;
            Ints shape = sample.inputs[0].shape();
            shape[shape.count() - 1] = sample.inputs[2].size(-1);
            sample.inputs.push_back(g.normal(Shape(shape)));
          }
          return samples;
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3});
          return ErrorSamples{{{x, x, x, Tensor::zeros({3, 2})},
                               AttentionAttrs{},
                               "the cotangent must have the result's shape: (3,2) for (2,3)"}};
        },
    .shapes =
        [](const ShapeContext& c) {
          const auto& attrs = c.attrs.as<AttentionAttrs>();
          const DType dtype = common_floating(c);
          sizes(c.op, c.inputs, attrs);
          Ints result = c.shape(0);
          result[result.count() - 1] = c.inputs[2].size(-1);
          if (!(c.inputs.back().shape() == result))
            fail<ShapeError>(c.op, "the cotangent must have the result's shape: " +
                                       c.inputs.back().shape().to_string() + " for " + result.to_string());
          Specs specs;
          for (int i = 0; i < (attrs.mask_cotangent ? 4 : 3); ++i) specs.push_back({c.shape(i), dtype});
          return specs;
        },
    .rows =
        [](const RowsContext& c) {
          const auto& attrs = c.attrs.as<AttentionAttrs>();
          if (c.out().rank() == 2) return RowInputs{};  // keys hear from all queries
          RowInputs by_rows = attention_rows(c);
          if (attrs.mask_cotangent && (*by_rows & 8) == 0) return RowInputs{};  // so does a shared mask
          *by_rows |= std::uint64_t{1} << (c.inputs.size() - 1);
          return by_rows;
        },
}};

const Op attention_op{{
    .name = "scaled_dot_product_attention",
    .doc = "softmax(scale q k^T + mask) v, without all scores in memory; causal if asked.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          sizes(c.op, c.inputs, c.attrs.as<AttentionAttrs>());
          Ints result = c.shape(0);
          result[result.count() - 1] = c.inputs[2].size(-1);
          return Spec{Shape(result), dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          const auto& attrs = c.attrs.as<AttentionAttrs>();
          const Sizes s = sizes("scaled_dot_product_attention", c.inputs, attrs);
          const MaskLayout layout = mask_layout(c, s, attrs.masked);
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            attend(s, operands<T>(c, attrs.masked), layout, c.out().mutable_data<T>());
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          AttentionAttrs attrs = c.attrs.as<AttentionAttrs>();
          attrs.mask_cotangent = attrs.masked && c.needs(3);
          Vars inputs(c.inputs.begin(), c.inputs.end());
          inputs.push_back(c.cotangent);
          return apply_all(attention_vjp_op, inputs, attrs);
        },
    .samples = uses,
    .errors =
        [] {
          const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape); };
          const Tensor q = zeros({2, 3, 4}), k = zeros({2, 5, 4});
          return ErrorSamples{
              {{q, k, zeros({2, 3, 4})},
               AttentionAttrs{},
               "[scaled_dot_product_attention] q (l,d), k (m,d) and v (m,e) must agree: (2,3,4), (2,5,4), "
               "(2,3,4)"},
              {{q, zeros({1, 5, 4}), k},
               AttentionAttrs{},
               "leading axes must be equal: (2,3,4), (1,5,4), (2,5,4)"},
              {{zeros({3}), zeros({3}), zeros({3})}, AttentionAttrs{}, "must have one rank, 2 or more"},
              {{q, k, k}, AttentionAttrs{{.scale = nan}}, "scale must be finite: got nan"},
              {{q, k, k, zeros({3, 4})},
               AttentionAttrs{{}, true},
               "the mask must broadcast to the scores: (3,4) to (2,3,5)"},
              {{q, k, Tensor::zeros({2, 5, 4}, DType::f64)}, AttentionAttrs{}, "dtypes must agree"}};
        },
    .edges =
        [] {
          const Tensor ones = Tensor::ones({2, 1}, DType::f64), zeros = Tensor::zeros({2, 1}, DType::f64);
          return Edges{
              // The second key is hidden from the first query, whatever it holds.
              {{ones, tensor({1.0, nan}, {2, 1}), tensor({3.0, inf}, {2, 1})},
               AttentionAttrs{{.causal = true}},
               {tensor({3.0, nan}, {2, 1})},
               {tensor({0.0, nan}, {2, 1}), tensor({nan, nan}, {2, 1}), tensor({nan, nan}, {2, 1})}},
              // By the mask, from both.
              {{ones, tensor({1.0, nan}, {2, 1}), tensor({3.0, inf}, {2, 1}), tensor({0.0, -inf}, {1, 2})},
               AttentionAttrs{{}, true},
               {tensor({3.0, 3.0}, {2, 1})},
               {zeros, zeros, tensor({2.0, 0.0}, {2, 1}), Tensor::zeros({1, 2}, DType::f64)}},
              // The first query sees no key.
              {{ones, ones, tensor({1.0, 3.0}, {2, 1}), tensor({-inf, -inf, 0.0, 0.0}, {2, 2})},
               AttentionAttrs{{}, true},
               {tensor({0.0, 2.0}, {2, 1})},
               {zeros, tensor({-0.5, 0.5}, {2, 1}), tensor({0.5, 0.5}, {2, 1}),
                tensor({0.0, 0.0, -0.5, 0.5}, {2, 2})}},
              // A NaN that is seen makes NaN of its query's result only.
              {{tensor({nan, 1.0}, {2, 1}), ones, ones}, AttentionAttrs{}, {tensor({nan, 1.0}, {2, 1})}},
              // No keys; no scores to speak of.
              {{ones, Tensor::zeros({0, 1}, DType::f64), Tensor::zeros({0, 1}, DType::f64)},
               AttentionAttrs{},
               {zeros},
               {zeros, Tensor::zeros({0, 1}, DType::f64), Tensor::zeros({0, 1}, DType::f64)}},
              {{Tensor::zeros({1, 0}, DType::f64), Tensor::zeros({2, 0}, DType::f64),
                tensor({1.0, 3.0}, {2, 1})},
               AttentionAttrs{},
               {tensor({2.0}, {1, 1})},
               {Tensor::zeros({1, 0}, DType::f64), Tensor::zeros({2, 0}, DType::f64),
                tensor({0.5, 0.5}, {2, 1})}}};
        },
    .rows = attention_rows,
}};

}  // namespace

Var scaled_dot_product_attention(const Var& q, const Var& k, const Var& v, const AttentionOptions& options) {
  return apply(attention_op, {q, k, v}, AttentionAttrs{options});
}

Var scaled_dot_product_attention(const Var& q, const Var& k, const Var& v, const Var& mask,
                                 const AttentionOptions& options) {
  return apply(attention_op, {q, k, v, mask}, AttentionAttrs{options, true});
}

}  // namespace banach
