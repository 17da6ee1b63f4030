#pragma once

#include <banach/nn/module.hpp>

#include <cstdint>
#include <optional>

namespace banach::nn {

struct PowerIterationOptions {
  int max_steps = 1000;     ///< after a change of the weight
  double tolerance = 1e-6;  ///< relative change of sigma in a step at which it ends
};

/// Unit singular vectors u and v of the largest singular value of a linear map A that a weight defines, A v =
/// sigma u, by power iteration on A^T A. They are found again only when the weight has changed, from where
/// they were (a few steps after an optimiser's), or from a fixed start if sigma has jumped. So between two
/// updates A's normalisation is a fixed map, and what a checkpoint holds decides what follows. The estimate
/// u^T A v is never above the true sigma.
class PowerIteration {
 public:
  using Map = FunctionRef<Tensor(const Tensor&)>;

  /// A maps tensors of shape `input` to shape `output`.
  PowerIteration(const Shape& input, const Shape& output, DType dtype, const PowerIterationOptions& options);

  /// Brings u and v up to date with a weight whose value is `value`: A and A^T are its map and the transposed
  /// one.
  void update(const Parameter& weight, const Tensor& value, Map apply, Map apply_transposed);

  const Tensor& left() const { return left_.value; }    ///< u, of shape `output`
  const Tensor& right() const { return right_.value; }  ///< v, of shape `input`
  void visit(Visitor& visitor) {
    visitor("left", left_)("right", right_)("sigma", sigma_)("origin", origin_);
  }

 private:
  void iterate(Map apply, Map apply_transposed);

  // What the vectors belong to: quickly told by a parameter's identity and version, for good by its elements.
  struct Seen {
    std::uint64_t id, version;
    bool operator==(const Seen&) const = default;
  };

  PowerIterationOptions options_;
  Buffer left_, right_, sigma_;
  Buffer origin_;  // a hash of the weight's elements; 0: none yet
  std::optional<Seen> seen_;
};

}  // namespace banach::nn
