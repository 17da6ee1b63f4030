#pragma once
// Random vectors for estimates of traces: E[v v^T] = I.

#include <banach/engine/random.hpp>
#include <banach/engine/tensor.hpp>

namespace banach {

enum class Probe : std::uint8_t {
  gaussian,    ///< standard normal entries
  rademacher,  ///< -1 and 1, equally likely: the smaller variance, none at all for a diagonal J
};

/// Of this shape, f32 or f64. The bits do not depend on the number of threads.
Tensor draw(Random& random, Probe probe, const Shape& shape, DType dtype);

}  // namespace banach
