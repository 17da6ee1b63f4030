#include <banach/nn/weight_norm.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::nn {
namespace {

// Norms of the rows of v (out, ...), as (out).
Var row_norms(const Var& v) { return sqrt(sum(square(flatten(v)), {1})); }

Parameter starting_magnitude(const Parameter& direction) {
  const NoGrad off;
  return Parameter(row_norms(direction).value());
}

}  // namespace

Var weight_norm(const Var& direction, const Var& magnitude) {
  Ints column{direction.size(0)};
  while (column.count() < direction.rank()) column.push_back(1);
  return direction * reshape(magnitude / row_norms(direction), column);
}

WeightNormLinear::WeightNormLinear(std::int64_t in, std::int64_t out, Random& random,
                                   const LinearOptions& options, bool normalised) {
  Linear start(in, out, random, options);
  direction = std::move(start.weight);
  if (normalised) magnitude = starting_magnitude(direction);
  bias = std::move(start.bias);
}

WeightNormConv2d::WeightNormConv2d(std::int64_t in, std::int64_t out, Pair kernel, Random& random,
                                   const ConvOptions& options)
    : geometry(options.geometry()) {
  Conv2d start(in, out, kernel, random, options);
  direction = std::move(start.weight);
  magnitude = starting_magnitude(direction);
  bias = std::move(start.bias);
}

}  // namespace banach::nn
