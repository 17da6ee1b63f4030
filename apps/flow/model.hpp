#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <apps/flow/options.hpp>
#include <banach/nn/act_norm.hpp>
#include <banach/nn/residual_flow.hpp>

namespace banach::flow {

DType dtype_of(const Architecture& architecture);

/// Points in the plane through ActNorm and residual blocks, in turn, to a normal distribution; and a
/// classifier of where they arrive, if there are classes.
class PointFlow {
 public:
  using Block = nn::ResidualBlock<nn::ContractiveMlp>;

  /// In evaluation its log-determinants are exact.
  PointFlow(const Architecture& architecture, const LogDetEstimator& estimator, std::uint64_t seed);

  nn::Transformed forward(const Var& x) const;
  /// log p(x) of each sample, in nats.
  Var log_density(const nn::Transformed& at) const;
  /// (n, classes).
  Var logits(const Var& z) const;

  struct Inverted {
    Var x;
    std::vector<SolveReport> reports;  ///< of the blocks, the last one first
    bool converged() const;
  };
  Inverted inverse(const Var& z) const;
  /// So many draws from the model.
  Inverted sample(std::int64_t count, std::uint64_t seed) const;

  const std::vector<Block>& blocks() const { return blocks_; }
  const std::vector<nn::ActNorm>& norms() const { return norms_; }
  DType dtype() const { return dtype_; }
  void visit(nn::Visitor& visitor);

 private:
  DType dtype_;
  std::vector<nn::ActNorm> norms_;  // one before each block, and one at the end
  std::vector<Block> blocks_;
  std::vector<nn::Linear> head_;
};

}  // namespace banach::flow
