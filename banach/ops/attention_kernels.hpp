#pragma once
// Internal: the kernels of scaled_dot_product_attention and relative_attention. One product (head) at a time
// stands in cache: keys and values are packed, then blocks of queries make their scores, a softmax row by
// row, and their part of the result.
//
// Relative scores are (q + u) k^T + shifted((q + w) r^T): with the rows of r reversed, row t of it stands for
// distance keys - 1 - t, and the score of query i and key j takes entry t = j + queries - 1 - i, one place
// further left from query to query. So the product is written with rows one entry further apart than scores
// are read with, and nothing has to be moved: neither here, nor in the vjp.

#include <banach/engine/op.hpp>
#include <banach/engine/panel_product.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/attention.hpp>
#include <banach/ops/walk.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>

namespace banach::attention {

// ---- Sizes ------------------------------------------------------------------------------------------------

/// Queries that are looked at together where they are causal: enough for a matrix product; few enough to
/// leave out most of what is hidden. A multiple of all panels' widths.
constexpr std::int64_t causal_block = 16;

struct Sizes {
  Shape scores;                              // (..., l, m), or (..., heads, l, m) for several heads
  std::int64_t count, heads;                 // products, and how many of them side by side
  std::int64_t queries, keys, inner, outer;  // of one product
  double scale;
  bool causal;
  bool relative = false;
  std::int64_t before = 0;  // if causal: keys in front of the first query's own

  // Keys that the queries before `end` see.
  std::int64_t seen(std::int64_t end) const { return causal ? std::min(keys, before + end) : keys; }
  // Few enough queries for their scores to stay in cache.
  std::int64_t block() const { return causal ? causal_block : 64; }

  // Distance between rows of scores; of relative ones so large that what the shifted product writes in front
  // of a row lies behind the scores of the row before.
  std::int64_t stride() const {
    return relative ? (keys + 2 * causal_block - 1) / causal_block * causal_block : keys;
  }
  // What so many rows of scores take, with room in front of the first.
  std::int64_t scores_size(std::int64_t rows) const { return front() + rows * stride(); }
  std::int64_t front() const { return relative ? causal_block : 0; }

