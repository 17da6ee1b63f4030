#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include <apps/flow/options.hpp>
#include <banach/nn/act_norm.hpp>
#include <banach/nn/dequantize.hpp>
#include <banach/nn/logit_transform.hpp>
#include <banach/nn/multi_scale_flow.hpp>
#include <banach/nn/residual_flow.hpp>
#include <banach/nn/squeeze.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::flow {

using DenseBlock = nn::ResidualBlock<nn::ContractiveMlp>;
using ConvBlock = nn::ResidualBlock<nn::ContractiveConvNet>;

/// One map of a flow.
struct Part {
  std::variant<nn::Dequantize, nn::LogitTransform, nn::Squeeze, nn::ActNorm, nn::FactorOut, DenseBlock,
               ConvBlock>
      map;

  void visit(nn::Visitor& visitor) {
    std::visit([&](auto& m) { m.visit(visitor); }, map);
  }
};

template <class Map>
concept ResidualMap = requires(const Map& map, const Var& y) {
  map.solve(y);
};

DType dtype_of(const Architecture& architecture);

/// Points, or images of gray levels, through ActNorm and residual blocks, in turn, to a normal distribution;
/// and a classifier of where they arrive, if there are classes. Images are dequantised and taken to the whole
/// line first, if they are to be weighed, and squeezed while their sides are even and above 7, or as often as
/// there are scales. At each scale but the last half of the channels leave, normed as all that arrives is.
///
/// z is one row a sample, (n, entries): what left at each scale, the first one first, and what came to the
/// end. So the classifier sees all of it, as it does of one scale.
class FlowModel {
 public:
  FlowModel(const Architecture& architecture, const LogDetEstimator& estimator, std::uint64_t seed);

  /// With the report of each block's log-determinant, first to last.
  struct Transformed : nn::Transformed {
    std::vector<LogDetReport> reports;
  };
  Transformed forward(const Var& x) const;
  /// The same y, without its log-determinant.
  Var transform(const Var& x) const;
  /// log p(x) of each sample, in nats.
  Var log_density(const nn::Transformed& at) const;
  /// (n, classes).
  Var logits(const Var& z) const;

  struct Inverted {
    Var x;
    std::vector<SolveReport> reports;  ///< of the blocks, the last one first
    std::int64_t failed() const;       ///< samples of which a block was not inverted
  };
  /// Down to the input of part number `first`.
  Inverted inverse(const Var& z, std::size_t first = 0) const;
  /// So many draws from the model.
  Inverted sample(std::int64_t count, std::uint64_t seed) const;

  /// Leads x to z: step(i, map, x) gives what part number i makes of x, be it map.forward(x).y; what leaves
  /// on the way is seen to here.
  template <class Step>
  Var lead(const Var& x, Step step) const;

  const std::vector<Part>& parts() const { return parts_; }
  /// The first part whose inverse gives back what it took: that after dequantisation.
  std::size_t first_exact() const;
  std::int64_t blocks() const;
  std::int64_t scales() const;                       ///< one more than there are parts that factor out
  std::int64_t entries() const { return entries_; }  ///< of a sample
  DType dtype() const { return dtype_; }
  void visit(nn::Visitor& visitor);

 private:
  void add_dense(const Architecture& architecture, const LogDetEstimator& estimator, Random& random);
  void add_convolutions(const Architecture& architecture, const LogDetEstimator& estimator, Random& random);

  DType dtype_;
  std::int64_t entries_;
  std::vector<Part> parts_;
  std::vector<std::int64_t> end_;  // the shape of what comes to the end of a sample
  std::vector<nn::Linear> head_;
};

template <class Step>
Var FlowModel::lead(const Var& x, Step step) const {
  Var at = x;
  Vars z;
  for (std::size_t i = 0; i < parts_.size(); ++i)
    std::visit(
        [&](const auto& map) {
          if constexpr (std::same_as<std::decay_t<decltype(map)>, nn::FactorOut>) {
            nn::FactorOut::Halves halves = map.forward(at);
            z.push_back(flatten(halves.gone));
            at = std::move(halves.rest);
          } else {
            at = step(i, map, at);
          }
        },
        parts_[i].map);
  z.push_back(flatten(at));
  return z.size() == 1 ? z.front() : concat(z, 1);
}

/// Samples of so many entries have their log-determinants taken exactly in evaluation.
inline constexpr std::int64_t most_exact = 64;

/// How log-determinants are found in evaluation: exactly, or by a roulette that takes twenty terms before it
/// begins, for each sample by a draw of its own. Its variance is finite for a constant up to 0.99, where g
/// keeps to it; beyond, that would take more than a hundred further terms in the mean. The reports tell.
LogDetEstimator evaluation_estimator(std::int64_t entries, double lipschitz);

}  // namespace banach::flow
