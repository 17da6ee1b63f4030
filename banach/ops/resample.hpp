#pragma once
// Internal: linear maps of the rows and of the columns of images: what average pooling and upsampling have in
// common.

#include <banach/engine/op.hpp>

namespace banach {

/// A sparse matrix whose rows are windows: output i is the sum of weights[begin[i] + j] times input
/// first[i] + j. As i grows, neither the first nor the last input of its window goes back, so that the
/// transpose has windows too; adding one that does throws ValueError.
class Windowing {
 public:
  explicit Windowing(std::int64_t inputs) : inputs_(inputs) {}
  /// The next output: weights of the inputs from `first` on.
  void add(std::int64_t first, std::span<const double> weights);
  /// The next output: `count` inputs of one weight.
  void add(std::int64_t first, std::int64_t count, double weight);

  std::int64_t inputs() const { return inputs_; }
  std::int64_t outputs() const { return static_cast<std::int64_t>(first_.size()); }
  std::int64_t first(std::int64_t i) const { return first_[static_cast<std::size_t>(i)]; }
  std::span<const double> weights(std::int64_t i) const {
    const auto at = static_cast<std::size_t>(i);
    return std::span(weights_).subspan(begin_[at], begin_[at + 1] - begin_[at]);
  }
  std::int64_t terms() const { return static_cast<std::int64_t>(weights_.size()); }
  Windowing transposed() const;

 private:
  void start(std::int64_t first, std::int64_t count);

  std::int64_t inputs_;
  PoolVector<std::int64_t> first_;
  PoolVector<std::size_t> begin_{0};
  PoolVector<double> weights_;
};

/// Each image of x (n, c, h, w), mapped along its rows' axis and along its columns' axis: (n, c,
/// rows.outputs(), columns.outputs()). Windows without inputs give 0.
Var resample2d(const Var& x, const Windowing& rows, const Windowing& columns);

}  // namespace banach