  // Rows of r reversed, after rows of zeros that make the last block a whole one.
  std::int64_t distance_rows() const { return padding() + keys; }
  std::int64_t padding() const { return (causal_block - queries % causal_block) % causal_block; }
};

/// Of q, k and v alone. Throws ShapeError, ValueError.
inline Sizes sizes(std::string_view op, std::span<const Var> in, const AttentionOptions& options) {
  const Shape &q = in[0].shape(), &k = in[1].shape(), &v = in[2].shape();
  const int rank = q.rank();
  const std::int64_t heads = options.heads;
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
  const Sizes s{Shape(scores),
                q.size(0, rank - 2) * heads,
                heads,
                q[rank - 2],
                k[rank - 2],
                inner,
                v[rank - 1] / heads,
                options.scale.value_or(1.0 / std::sqrt(d)),
                options.causal};
  if (!std::isfinite(s.scale)) fail<ValueError>(op, "scale must be finite: got " + std::to_string(s.scale));
  return s;
}

/// Shape of the result.
inline Shape result_shape(const ShapeContext& c) {
  Ints result = c.shape(0);
  result[result.count() - 1] = c.inputs[2].size(-1);
  return Shape(result);
}

/// Throws ShapeError unless the last input of a vjp is the result's cotangent.
inline void check_cotangent(const ShapeContext& c) {
  const Shape result = result_shape(c), &g = c.inputs.back().shape();
  if (!(g == result))
    fail<ShapeError>(
        c.op, "the cotangent must have the result's shape: " + g.to_string() + " for " + result.to_string());
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

// ---- Matrices in cache ------------------------------------------------------------------------------------

// The rows of one product in q, k, v, or anything like them.
template <class T>
struct Part {
  T* data;
  std::int64_t stride;

  Part(T* first, std::int64_t distance) : data(first), stride(distance) {}
  Part(T* all, const Sizes& s, std::int64_t rows, std::int64_t width, std::int64_t item)
      : Part(all + item / s.heads * rows * s.heads * width + item % s.heads * width, s.heads * width) {}
  T* operator[](std::int64_t i) const { return data + i * stride; }
};

// Memory of one task for its matrices, one after another, each aligned as packed ones must be.
template <class T>
class Workspace {
 public:
  static constexpr std::int64_t line = 64 / sizeof(T);
  // More than the ends of all matrices of a product leave unused.
  static constexpr std::int64_t slack = 12 * line;

  explicit Workspace(std::int64_t size)
      : memory_(Tensor::empty({size + slack}, dtype_of<T>())), next_(memory_.mutable_data<T>()) {}
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

// r of one head, reversed and packed. A block of queries meets a window of its rows.
template <class T>
class Distances {
 public:
  static std::int64_t size(const Sizes& s) {
    const std::int64_t rows = s.distance_rows();
    return rows * s.inner + Factor<T>::size(s.inner, rows) + Factor<T>::size(rows, s.inner);
  }
  // r: (keys, heads inner).
  Distances(Workspace<T>& work, const Sizes& s, const T* r, std::int64_t head)
      : reversed_(reversed(work, s, {r + head * s.inner, s.heads * s.inner})),
        transposed_(pack_transposed(work, reversed_, s.distance_rows(), s.inner)),
        by_row_(work, reversed_, s.distance_rows(), s.inner) {}

  // The window of the block that begins with this query, and its rows: as many as scores p go from their
  // front to the last key seen.
  static std::int64_t window(const Sizes& s, std::int64_t begin) {
    return s.queries + s.padding() - begin - causal_block;
  }
  static std::int64_t window_rows(const Sizes& s, std::int64_t begin, std::int64_t end) {
    return s.seen(end) + causal_block - (end - begin);
  }
  // Scores seen as what meets the window: rows one entry further apart.
  template <class P>
  static Part<P> shifted(const Sizes& s, P* scores) {
    return {scores - (causal_block - 1), s.stride() + 1};
  }

  // p = q r^T, shifted, for queries [begin, end), the first of which is q[0].
  void score(const Sizes& s, const Part<const T>& q, std::int64_t begin, std::int64_t end, T* p) const {
    const Part<T> out = shifted(s, p);
    simd::product<T>().run(end - begin, window_rows(s, begin, end), s.inner, q.data, q.stride, 1,
                           transposed_ + window(s, begin) * s.inner, s.inner, nullptr, 0, out.data,
                           out.stride);
  }
  const Factor<T>& by_row() const { return by_row_; }

 private:
  static Part<const T> reversed(Workspace<T>& work, const Sizes& s, const Part<const T>& r) {
    T* copy = work.take(s.distance_rows() * s.inner);
    T* out = std::fill_n(copy, s.padding() * s.inner, T{0});
    for (std::int64_t distance = s.keys - 1; distance >= 0; --distance, out += s.inner)
      std::copy_n(r[distance], s.inner, out);
    return {copy, s.inner};
  }

  Part<const T> reversed_;
  const T* transposed_;
  Factor<T> by_row_;
};

// That of all heads.
template <class T>
struct AllDistances {
  Workspace<T> work;
  PoolVector<Distances<T>> of;

  AllDistances(const Sizes& s, const T* r) : work(s.heads * (Distances<T>::size(s) + Workspace<T>::slack)) {
    of.reserve(static_cast<std::size_t>(s.heads));
    for (std::int64_t head = 0; head < s.heads; ++head) of.emplace_back(work, s, r, head);
  }
};

// ---- Values -----------------------------------------------------------------------------------------------

template <class T>
struct Operands {
  const T *q, *k, *v, *mask = nullptr;
  // If scores are relative.
  const T *content_bias = nullptr, *position_bias = nullptr;
  const AllDistances<T>* distances = nullptr;

  const Distances<T>* distances_of(const Sizes& s, std::int64_t item) const {
    return distances ? &distances->of[static_cast<std::size_t>(item % s.heads)] : nullptr;
  }
};

// Queries [from, to) of one product, as keys and as distances meet them: with a bias of its own each.
template <class T>
struct Queries {
  Part<const T> content, position;

  static std::int64_t size(const Sizes& s, std::int64_t rows) { return s.relative ? 2 * rows * s.inner : 0; }
  Queries(Workspace<T>& work, const Sizes& s, const Operands<T>& x, std::int64_t item, std::int64_t from,
          std::int64_t to)
      : content(plus(work, s, x.q, x.content_bias, item, from, to)),
        position(plus(work, s, x.q, x.position_bias, item, from, to)) {}
  Queries(const Part<const T>& c, const Part<const T>& p) : content(c), position(p) {}
  Queries after(std::int64_t rows) const {
    return {{content[rows], content.stride}, {position[rows], position.stride}};
  }

 private:
  static Part<const T> plus(Workspace<T>& work, const Sizes& s, const T* all, const T* bias,
                            std::int64_t item, std::int64_t from, std::int64_t to) {
    const Part<const T> q(all, s, s.queries, s.inner, item);
    if (!bias) return {q[from], q.stride};
    bias += item % s.heads * s.inner;
    T* sum = work.take((to - from) * s.inner);
    for (std::int64_t i = from; i < to; ++i)
      std::transform(q[i], q[i] + s.inner, bias, sum + (i - from) * s.inner, std::plus<T>());
    return {sum, s.inner};
  }
};

// scale p + mask, for the scores p of queries [begin, end) of one product.
template <class T>
void add_mask(const Sizes& s, const T* mask, const MaskLayout& layout, std::int64_t begin, std::int64_t end,
              T scale, T* p) {
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  for (std::int64_t i = begin; i < end; ++i, p += s.stride())
    for (std::int64_t j = 0; j < s.seen(i + 1); ++j) {
      const T value = mask[i * layout.row + j * layout.column];
      p[j] = value == lowest ? lowest : scale * p[j] + value;
    }
}

// What meets the queries of one product. `mask` is its matrix of the mask, or null.
template <class T>
struct Seen {
  const T *transposed_k, *mask;
  const Distances<T>* distances;  // null unless scores are relative
};

// The softmax of the scores of queries [begin, end) of one product, which begin with q[0], in rows of all
// keys, as far as the last of them sees.
template <class T>
void weights(const Sizes& s, const Queries<T>& q, const Seen<T>& by, const MaskLayout& layout,
             std::int64_t begin, std::int64_t end, T* p) {
  const std::int64_t keys = s.seen(end), rows = end - begin, stride = s.stride();
  if (by.distances) by.distances->score(s, q.position, begin, end, p);
  simd::product<T>().run(rows, keys, s.inner, q.content.data, q.content.stride, 1, by.transposed_k, s.inner,
                         by.distances ? p : nullptr, by.distances ? stride : 0, p, stride);
  const auto scale = static_cast<T>(s.scale);
  if (by.mask) add_mask(s, by.mask, layout, begin, end, scale, p);
  simd::kernels<T>().attention_rows(p, stride, rows, s.seen(begin + 1), keys, by.mask ? T{1} : scale);
}

template <class T>
void attend(const Sizes& s, const Operands<T>& x, const MaskLayout& layout, T* y) {
  // A task takes some blocks of one product, enough for packing k and v to be cheap.
  constexpr std::int64_t task_rows = 128;
  const std::int64_t block = s.block(), tasks = (s.queries + task_rows - 1) / task_rows;
  const std::int64_t multiplications =
      std::max<std::int64_t>(1, std::min(task_rows, s.queries) * s.keys * (s.inner + s.outer));
  parallel_for(s.count * tasks, std::max<std::int64_t>(1, (1 << 17) / multiplications),
               [&](std::int64_t first, std::int64_t last) {
                 const std::int64_t scores = s.scores_size(block), k_size = Factor<T>::size(s.inner, s.keys),
                                    v_size = Factor<T>::size(s.keys, s.outer),
                                    q_size = Queries<T>::size(s, std::min(task_rows, s.queries));
                 for (std::int64_t i = first; i < last; ++i) {
                   Workspace<T> work(scores + k_size + v_size + q_size);
                   const std::int64_t item = i / tasks, from = i % tasks * task_rows,
                                      to = std::min(from + task_rows, s.queries);
                   const Seen<T> by{
                       pack_transposed(work, {x.k, s, s.keys, s.inner, item}, s.seen(to), s.inner),
                       x.mask ? x.mask + layout.offset(item) : nullptr, x.distances_of(s, item)};
                   const Factor<T> v(work, {x.v, s, s.keys, s.outer, item}, s.seen(to), s.outer);
                   const Queries<T> q(work, s, x, item, from, to);
                   const Part<T> out(y, s, s.queries, s.outer, item);
                   T* p = work.take(scores) + s.front();
                   for (std::int64_t begin = from; begin < to; begin += block) {
                     const std::int64_t end = std::min(begin + block, to);
                     weights(s, q.after(begin - from), by, layout, begin, end, p);
                     v.weigh(end - begin, s.seen(end), p, s.stride(), 1, 0, out[begin], out.stride, false);
                   }
                 }
               });
}

// ---- The vjp ----------------------------------------------------------------------------------------------

// What the vjp of one product takes from q, k, v and the mask, in a workspace; with all weights, if they are
// to be kept.
template <class T>
struct Point {
  Queries<T> q;
  Factor<T> by_k, by_q;
  const T* transposed_v;
  Seen<T> seen;
  const T* kept = nullptr;

  static std::int64_t size(const Sizes& s, bool keep) {
    return Factor<T>::size(s.keys, s.inner) + Factor<T>::size(s.queries, s.inner) +
           Factor<T>::size(s.outer, s.keys) + Factor<T>::size(s.inner, s.keys) +
           Queries<T>::size(s, s.queries) + (keep ? s.scores_size(s.queries) : 0);
  }
  Point(Workspace<T>& work, const Sizes& s, const Operands<T>& x, const MaskLayout& layout, std::int64_t item,
        bool keep)
      : q(work, s, x, item, 0, s.queries),
        by_k(work, {x.k, s, s.keys, s.inner, item}, s.keys, s.inner),
        by_q(work, q.content, s.queries, s.inner),
        transposed_v(pack_transposed(work, {x.v, s, s.keys, s.outer, item}, s.keys, s.outer)),
        seen{pack_transposed(work, {x.k, s, s.keys, s.inner, item}, s.keys, s.inner),
             x.mask ? x.mask + layout.offset(item) : nullptr, x.distances_of(s, item)} {
    if (!keep) return;
    T* p = work.take(s.scores_size(s.queries)) + s.front();
    for (std::int64_t begin = 0, block = s.block(); begin < s.queries; begin += block)
      weights(s, q.after(begin), seen, layout, begin, std::min(begin + block, s.queries),
              p + begin * s.stride());
    kept = p;
  }
  // Those of queries [begin, end), kept or made in `scratch`.
  const T* of(const Sizes& s, const MaskLayout& layout, std::int64_t begin, std::int64_t end,
              T* scratch) const {
    if (kept) return kept + begin * s.stride();
    weights(s, q.after(begin), seen, layout, begin, end, scratch);
    return scratch;
  }
};

// Of r and the biases, summed over some products of one head: dR, with its rows as in Distances, and the sums
// of dS down its columns, for the position bias; that of the content bias itself.
template <class T>
struct OfPositions {
  T *r, *columns, *content_bias;
};

template <class T>
struct Cotangents {
  T *q, *k, *v, *mask = nullptr;        // mask: null unless wanted
  OfPositions<T>* positions = nullptr;  // null unless wanted
};

// P = softmax(S), Y = P V: dV = P^T G, dP = G V^T, dS = P (dP - <P, dP>) row by row, dQ = scale dS K,
// dK = scale dS^T Q, and dS itself for the mask. Of distances, dQ += shifted dS R, dR = (shifted dS)^T Q.
template <class T>
void pull_item(const Sizes& s, const Point<T>& point, const MaskLayout& layout, const T* gs,
               std::int64_t item, const Cotangents<T>& out) {
  const std::int64_t block = s.block(), scores = s.scores_size(block), stride = s.stride();
  const Part<const T> g(gs, s, s.queries, s.outer, item);
  const Part<T> dq(out.q, s, s.queries, s.inner, item), dk(out.k, s, s.keys, s.inner, item),
      dv(out.v, s, s.keys, s.outer, item);
  Workspace<T> work(2 * scores + Factor<T>::size(s.queries, s.outer) +
                    (out.positions ? Factor<T>::size(s.queries, s.inner) + s.keys : 0));
  const Factor<T> by_g(work, g, s.queries, s.outer);
  T *scratch = work.take(scores) + s.front(), *ds = work.take(scores) + s.front();
  std::fill_n(ds - s.front(), s.relative ? scores : 0, T{0});  // what is shifted in
  std::optional<Factor<T>> by_position;
  T* columns = nullptr;
  if (out.positions) {
    by_position.emplace(work, point.q.position, s.queries, s.inner);
    columns = work.take(s.keys);
    std::fill_n(columns, s.keys, T{0});
  }
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
                           0, ds, stride);
    for (std::int64_t r = 0; r < rows; ++r) {
      T* row = ds + r * stride;
      kernels.attention_vjp_row(p + r * stride, out.mask ? T{1} : scale, row, keys);
      if (!out.mask) continue;
      T* to = out.mask + layout.offset(item) + (begin + r) * layout.row;
      for (std::int64_t j = 0; j < keys; ++j) to[j * layout.column] += row[j];
      kernels.scale_add(row, scale, T{-0.0}, row, keys);
    }
    const bool add = begin != last;
    point.by_k.weigh(rows, keys, ds, stride, 1, 0, dq[begin], dq.stride, false);
    point.by_q.weigh(keys, rows, ds, 1, stride, begin, dk.data, dk.stride, add);
    by_g.weigh(keys, rows, p, 1, stride, begin, dv.data, dv.stride, add);
    if (!s.relative || rows == 0) continue;
    const Part<const T> shifted = Distances<T>::shifted(s, static_cast<const T*>(ds));
    const std::int64_t window = Distances<T>::window(s, begin),
                       window_rows = Distances<T>::window_rows(s, begin, end);
    point.seen.distances->by_row().weigh(rows, window_rows, shifted.data, shifted.stride, 1, window,
                                         dq[begin], dq.stride, true);
    if (!out.positions) continue;
    by_position->weigh(window_rows, rows, shifted.data, 1, shifted.stride, begin,
                       out.positions->r + window * s.inner, s.inner, true);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t j = 0; j < keys; ++j) columns[j] += ds[r * stride + j];
      for (std::int64_t t = 0; t < window_rows; ++t) out.positions->columns[window + t] += shifted[r][t];
    }
  }
  if (out.positions)
    point.by_k.weigh(1, s.keys, columns, s.keys, 1, 0, out.positions->content_bias, s.inner, true);
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

