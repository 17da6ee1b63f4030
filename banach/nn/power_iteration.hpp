#pragma once

#include <banach/nn/induced_norm.hpp>
#include <banach/nn/module.hpp>

#include <cstdint>
#include <optional>

namespace banach::nn {

struct PowerIterationOptions {
  int max_steps = 1000;     ///< after a change of the weight
  double tolerance = 1e-6;  ///< relative change of sigma in a step at which it ends
  /// For p = q = 2, the largest dimension of the Krylov spaces that are searched (see golub_kahan), half of
  /// whose start is random; 1 is plain power iteration. That one keeps to its singular value for many updates
  /// after another has outgrown it, and ends early where several lie close to each other, as they do once a
  /// bound has been met: on small convolutions in training it was too small by up to 1 %.
  int krylov = 1;
};

/// For layers whose bound must hold to 1e-3 after every step of training: there the error was at most 6e-4,
/// at the cost of some 40 products of one image with A and with A^T.
inline constexpr PowerIterationOptions close_power_iteration{.tolerance = 1e-5, .krylov = 32};

/// Where the norm of a linear map A that a weight defines is attained: for p = q = 2 unit vectors u and v of
/// the largest singular value, A v = sigma u, by power iteration on A^T A, or see golub_kahan; for other
/// norms see induced_norm. They are found again only when the weight has changed, from where they were (a few
/// steps after an optimiser's), or from a fixed start if sigma has jumped. So between two updates A's
/// normalisation is a fixed map, and what a checkpoint holds decides what follows. The estimate u^T A v is
/// never above the true norm.
class PowerIteration {
 public:
  /// For maps from tensors of shape `input` to shape `output`.
  PowerIteration(const Shape& input, const Shape& output, DType dtype, const PowerIterationOptions& options,
                 const InducedNorm& norm = {});

  /// Brings u and v up to date with a weight whose value is `value`. True if they had to be found again.
  bool update(const Parameter& weight, const Tensor& value, const WeightedMap& map);

  const Tensor& left() const { return left_.value; }    ///< u, of shape `output`
  const Tensor& right() const { return right_.value; }  ///< v, of shape `input`
  double sigma() const { return sigma_.value.item(); }  ///< u^T A v of the last update
  const InducedNorm& norm() const { return norm_; }
  void visit(Visitor& visitor) {
    visitor("left", left_)("right", right_)("sigma", sigma_)("origin", origin_);
  }

 private:
  void iterate(const Tensor& weight, const WeightedMap& map);
  void solve(const Tensor& weight, const WeightedMap& map, std::int64_t hash);
  void keep(NormingPair found);

  // What the vectors belong to: quickly told by a parameter's identity and version, for good by its elements.
  struct Seen {
    std::uint64_t id, version;
    bool operator==(const Seen&) const = default;
  };

  PowerIterationOptions options_;
  InducedNorm norm_;
  Buffer left_, right_, sigma_;
  Buffer origin_;  // a hash of the weight's elements; 0: none yet
  std::optional<Seen> seen_;
};

}  // namespace banach::nn
