#include <banach/engine/blas.hpp>
#include <banach/engine/tape.hpp>
#include <banach/nn/golub_kahan.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/solvers/vector.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace banach::nn {
namespace {

// Orthonormal rows of n elements, to which one after another is added.
template <class T>
struct Basis {
  Tensor rows;
  std::int64_t n, count = 0;

  Basis(std::int64_t most, std::int64_t width, DType dtype)
      : rows(Tensor::empty({most, width}, dtype)), n(width) {}

  // The part of x that the newest `others` rows do not have, made a row of length 1; returns that part's
  // length.
  double add(const Tensor& x, std::int64_t others) {
    T* all = rows.mutable_data<T>();
    T* row = all + count * n;
    std::copy_n(x.data<T>(), n, row);
    others = std::min(others, count);
    PoolVector<double> overlaps(static_cast<std::size_t>(others + 1));
    for (int pass = 0; pass < 2; ++pass) vec::project_out(row - others * n, others, row, n, overlaps.data());
    const double length = vec::norm(row, n);
    if (length > 0.0 && std::isfinite(length)) vec::divide(row, length, row, n);
    ++count;
    return length;
  }
  Tensor last(const Shape& shape) const { return rows.rows(count - 1, count).clone().reshape(shape); }
  Tensor combination(const double* weights, std::int64_t stride, const Shape& shape) const {
    Tensor sum = Tensor::zeros(shape, rows.dtype());
    for (std::int64_t i = 0; i < count; ++i)
      vec::axpy(weights[i * stride], rows.data<T>() + i * n, sum.mutable_data<T>(), n);
    return sum;
  }
};

// The upper bidiagonal matrix B of A V = U B, and its singular values with vectors.
struct Bidiagonal {
  PoolVector<double> diagonal, above;
  PoolVector<double> left, right;  // left[i * k + j], right[j * k + i] belong to value j
  double first = 0.0, second = 0.0;

  void decompose() {
    const auto k = static_cast<std::int64_t>(diagonal.size());
    PoolVector<double> b(static_cast<std::size_t>(k * k)), values(static_cast<std::size_t>(k));
    for (std::int64_t i = 0; i < k; ++i) {
      b[static_cast<std::size_t>(i * k + i)] = diagonal[static_cast<std::size_t>(i)];
      if (i + 1 < k) b[static_cast<std::size_t>(i * k + i + 1)] = above[static_cast<std::size_t>(i)];
    }
    left.assign(b.size(), 0.0);
    right.assign(b.size(), 0.0);
    if (blas::svd(k, k, b.data(), left.data(), values.data(), right.data()) != 0)
      values.assign(values.size(), std::numeric_limits<double>::quiet_NaN());
    first = values.front();
    second = k > 1 ? values[1] : 0.0;
  }
};

template <class T>
NormingPair run(const WeightedMap& map, const Tensor& weight, Tensor start,
                const GolubKahanOptions& options) {
  const Var w(weight);
  const std::int64_t n = map.input.size(), m = map.output.size();
  const std::int64_t most = std::max<std::int64_t>(1, std::min<std::int64_t>({options.dimension, n, m}));
  const auto apply = [&](const Tensor& x) { return map.apply(w, Var(x)).value(); };
  const auto transposed = [&](const Tensor& y) { return map.transposed(w, Var(y)).value(); };
  NormingPair found{0.0, Tensor::zeros(map.output, weight.dtype()), start};
  double first = 0.0, second = 0.0;
  for (int step = 0;;) {
    Basis<T> v(most, n, weight.dtype()), u(most, m, weight.dtype());
    Bidiagonal b;
    bool ended = !(v.add(found.right, 0) > 0.0);
    std::int64_t looked = 0;
    const auto look = [&] {
      b.decompose();
      const double change = std::max(std::abs(b.first - first), std::abs(b.second - second));
      // A direction that will take the lead is first seen as the second value rising.
      ended |= !(change > options.tolerance * b.first * static_cast<double>(v.count - looked));
      first = b.first;
      second = b.second;
      looked = v.count;
    };
    while (true) {
      const double alpha = u.add(apply(v.last(map.input)), 1);
      b.diagonal.push_back(alpha);
      const bool last = ++step >= options.max_steps || v.count == most || !(alpha > 0.0);
      ended |= step >= options.max_steps;
      if (last || v.count == 1 || v.count % 4 == 0) look();
      if (ended || last) break;
      // Orthogonal rows on this side are enough (Simon and Zha 2000).
      const double beta = v.add(transposed(u.last(map.output)), most);
      // Nothing new but rounding: the space holds its singular vectors.
      if (!(beta > static_cast<double>(std::numeric_limits<T>::epsilon()) * first)) {
        --v.count;
        look();
        ended = true;
        break;
      }
      b.above.push_back(beta);
    }
    if (!(first > 0.0) || !std::isfinite(first)) return {first, found.left, found.right};
    if (!ended) {  // goes on from the best two, or, where the next space could not part them, from the best
      Tensor best = u.combination(b.left.data(), u.count, map.output);
      if (b.second > 0.0 && most >= 8)
        best = (Var(best) + Var(u.combination(b.left.data() + 1, u.count, map.output)) * (first / second))
                   .value();
      found.right = transposed(best);
      continue;
    }
    // One half step more than the space knows; its length is the value that belongs to these vectors.
    found.left = u.combination(b.left.data(), u.count, map.output);
    Tensor right = transposed(found.left);
    const double length = vec::norm(found.left.data<T>(), m);
    vec::divide(found.left.data<T>(), length, found.left.mutable_data<T>(), m);
    const double value = vec::norm(right.data<T>(), n);
    vec::divide(right.data<T>(), value, right.mutable_data<T>(), n);
    found.right = std::move(right);
    found.value = value / length;
    return found;
  }
}

}  // namespace

NormingPair golub_kahan(const WeightedMap& map, const Tensor& w, const Tensor& start,
                        const GolubKahanOptions& options) {
  const NoGrad off;
  return dispatch_floating(w.dtype(), [&](auto zero) { return run<decltype(zero)>(map, w, start, options); });
}

}  // namespace banach::nn
