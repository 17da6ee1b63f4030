#include <banach/engine/grad.hpp>
#include <banach/engine/panel_product.hpp>
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
#include <utility>

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
  Shape scores;                              // (..., l, m), or (..., heads, l, m) for several heads
  std::int64_t count, heads;                 // products, and how many of them side by side
  std::int64_t queries, keys, inner, outer;  // of one product
  double scale;
  bool causal;

  // Keys that the queries before `end` see.
  std::int64_t seen(std::int64_t end) const { return causal ? std::min(keys, end) : keys; }
};

Sizes sizes(std::string_view op, std::span<const Var> in, const AttentionAttrs& attrs) {
  const Shape &q = in[0].shape(), &k = in[1].shape(), &v = in[2].shape();
  const int rank = q.rank();
  const std::int64_t heads = attrs.options.heads;
  const auto shapes = [&] { return q.to_string() + ", " + k.to_string() + ", " + v.to_string(); };
  if (rank < 2 || k.rank() != rank || v.rank() != rank)
    fail<ShapeError>(op, "q, k and v must have one rank, 2 or more: " + shapes());
  for (int i = 0; i < rank - 2; ++i)
    if (q[i] != k[i] || q[i] != v[i]) fail<ShapeError>(op, "leading axes must be equal: " + shapes());
  if (q[rank - 1] != k[rank - 1] || k[rank - 2] != v[rank - 2])
    fail<ShapeError>(op, "q (l,d), k (m,d) and v (m,e) must agree: " + shapes());
  if (heads < 1) fail<ValueError>(op, "heads must be at least 1: got " + std::to_string(heads));
  if (q[rank - 1] % heads != 0 || v[rank - 1] % heads != 0)
    fail<ShapeError>(op, "heads must divide the last axes: " + std::to_string(heads) + " for " + shapes());
  Ints scores;
  for (int i = 0; i < rank - 2; ++i) scores.push_back(q[i]);
  if (heads > 1) scores.push_back(heads);
  scores.push_back(q[rank - 2]);
  scores.push_back(k[rank - 2]);
  const std::int64_t inner = q[rank - 1] / heads;
  const double d = static_cast<double>(std::max<std::int64_t>(inner, 1));
  Sizes s{Shape(scores),
          q.size(0, rank - 2) * heads,
          heads,
          q[rank - 2],
          k[rank - 2],
          inner,
          v[rank - 1] / heads,
          attrs.options.scale.value_or(1.0 / std::sqrt(d)),
          attrs.options.causal};
  if (!std::isfinite(s.scale)) fail<ValueError>(op, "scale must be finite: got " + std::to_string(s.scale));
  if (!attrs.masked) return s;
  const Shape& mask = in[3].shape();
  const int all = s.scores.rank();
  bool fits = mask.rank() >= 2 && mask.rank() <= all;
  for (int i = 1; fits && i <= mask.rank(); ++i)
    fits = mask[mask.rank() - i] == 1 || mask[mask.rank() - i] == s.scores[all - i];
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

// The rows of one product in q, k, v, or anything like them.
template <class T>
struct Part {
  T* data;
  std::int64_t stride;

  Part(T* all, const Sizes& s, std::int64_t rows, std::int64_t width, std::int64_t item)
      : data(all + item / s.heads * rows * s.heads * width + item % s.heads * width),
        stride(s.heads * width) {}
  T* operator[](std::int64_t i) const { return data + i * stride; }
};

// Memory of one task for its matrices, one after another, each aligned as packed ones must be.
template <class T>
class Workspace {
 public:
  static constexpr std::int64_t line = 64 / sizeof(T);

  explicit Workspace(std::int64_t size)
      : memory_(Tensor::empty({size + 8 * line}, dtype_of<T>())), next_(memory_.mutable_data<T>()) {}
  T* take(std::int64_t size) { return std::exchange(next_, next_ + (size + line - 1) / line * line); }

 private:
  Tensor memory_;
  T* next_;
};

// A matrix x (rows x columns) as the right factor of products, which may take some of its rows. Where it is
// not finite, what has weight 0 is left out: 0 * inf is NaN, and a hidden key must not be heard.
template <class T>
class Factor {
 public:
  static std::int64_t size(std::int64_t rows, std::int64_t columns) {
    return simd::product<T>().panels_size(rows, columns);
  }
  Factor(Workspace<T>& work, const Part<const T>& x, std::int64_t rows, std::int64_t columns)
      : x_(x), rows_(rows), columns_(columns) {
    T* panels = work.take(size(rows, columns));
    simd::product<T>().pack(false, rows, columns, x.data, x.stride, panels);
    panels_ = panels;
    // A sum of finite numbers may overflow too: then the slower way is taken for nothing.
    finite_ = std::isfinite(simd::kernels<T>().sum(panels, size(rows, columns)));
  }

  // out (m x columns) = W x[begin, begin + k), or added to it. W (m x k) is read at steps from row to row and
  // from column to column.
  void weigh(std::int64_t m, std::int64_t k, const T* w, std::int64_t row, std::int64_t column,
             std::int64_t begin, T* out, std::int64_t stride, bool add) const {
    const simd::PanelProduct<T>& product = simd::product<T>();
    if (finite_)
      return product.run(m, columns_, k, w, row, column, panels_ + begin * product.width, rows_,
                         add ? out : nullptr, add ? stride : 0, out, stride);
    for (std::int64_t i = 0; i < m; ++i, out += stride) {
      if (!add) std::fill_n(out, columns_, T{0});
      for (std::int64_t j = 0; j < k; ++j)
        if (const T weight = w[i * row + j * column]; weight != T{0})
          for (std::int64_t c = 0; c < columns_; ++c) out[c] += weight * x_[begin + j][c];
    }
  }

 private:
  Part<const T> x_;
  std::int64_t rows_, columns_;
  const T* panels_;
  bool finite_;
};

// The transpose of x (rows x columns) as the right factor.
template <class T>
const T* pack_transposed(Workspace<T>& work, const Part<const T>& x, std::int64_t rows,
                         std::int64_t columns) {
  T* panels = work.take(Factor<T>::size(columns, rows));
  simd::product<T>().pack(true, columns, rows, x.data, x.stride, panels);
  return panels;
}

// Queries that are looked at together: enough for a matrix product; few enough for their scores to stay in
// cache, and to leave out most of what is hidden.
std::int64_t block_rows(const Sizes& s) { return s.causal ? 16 : 64; }

template <class T>
struct Operands {
  const T *q, *k, *v, *mask;
};

// scale p + mask, for the scores p of queries [begin, end) of one product.
template <class T>
void add_mask(const Sizes& s, const T* mask, const MaskLayout& layout, std::int64_t begin, std::int64_t end,
              T scale, T* p) {
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  for (std::int64_t i = begin; i < end; ++i, p += s.keys)
    for (std::int64_t j = 0; j < s.seen(i + 1); ++j) {
      const T value = mask[i * layout.row + j * layout.column];
      p[j] = value == lowest ? lowest : scale * p[j] + value;
    }
}

// The softmax of the scores of queries [begin, end) of one product, rows of all keys, as far as the last of
// them sees. `mask` is its matrix of the mask, or null.
template <class T>
void weights(const Sizes& s, const Part<const T>& q, const T* transposed_k, const T* mask,
             const MaskLayout& layout, std::int64_t begin, std::int64_t end, T* p) {
  const std::int64_t keys = s.seen(end), rows = end - begin;
  simd::product<T>().run(rows, keys, s.inner, q[begin], q.stride, 1, transposed_k, s.inner, nullptr, 0, p,
                         s.keys);
  const auto scale = static_cast<T>(s.scale);
  if (mask) add_mask(s, mask, layout, begin, end, scale, p);
  simd::kernels<T>().attention_rows(p, s.keys, rows, s.causal ? begin + 1 : keys, keys, mask ? T{1} : scale);
}

template <class T>
void attend(const Sizes& s, const Operands<T>& x, const MaskLayout& layout, T* y) {
  // A task takes some blocks of one product, enough for packing k and v to be cheap.
  constexpr std::int64_t task_rows = 128;
  const std::int64_t block = block_rows(s), tasks = (s.queries + task_rows - 1) / task_rows;
  const std::int64_t multiplications =
      std::max<std::int64_t>(1, std::min(task_rows, s.queries) * s.keys * (s.inner + s.outer));
  parallel_for(s.count * tasks, std::max<std::int64_t>(1, (1 << 17) / multiplications),
               [&](std::int64_t first, std::int64_t last) {
                 const std::int64_t scores = block * s.keys, k_size = Factor<T>::size(s.inner, s.keys),
                                    v_size = Factor<T>::size(s.keys, s.outer);
                 for (std::int64_t i = first; i < last; ++i) {
                   Workspace<T> work(scores + k_size + v_size);
                   const std::int64_t item = i / tasks, from = i % tasks * task_rows,
                                      to = std::min(from + task_rows, s.queries);
                   const T* k = pack_transposed(work, {x.k, s, s.keys, s.inner, item}, s.seen(to), s.inner);
                   const Factor<T> v(work, {x.v, s, s.keys, s.outer, item}, s.seen(to), s.outer);
                   const T* mask = x.mask ? x.mask + layout.offset(item) : nullptr;
                   const Part<const T> q(x.q, s, s.queries, s.inner, item);
                   const Part<T> out(y, s, s.queries, s.outer, item);
                   T* p = work.take(scores);
                   for (std::int64_t begin = from; begin < to; begin += block) {
                     const std::int64_t end = std::min(begin + block, to);
                     weights(s, q, k, mask, layout, begin, end, p);
                     v.weigh(end - begin, s.seen(end), p, s.keys, 1, 0, out[begin], out.stride, false);
                   }
                 }
               });
}

template <class T>
struct Cotangents {
  T *q, *k, *v, *mask;  // mask: null unless wanted
};

// What the vjp of one product takes from q, k, v and the mask, in a workspace; with all weights, if they are
// to be kept.
template <class T>
struct Point {
  Part<const T> q;
  Factor<T> by_k, by_q;
  const T *transposed_v, *transposed_k, *mask, *kept = nullptr;

  static std::int64_t size(const Sizes& s, bool keep) {
    return Factor<T>::size(s.keys, s.inner) + Factor<T>::size(s.queries, s.inner) +
           Factor<T>::size(s.outer, s.keys) + Factor<T>::size(s.inner, s.keys) +
           (keep ? s.queries * s.keys : 0);
  }
  Point(Workspace<T>& work, const Sizes& s, const Operands<T>& x, const MaskLayout& layout, std::int64_t item,
        bool keep)
      : q(x.q, s, s.queries, s.inner, item),
        by_k(work, {x.k, s, s.keys, s.inner, item}, s.keys, s.inner),
        by_q(work, q, s.queries, s.inner),
        transposed_v(pack_transposed(work, {x.v, s, s.keys, s.outer, item}, s.keys, s.outer)),
        transposed_k(pack_transposed(work, {x.k, s, s.keys, s.inner, item}, s.keys, s.inner)),
        mask(x.mask ? x.mask + layout.offset(item) : nullptr) {
    if (!keep) return;
    T* p = work.take(s.queries * s.keys);
    for (std::int64_t begin = 0, block = block_rows(s); begin < s.queries; begin += block)
      weights(s, q, transposed_k, mask, layout, begin, std::min(begin + block, s.queries),
              p + begin * s.keys);
    kept = p;
  }
  // Those of queries [begin, end), kept or made in `scratch`.
  const T* of(const Sizes& s, const MaskLayout& layout, std::int64_t begin, std::int64_t end,
              T* scratch) const {
    if (kept) return kept + begin * s.keys;
    weights(s, q, transposed_k, mask, layout, begin, end, scratch);
    return scratch;
  }
};

// P = softmax(S), Y = P V: dV = P^T G, dP = G V^T, dS = P (dP - <P, dP>) row by row, dQ = scale dS K,
// dK = scale dS^T Q, and dS itself for the mask.
template <class T>
void pull_item(const Sizes& s, const Point<T>& point, const MaskLayout& layout, const T* gs,
               std::int64_t item, const Cotangents<T>& out) {
  const std::int64_t block = block_rows(s), scores = block * s.keys;
  const Part<const T> g(gs, s, s.queries, s.outer, item);
  const Part<T> dq(out.q, s, s.queries, s.inner, item), dk(out.k, s, s.keys, s.inner, item),
      dv(out.v, s, s.keys, s.outer, item);
  Workspace<T> work(2 * scores + Factor<T>::size(s.queries, s.outer));
  const Factor<T> by_g(work, g, s.queries, s.outer);
  T *scratch = work.take(scores), *ds = work.take(scores);
  const simd::Kernels<T>& kernels = simd::kernels<T>();
  const auto scale = static_cast<T>(s.scale);

  for (std::int64_t j = s.seen(s.queries); j < s.keys; ++j)
    std::fill_n(dk[j], s.inner, T{0}), std::fill_n(dv[j], s.outer, T{0});
  // The last block sees all keys that anybody does, so it writes what the others add to.
  const std::int64_t last = std::max<std::int64_t>(0, s.queries - 1) / block * block;
  for (std::int64_t begin = last; begin >= 0; begin -= block) {
    const std::int64_t end = std::min(begin + block, s.queries), rows = end - begin, keys = s.seen(end);
    const T* p = point.of(s, layout, begin, end, scratch);
    simd::product<T>().run(rows, keys, s.outer, g[begin], g.stride, 1, point.transposed_v, s.outer, nullptr,
                           0, ds, s.keys);
    for (std::int64_t r = 0; r < rows; ++r) {
      T* row = ds + r * s.keys;
      kernels.attention_vjp_row(p + r * s.keys, out.mask ? T{1} : scale, row, keys);
      if (!out.mask) continue;
      T* to = out.mask + layout.offset(item) + (begin + r) * layout.row;
      for (std::int64_t j = 0; j < keys; ++j) to[j * layout.column] += row[j];
      kernels.scale_add(row, scale, T{-0.0}, row, keys);
    }
    const bool add = begin != last;
    point.by_k.weigh(rows, keys, ds, s.keys, 1, 0, dq[begin], dq.stride, false);
    point.by_q.weigh(keys, rows, ds, 1, s.keys, begin, dk.data, dk.stride, add);
    by_g.weigh(keys, rows, p, 1, s.keys, begin, dv.data, dv.stride, add);
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

// What programs prepare: all points, if x does not change.
template <class T>
struct Points {
  Workspace<T> work;
  PoolVector<Point<T>> all;

  Points(const Sizes& s, const Operands<T>& x, const MaskLayout& layout)
      : work(s.count * (Point<T>::size(s, true) + 5 * Workspace<T>::line)) {
    all.reserve(static_cast<std::size_t>(s.count));
    for (std::int64_t i = 0; i < s.count; ++i) all.emplace_back(work, s, x, layout, i, true);
  }
};

// `prepared`: null, or the points of x.
template <class T>
void pull(const Sizes& s, const Operands<T>& x, const MaskLayout& layout, std::int64_t matrices, const T* g,
          const Cotangents<T>& out, const Points<T>* prepared) {
  const auto pull_one = [&](std::int64_t item) {
    if (prepared) return pull_item(s, prepared->all[static_cast<std::size_t>(item)], layout, g, item, out);
    Workspace<T> work(Point<T>::size(s, false));
    pull_item(s, Point<T>(work, s, x, layout, item, false), layout, g, item, out);
  };
  const auto run = [&](std::int64_t count, std::int64_t grain, const auto& item) {
    parallel_for(count, grain, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) pull_one(item(i));
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
Operands<T> operands(std::span<const Var> in, bool masked) {
  const auto data = [&](std::size_t i) { return in[i].value().template data<T>(); };
  return {data(0), data(1), data(2), masked ? data(3) : nullptr};
}

MaskLayout mask_layout(std::span<const Var> in, const Sizes& s, bool masked) {
  return {masked ? in[3].shape() : s.scores, s.scores};
}

void attention_vjp(const KernelContext& c, const void* prepared) {
  const auto& attrs = c.attrs.as<AttentionAttrs>();
  const Sizes s = sizes("scaled_dot_product_attention_vjp", c.inputs, attrs);
  const MaskLayout layout = mask_layout(c.inputs, s, attrs.masked);
  dispatch_floating(c.in().dtype(), [&](auto zero) {
    using T = decltype(zero);
    Cotangents<T> out{c.out(0).mutable_data<T>(), c.out(1).mutable_data<T>(), c.out(2).mutable_data<T>(),
                      nullptr};
    std::int64_t matrices = 0;
    if (attrs.mask_cotangent) {
      out.mask = c.out(3).mutable_data<T>();
      std::fill_n(out.mask, c.out(3).size(), T{0});
      if (layout.size == 0)
        out.mask = nullptr;
      else
        matrices = c.out(3).size() / layout.size;
    }
    pull(s, operands<T>(c.inputs, attrs.masked), layout, matrices, c.inputs.back().value().data<T>(), out,
         static_cast<const Points<T>*>(prepared));
  });
}

// Where only the cotangent varies, weights and packed factors are made once, as long as they stay in cache.
Prepared prepare_vjp(std::span<const Var> inputs, std::uint64_t constant, const Attrs& attributes) {
  constexpr std::int64_t most_bytes = 1 << 19;
  const auto& attrs = attributes.as<AttentionAttrs>();
  const std::uint64_t all = (std::uint64_t{1} << (inputs.size() - 1)) - 1;
  if ((constant & all) != all) return nullptr;
  const Sizes s = sizes("scaled_dot_product_attention_vjp", inputs, attrs);
  return dispatch_floating(inputs[0].dtype(), [&](auto zero) -> Prepared {
    using T = decltype(zero);
    if (s.count * s.queries >
        most_bytes / static_cast<std::int64_t>(sizeof(T)) / std::max<std::int64_t>(1, s.keys))
      return nullptr;
    return std::allocate_shared<const Points<T>>(memory::PoolAllocator<T>(), s,
                                                 operands<T>(inputs, attrs.masked),
                                                 mask_layout(inputs, s, attrs.masked));
  });
}

// ---- The same, composed: what derivatives of derivatives are taken of
// ---------------------------------------

Var composed(std::span<const Var> in, const AttentionAttrs& attrs) {
  const Sizes s = sizes("scaled_dot_product_attention", in, attrs);
  // (..., l, h d) -> (..., h, l, d), and back.
  const int rank = in[0].rank();
  Axes swapped;
  for (int i = 0; i < rank + 1; ++i) swapped.push_back(i);
  std::swap(swapped[rank - 2], swapped[rank - 1]);
  const auto split = [&](const Var& x) {
    if (s.heads == 1) return x;
    Ints shape = x.shape();
    shape[rank - 1] = s.heads;
    shape.push_back(x.size(-1) / s.heads);
    return permute(reshape(x, shape), swapped);
  };
  const auto join = [&](const Var& y) {
    if (s.heads == 1) return y;
    Ints shape = in[0].shape();
    shape[rank - 1] = in[2].size(-1);
    return reshape(permute(y, swapped), shape);
  };
  const Var q = split(in[0]), k = split(in[1]), v = split(in[2]);
  Var scores = matmul(q, k, {.transpose_b = true}) * s.scale;
  if (attrs.masked) scores = scores + in[3];
  if (s.causal) {
    Tensor hidden = Tensor::zeros({s.queries, s.keys}, DType::f64);
    for (std::int64_t i = 0; i < s.queries; ++i)
      for (std::int64_t j = i + 1; j < s.keys; ++j) hidden.mutable_data<double>()[i * s.keys + j] = -inf;
    scores = scores + Var(hidden.to(scores.dtype()));
  }
  if (scores.size() == 0) return join(matmul(scores, v));
  const Var blind = equal(max(scores, {-1}, true), -inf);
  return join(matmul(where(blind, 0.0, softmax(where(blind, 0.0, scores))), v));
}

// ---- Rows -----------------------------------------------------------------------------------------------

// Bits of q, k and v, and of a mask that has the output's rows on its axis 0. Of one product the queries are
// the rows, if their places do not matter.
RowInputs attention_rows(const RowsContext& c) {
  const auto& attrs = c.attrs.as<AttentionAttrs>();
  const bool stacked = c.out().rank() > 2;
  if (!stacked && attrs.options.causal) return {};
  const std::uint64_t by_rows = stacked ? 7 : 1;
  if (!attrs.masked) return by_rows;
  const bool heads = attrs.options.heads > 1;
  if (!stacked && heads) return {};  // the mask has its rows elsewhere
  if (c.shape(3).rank() < c.out().rank() + heads || c.shape(3)[0] != c.out()[0]) return by_rows;
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
    const std::int64_t d = options.heads * lmde[2], e = options.heads * lmde[3];
    Sample sample{{g.normal(shape(lmde[0], d)), g.normal(shape(lmde[1], d)), g.normal(shape(lmde[1], e))},
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
  add({2}, {3, 4, 2, 1}, {.causal = true, .heads = 3});
  add({}, {3, 3, 2, 2}, {.heads = 2});
  add({2}, {3, 4, 1, 2}, {.heads = 2}, g.normal({2, 2, 3, 4}));
  add({2}, {3, 4, 2, 2}, {.heads = 2}, g.normal({2, 1, 3, 1}));
  add({}, {3, 4, 2, 2}, {.heads = 2}, g.normal({2, 3, 4}));
  add({2}, {3, 0, 2, 2}, {});
  add({0}, {3, 2, 2, 2}, {});
  add({}, {1, 1, 1, 1}, {});
  return samples;
}

const Op attention_vjp_op{{
    .name = "scaled_dot_product_attention_vjp",
    .doc = "The cotangents of q, k, v, and of the mask if asked, for that of the attention.",
    .kernel = [](const KernelContext& c) { attention_vjp(c, nullptr); },
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
    .prepare = prepare_vjp,
    .prepared_kernel = attention_vjp,
    .prepare_rows = true,
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
          const MaskLayout layout = mask_layout(c.inputs, s, attrs.masked);
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            attend(s, operands<T>(c.inputs, attrs.masked), layout, c.out().mutable_data<T>());
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
              {{q, k, k}, AttentionAttrs{{.heads = 0}}, "heads must be at least 1: got 0"},
              {{q, k, k},
               AttentionAttrs{{.heads = 3}},
               "heads must divide the last axes: 3 for (2,3,4), (2,5,4), (2,5,4)"},
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
