#pragma once
// Points in the plane to learn the density of: the usual five sets, drawn anew for each use.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <banach/engine/tensor.hpp>

namespace banach::flow {

/// 8-gaussians, checkerboard, two-spirals, pinwheel, moons.
const std::vector<std::string>& set_names();

struct Points {
  Tensor x;       ///< (count, 2), f64
  Tensor labels;  ///< (count), i64: which gaussian, square, spiral, arm or moon
};

/// Decided by seed and stream. Throws ValueError for an unknown set.
Points draw_points(const std::string& set, std::int64_t count, std::uint64_t seed, std::uint64_t stream);
std::int64_t classes_of(const std::string& set);

/// The logarithm of the true density at (n, 2) f64 points, (n), where it has a closed form.
std::optional<Tensor> true_log_density(const std::string& set, const Tensor& x);

}  // namespace banach::flow
