#pragma once

#include <banach/nn/induced_norm.hpp>
#include <banach/nn/module.hpp>

#include <cstdint>
#include <optional>

namespace banach::nn {

struct PowerIterationOptions {
  int max_steps = 1000;     ///< after a change of the weight
  double tolerance = 1e-6;  ///< relative change of sigma in a step at which it ends
  /// Directions that are followed side by side for p = q = 2, at so many times the cost. One alone keeps to
  /// its own singular value for many updates after another has outgrown it; while training makes singular
  /// values alike, as under a bound, several of them keep the estimate right.
  int vectors = 1;
};

/// Where the norm of a linear map A that a weight defines is attained, A v = sigma u: for p = q = 2 unit
/// singular vectors of the largest singular value, by power iteration on A^T A (with several vectors, by
/// subspace iteration with Rayleigh and Ritz's step: Golub and Van Loan, "Matrix computations", section
/// 8.2.4); for other norms see induced_norm. They are found again only when the weight has changed, from
/// where they were (a few steps after an optimiser's), or from a fixed start if sigma has jumped. So between
/// two updates A's normalisation is a fixed map, and what a checkpoint holds decides what follows. The
/// estimate u^T A v is never above the true norm.
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
    visitor("left", left_)("right", right_)("sigma", sigma_)("origin", origin_)("others", others_);
  }

 private:
  void iterate(const Tensor& weight, const WeightedMap& map);
  void iterate_spectral(const Tensor& weight, const WeightedMap& map);
  Tensor start() const;

  // What the vectors belong to: quickly told by a parameter's identity and version, for good by its elements.
  struct Seen {
    std::uint64_t id, version;
    bool operator==(const Seen&) const = default;
  };

  PowerIterationOptions options_;
  InducedNorm norm_;
  Buffer left_, right_, sigma_;
  Buffer origin_;                 // a hash of the weight's elements; 0: none yet
  std::optional<Buffer> others_;  // (vectors - 1, size of input): the other directions
  std::optional<Seen> seen_;
};

}  // namespace banach::nn
