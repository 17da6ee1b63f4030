#pragma once
// What a tape holds: nodes in the order in which they were computed, each naming its inputs by index. A Graph
// has no notion of recording (tape.hpp) or of derivatives (grad.hpp).

#include <banach/engine/op.hpp>
#include <banach/engine/slab.hpp>

#include <cstdint>
#include <span>

namespace banach {

/// One entry. A node with k outputs takes k consecutive entries: the first carries the operation, the other
/// k-1 only stand for its further outputs. So index order is always an order of computation.
struct Node {
  const Op* op = nullptr;  ///< null: a leaf, or a further output of the entry before
  Attrs attrs;
  std::span<const Var> inputs;  ///< node() is an index into the same graph, or -1 for a constant
  Tensor output;                ///< a placeholder where no derivative looks at the value
  std::int32_t outputs = 1;     ///< number of outputs; 0 for a further output
};

class Graph {
 public:
  Graph() = default;
  explicit Graph(std::uint64_t serial) : serial_(serial) {}
  /// Serial number of the tape that recorded it; Vars name their graph by it.
  std::uint64_t serial() const { return serial_; }
  std::int32_t size() const { return static_cast<std::int32_t>(nodes_.size()); }
  const Node& operator[](std::int32_t i) const { return nodes_[static_cast<std::size_t>(i)]; }
  /// Output i as a Var of the recording tape.
  Var var(std::int32_t i) const;

  std::int32_t add_leaf(Tensor value);
  /// Which values a node keeps; the others are cut down to their shapes.
  struct Keep {
    bool inputs, outputs;
    bool constants;  ///< inputs that are no node's output
  };
  /// Appends a node; returns the index of its first output. Inputs must already name nodes of this graph.
  std::int32_t add(const Op& op, const Attrs& attrs, std::span<const Var> inputs,
                   std::span<const Tensor> outputs, Keep keep);

 private:
  std::uint64_t serial_ = 0;
  Slab<Node> nodes_;
  Slab<Var> inputs_;
};

}  // namespace banach
