#pragma once
// A map applied a fixed number of times: the explicit, weight-tied network of which fixed_point is the limit.

#include <banach/ops/implicit/backward.hpp>

namespace banach {

struct WeightTied {
  int layers = 12;  ///< how often the map is applied, at least 1
  /// 0: every layer is recorded. m > 0: only every m-th state is kept, and a sweep records the layers between
  /// two of them afresh, one segment at a time; see Unrolled.
  int checkpoint_every = 0;
};

/// z = f(f(... f(z0))). Gradients pass to z0 and to all that f captured, with and without checkpoints the
/// same, bit for bit, where f alone uses what it captured; of any order. A mask of nn::Dropout drawn outside
/// of f is the same in every layer, and when a segment is recorded again.
/// The report counts the layers as steps; its residual is that of the last one, ||f(z) - z|| for the z before
/// it, and its status max_steps (or non_finite): nothing was solved. Samples may be coupled by f. Throws
/// ShapeError or DTypeError if f does not keep z0's, ValueError for options outside their domain, and in a
/// sweep with checkpoints, which replay f's last call, for an f that decides by values what it does.
ImplicitSolution weight_tied(FunctionRef<Var(const Var&)> f, const Var& z0, const WeightTied& options = {});

}  // namespace banach
