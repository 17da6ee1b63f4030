#pragma once
// Internal: how elementwise kernels walk over their operands: in parallel pieces of fixed size, and under
// broadcasting without ever materialising it.

#include <banach/engine/op.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>

#include <algorithm>
#include <array>

namespace banach {

/// Elements a piece of elementwise work.
inline constexpr std::int64_t elementwise_grain = 1 << 15;

/// f(begin, end) over [0, n) by pieces.
template <class F>
void for_pieces(std::int64_t n, F&& f) {
  parallel_for(n, elementwise_grain, f);
}

/// N operands that broadcast to one shape. Axes of extent 1 are dropped, and neighbours along which every
/// operand moves as along one axis are merged, so that few axes remain; axis 0 is the innermost. A stride of
/// 0 repeats the operand.
template <std::size_t N>
class Broadcast {
 public:
  using Offsets = std::array<std::int64_t, N>;

  Broadcast(const std::array<const Shape*, N>& shapes, const Shape& common) {
    Offsets next;  // stride of the axis in hand, were it not repeated
    next.fill(1);
    for (int axis = common.rank() - 1; axis >= 0; --axis) {
      const std::int64_t extent = common[axis];
      if (extent == 1) continue;
      Offsets strides{};
      for (std::size_t k = 0; k < N; ++k) {
        const int own = axis - (common.rank() - shapes[k]->rank());
        if (own < 0 || (*shapes[k])[own] == 1) continue;
        strides[k] = next[k];
        next[k] *= extent;
      }
      append(extent, strides);
    }
    if (rank_ == 0) append(1, Offsets{});
  }

  /// Strides of the innermost axis, each 0 or 1.
  const Offsets& inner_strides() const { return strides_[0]; }

  /// inner(offsets of the operands, offset of the output, n) for runs along the innermost axis, in parallel.
  template <class Inner>
  void for_runs(Inner&& inner) const {
    std::int64_t rows = 1;
    for (int axis = 1; axis < rank_; ++axis) rows *= extents_[static_cast<std::size_t>(axis)];
    const std::int64_t n = extents_[0];
    if (rows == 0 || n == 0) return;
    const std::int64_t parts = (n + elementwise_grain - 1) / elementwise_grain;
    const auto walk = [&](std::int64_t begin, std::int64_t end) {
      Position at = position(begin / parts);
      for (std::int64_t unit = begin; unit < end; ++unit) {
        const std::int64_t row = unit / parts, start = unit % parts * elementwise_grain;
        Offsets offsets = at.offsets;
        for (std::size_t k = 0; k < N; ++k) offsets[k] += strides_[0][k] * start;
        inner(offsets, row * n + start, std::min(elementwise_grain, n - start));
        if ((unit + 1) % parts == 0) advance(at);
      }
    };
    const std::int64_t grain = std::max<std::int64_t>(1, elementwise_grain / n);
    if (rows * parts > grain)
      parallel_for(rows * parts, grain, walk);
    else
      walk(0, rows * parts);
  }

 private:
  struct Position {
    std::array<std::int64_t, Ints::capacity> index{};
    Offsets offsets{};
  };

  void append(std::int64_t extent, const Offsets& strides) {
    if (rank_ > 0) {
      const auto last = static_cast<std::size_t>(rank_ - 1);
      bool merges = true;
      for (std::size_t k = 0; k < N; ++k) merges = merges && strides[k] == strides_[last][k] * extents_[last];
      if (merges) {
        extents_[last] *= extent;
        return;
      }
    }
    extents_[static_cast<std::size_t>(rank_)] = extent;
    strides_[static_cast<std::size_t>(rank_++)] = strides;
  }

  Position position(std::int64_t row) const {
    Position at;
    for (std::size_t axis = 1; axis < static_cast<std::size_t>(rank_); ++axis) {
      at.index[axis] = row % extents_[axis];
      row /= extents_[axis];
      for (std::size_t k = 0; k < N; ++k) at.offsets[k] += at.index[axis] * strides_[axis][k];
    }
    return at;
  }

  void advance(Position& at) const {
    for (std::size_t axis = 1; axis < static_cast<std::size_t>(rank_); ++axis) {
      for (std::size_t k = 0; k < N; ++k) at.offsets[k] += strides_[axis][k];
      if (++at.index[axis] < extents_[axis]) return;
      for (std::size_t k = 0; k < N; ++k) at.offsets[k] -= at.index[axis] * strides_[axis][k];
      at.index[axis] = 0;
    }
  }

  std::array<std::int64_t, Ints::capacity> extents_{};
  std::array<Offsets, Ints::capacity> strides_{};
  int rank_ = 0;
};

/// Kernel of an operation with one input: f(x, y, n, kernels) on raw arrays.
template <class F>
void map_kernel(const KernelContext& c, F f) {
  dispatch_floating(c.in().dtype(), [&](auto zero) {
    using T = decltype(zero);
    const simd::Kernels<T>& kernels = simd::kernels<T>();
    const T* x = c.in().data<T>();
    T* y = c.out().mutable_data<T>();
    for_pieces(c.in().size(),
               [&](std::int64_t begin, std::int64_t end) { f(x + begin, y + begin, end - begin, kernels); });
  });
}

/// The same without parameters; pick(kernels) is its simd::Unary.
template <class Pick>
void unary_kernel(const KernelContext& c, Pick pick) {
  map_kernel(c, [pick](auto* x, auto* y, std::int64_t n, const auto& kernels) { pick(kernels)(x, y, n); });
}

/// Kernel of an operation with two inputs that broadcast; pick(kernels) is its simd::Binary.
template <class Pick>
void binary_kernel(const KernelContext& c, Pick pick) {
  dispatch_floating(c.in(0).dtype(), [&](auto zero) {
    using T = decltype(zero);
    const simd::Binary<T>& f = pick(simd::kernels<T>());
    const Tensor &ta = c.in(0), &tb = c.in(1);
    const T *a = ta.data<T>(), *b = tb.data<T>();
    T* out = c.out().mutable_data<T>();
    const std::int64_t size = c.out().size();
    if (ta.shape() == tb.shape()) {
      for_pieces(size, [&](std::int64_t i, std::int64_t end) { f.vv(a + i, b + i, out + i, end - i); });
    } else if (tb.size() == 1) {
      for_pieces(size, [&](std::int64_t i, std::int64_t end) { f.vs(a + i, *b, out + i, end - i); });
    } else if (ta.size() == 1) {
      for_pieces(size, [&](std::int64_t i, std::int64_t end) { f.sv(*a, b + i, out + i, end - i); });
    } else {
      const Broadcast<2> plan({&ta.shape(), &tb.shape()}, c.out().shape());
      const auto strides = plan.inner_strides();
      plan.for_runs([&](const auto& at, std::int64_t to, std::int64_t n) {
        if (strides[0] && strides[1])
          f.vv(a + at[0], b + at[1], out + to, n);
        else if (strides[0])
          f.vs(a + at[0], b[at[1]], out + to, n);
        else
          f.sv(a[at[0]], b + at[1], out + to, n);
      });
    }
  });
}

}  // namespace banach
