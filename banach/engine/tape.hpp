#pragma once
// Recording. While a Tape is alive, operations on its Vars are recorded on it; at the closing brace it is
// freed whole.

#include <banach/engine/graph.hpp>

#include <cstdint>
#include <unordered_map>
#include <utility>

namespace banach {

/// Records the operations of its thread from its construction to its destruction. Tapes are told apart: a Var
/// of one tape used while another one records is a TapeError. Not copyable, not movable; belongs to one
/// thread.
class Tape {
 public:
  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// A new variable with this value: derivatives can be taken with respect to it. Throws DTypeError for i64.
  Var leaf(const Tensor& value);
  /// Number of nodes.
  std::int64_t size() const { return graph_.size(); }

  // For the engine.

  /// Says why x, input `index` of `op`, cannot be used by what this thread records now.
  [[noreturn]] static void refuse(const Var& x, std::string_view op, int index);
  /// The tape with this serial number is alive on some other thread.
  static bool on_other_thread(std::uint64_t serial);

  enum class Purpose {
    differentiate,  ///< keeps what vjps look at
    replay,         ///< keeps the values that do not depend on the inputs, and no other
    outline,        ///< the same, without even computing what depends on the inputs
  };
  struct Captures {
    Purpose purpose = Purpose::differentiate;
  };
  /// A child tape: Vars of the tapes around it may be used on it, and are captured as its leaves. One made
  /// for replays takes any other Var for a constant.
  explicit Tape(Captures captures);
  /// A leaf on which what is replayed depends; on an outline it has no elements.
  Var input(const Tensor& value);
  bool replays() const { return replays_; }
  bool outlines() const { return outlines_; }
  /// Whether the node depends on an input. Known to tapes made for replays.
  bool varies(std::int32_t node) const { return varies_[static_cast<std::size_t>(node)] != 0; }
  /// The innermost tape of this thread; null if there is none.
  static Tape* current();
  /// The same where operations are recorded now; null if they are not.
  static Tape* recorder();
  /// The tape with this serial number if it is alive on this thread; null otherwise.
  static Tape* find(std::uint64_t serial);
  /// Vars of the tape with this serial number may be used here, and are captured.
  bool may_capture_from(std::uint64_t serial) const;
  const Graph& graph() const { return graph_; }
  std::uint64_t serial() const { return serial_; }
  /// x as a Var of this tape, captured if need be; `op` and `index` word the error.
  Var place(const Var& x, std::string_view op, int index);
  /// Leaf for a value that has an identity of its own (a Parameter): the same leaf for the same key and
  /// buffer. It is made on the outermost tape that this one may capture from.
  Var keyed_leaf(std::uint64_t key, const Tensor& value);
  /// All leaves made for this key, on the tape where keyed_leaf makes them.
  Vars keyed_leaves(std::uint64_t key) const;
  /// Records one use of an operation; returns the node of the first output, or -1 where there is nothing to
  /// record.
  std::int32_t append(const Op& op, const Attrs& attrs, std::span<const Var> inputs,
                      std::span<const Tensor> outputs);
  /// Outer Vars captured so far and the leaves that stand for them here.
  const Vars& captured() const { return captured_; }
  const PoolVector<std::int32_t>& captured_leaves() const { return captured_leaves_; }
  /// Takes the recorded nodes out of the tape.
  Graph release_graph() { return std::exchange(graph_, Graph(serial_)); }

 private:
  struct OuterNode {
    std::uint64_t tape;
    std::int32_t node;
    bool operator==(const OuterNode&) const = default;
  };
  struct HashOuterNode {
    std::size_t operator()(const OuterNode& n) const {
      return n.tape * 0x9E3779B97F4A7C15ull + static_cast<std::uint64_t>(n.node);
    }
  };
  template <class Key, class Value, class Hash = std::hash<Key>>
  using PoolMap = std::unordered_map<Key, Value, Hash, std::equal_to<Key>,
                                     memory::PoolAllocator<std::pair<const Key, Value>>>;
  struct KeyedLeaf {
    Var leaf;
    std::int32_t previous;  // position of an older leaf of the same key, or -1
  };

  Tape(bool captures, Purpose purpose);
  Tape* outermost();
  Var add_leaf(const Tensor& value, bool varies);

  std::uint64_t serial_;
  Tape* enclosing_;
  bool captures_, replays_, outlines_;
  Graph graph_;
  PoolVector<char> varies_;  // a flag a node, on tapes for replays
  Vars captured_;
  PoolVector<std::int32_t> captured_leaves_;
  PoolMap<OuterNode, std::int32_t, HashOuterNode> imports_;  // outer Var -> its leaf here
  PoolVector<KeyedLeaf> keyed_;
  PoolMap<std::uint64_t, std::int32_t> newest_keyed_;  // key -> position in keyed_
};

/// While alive, operations of this thread are computed without being recorded.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  int saved_;
};

/// While alive, recording is on again inside a NoGrad (used where a function must be linearised).
class EnableGrad {
 public:
  EnableGrad();
  ~EnableGrad();
  EnableGrad(const EnableGrad&) = delete;
  EnableGrad& operator=(const EnableGrad&) = delete;

 private:
  int saved_;
};

/// A tape is alive on this thread and no NoGrad is.
bool recording();

/// A new leaf on the current tape. Throws TapeError if none is alive.
Var leaf(const Tensor& value);

}  // namespace banach