// What programs prepare: all points, if x does not change. r, if there is one, is packed with them.
template <class T>
struct Points {
  std::optional<AllDistances<T>> distances;
  Workspace<T> work;
  PoolVector<Point<T>> all;

  Points(const Sizes& s, Operands<T> x, const MaskLayout& layout, const T* r)
      : work(s.count * (Point<T>::size(s, true) + Workspace<T>::slack)) {
    if (r) x.distances = &distances.emplace(s, r);
    all.reserve(static_cast<std::size_t>(s.count));
    for (std::int64_t i = 0; i < s.count; ++i) all.emplace_back(work, s, x, layout, i, true);
  }
  // Whether they stay in cache.
  static bool fit(const Sizes& s) {
    constexpr std::int64_t most = (1 << 19) / static_cast<std::int64_t>(sizeof(T));
    return s.count * s.queries <= most / std::max<std::int64_t>(1, s.keys);
  }
};

// One product. `prepared`: null, or the points of x.
template <class T>
void pull_one(const Sizes& s, const Operands<T>& x, const MaskLayout& layout, const T* g, std::int64_t item,
              const Cotangents<T>& out, const Points<T>* prepared) {
  if (prepared) return pull_item(s, prepared->all[static_cast<std::size_t>(item)], layout, g, item, out);
  Workspace<T> work(Point<T>::size(s, false));
  pull_item(s, Point<T>(work, s, x, layout, item, false), layout, g, item, out);
}

// All of them, those of a group with one matrix of the mask in order. matrices: of the mask's cotangent.
template <class T>
void pull(const Sizes& s, const Operands<T>& x, const MaskLayout& layout, std::int64_t matrices, const T* g,
          const Cotangents<T>& out, const Points<T>* prepared) {
  const auto run = [&](std::int64_t count, std::int64_t grain, const auto& item) {
    parallel_for(count, grain, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) pull_one(s, x, layout, g, item(i), out, prepared);
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

}  // namespace banach::attention
