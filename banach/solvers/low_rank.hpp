#pragma once
// Internal: what the solvers of the kind of Broyden know. For each sample that is an inverse Jacobian of low
// rank, plus a multiple of the identity.

#include <banach/solvers/fixed_point.hpp>
#include <banach/solvers/vector.hpp>

#include <array>

namespace banach {

/// P = I - sum_i u_i v_i^T for each sample of a batch: an estimate of (I - J)^-1, the inverse Jacobian of
/// z - f(z), so that P (f(z) - z) is a step to the fixed point.
template <class T>
class LowRankInverse {
 public:
  /// Below this cosine between two vectors, an update that divides by their product is worth nothing.
  static constexpr double smallest_cosine = 1e-4;
  /// Restarts of a safeguard before only Picard steps are taken: never.
  static constexpr int no_picard = std::numeric_limits<int>::max();

  LowRankInverse(std::int64_t batch, int memory, std::int64_t n, DType dtype)
      : memory_(memory),
        n_(n),
        counts_(static_cast<std::size_t>(batch), 0),
        u_(Tensor::empty({batch, memory, n}, dtype)),
        v_(Tensor::empty({batch, memory, n}, dtype)),
        u_data_(u_.mutable_data<T>()),
        v_data_(v_.mutable_data<T>()) {}

  double dot(const T* a, const T* b) const { return static_cast<double>(simd::kernels<T>().dot(a, b, n_)); }
  bool full(std::int64_t sample) const { return counts_[static_cast<std::size_t>(sample)] == memory_; }
  void clear(std::int64_t sample) { counts_[static_cast<std::size_t>(sample)] = 0; }

  /// out = P x
  void apply(std::int64_t sample, const T* x, T* out) const { apply(sample, u_data_, v_data_, x, out); }
  /// out = P^T x
  void apply_transposed(std::int64_t sample, const T* x, T* out) const {
    apply(sample, v_data_, u_data_, x, out);
  }

  /// Where the next pair is written, unless full; it counts once it is kept.
  T* new_u(std::int64_t sample) { return u_data_ + next_row(sample); }
  T* new_v(std::int64_t sample) { return v_data_ + next_row(sample); }
  void keep(std::int64_t sample) { ++counts_[static_cast<std::size_t>(sample)]; }

  std::int64_t bytes() const { return 2 * u_.size() * static_cast<std::int64_t>(sizeof(T)); }

  /// The estimate; nothing is left here.
  InverseEstimate take() {
    for (std::size_t s = 0; s < counts_.size(); ++s) {
      const std::int64_t from = next_row(static_cast<std::int64_t>(s)), unused = (memory_ - counts_[s]) * n_;
      std::fill_n(u_data_ + from, unused, T{0});
      std::fill_n(v_data_ + from, unused, T{0});
    }
    return {std::move(u_), std::move(v_)};
  }

 private:
  std::int64_t next_row(std::int64_t sample) const {
    return (sample * memory_ + counts_[static_cast<std::size_t>(sample)]) * n_;
  }
  void apply(std::int64_t sample, const T* u, const T* v, const T* x, T* out) const {
    constexpr std::int64_t most = 32;
    std::array<double, most> overlaps;
    const std::int64_t from = sample * memory_ * n_, count = counts_[static_cast<std::size_t>(sample)];
    if (count == 0) vec::copy(x, out, n_);
    for (std::int64_t first = 0; first < count; first += most) {
      const std::int64_t row = from + first * n_, pairs = std::min(most, count - first);
      simd::history<T>().dots(v + row, pairs, x, n_, overlaps.data());
      for (std::int64_t i = 0; i < pairs; ++i) overlaps[static_cast<std::size_t>(i)] *= -1.0;
      simd::history<T>().combine(first == 0 ? x : out, u + row, pairs, overlaps.data(), n_, out);
    }
  }

  std::int64_t memory_, n_;
  PoolVector<std::int64_t> counts_;  // pairs held
  Tensor u_, v_;
  T *u_data_, *v_data_;
};

}  // namespace banach
