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
  /// Bit k: input k is this node's to destroy; from 30 on, all inputs are. Bit 31: so is its output. What a
  /// node does not own is kept by another one or by the graph.
  std::uint32_t owned = std::uint32_t{1} << 31;

  Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();
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
                   std::span<const Tensor> outputs, const Keep& keep);

 private:
  // Raw memory for a Var: nodes destroy those that they own.
  union Input {
    Input() {}   // NOLINT
    ~Input() {}  // NOLINT
    Var var;
  };

  const Tensor& placeholder_like(const Tensor& value);
  void store_input(Node& node, Var* at, std::size_t k, const Var& input, const Keep& keep);

  std::uint64_t serial_ = 0;
  Tensors placeholders_;  // shared by values of one shape that follow each other
  Slab<Input> inputs_;
  Slab<Node> nodes_;  // destroyed before what it refers to
};

}  // namespace banach
