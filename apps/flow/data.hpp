#pragma once
// What a flow is trained on, and what it is not: points in the plane, drawn anew for each step, or images in
// an order that each epoch shuffles.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <banach/engine/tensor.hpp>

namespace banach::flow {

/// The sets of points, then digits, mnist and fashion-mnist.
std::vector<std::string> data_names();
bool is_points(const std::string& data);

struct Labelled {
  Tensor x;       ///< points (n, 2) f64; images (n, 1, h, w) f32, whole numbers from 0 to levels - 1
  Tensor labels;  ///< (n), i64
};

struct DataKind {
  std::vector<std::int64_t> sample;  ///< the shape of one: {2}, {1, 28, 28}
  std::int64_t classes = 0;
  std::int64_t levels = 0;  ///< of a pixel; 0 for points

  std::int64_t entries() const;
};

class Source {
 public:
  virtual ~Source() = default;
  virtual DataKind kind() const = 0;
  /// Of one step of training. The same for the same step.
  virtual Labelled batch(std::int64_t size, std::uint64_t step) const = 0;
  /// So many (or, if there are fewer, all) that no training sees.
  virtual Labelled held_out(std::int64_t count) const = 0;
};

/// What to open: `reduce` averages squares of so many pixels a side.
struct DataSettings {
  std::string folder;  ///< of images; empty: where they usually are
  std::int64_t reduce = 1;
};
/// Throws FileError if the images are not there, cli::UsageError if `reduce` does not divide their size.
std::unique_ptr<Source> open_source(const std::string& data, const DataSettings& settings,
                                    std::uint64_t seed);

}  // namespace banach::flow
