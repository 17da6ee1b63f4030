#pragma once

#include <banach/engine/tensor.hpp>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

namespace banach {

class Op;

/// A value in a computation: a Tensor, and the node of the tape that computed it, if one did. A Var made from
/// a Tensor is a constant. Vars are values: cheap to copy, never changed by an operation.
///
/// After its tape has closed a Var still has its value; an operation on it while another tape records is a
/// TapeError that names both operations (use detach() to go on with the value as a constant).
class Var {
 public:
  Var() = default;
  /// A constant.
  Var(Tensor value) : value_(std::move(value)) {}  // NOLINT: implicit on purpose, a Tensor is a constant

  bool defined() const { return value_.defined(); }
  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  DType dtype() const { return value_.dtype(); }
  int rank() const { return value_.rank(); }
  std::int64_t size() const { return value_.size(); }
  std::int64_t size(int axis) const { return value_.size(axis); }
  /// The only element, as a double. Throws ShapeError unless there is exactly one.
  double item() const { return value_.item(); }

  /// True if it was recorded on a tape (which may have closed since).
  bool recorded() const { return tape_ != 0; }
  /// The same value as a constant.
  Var detach() const { return Var(value_); }
  /// The operation that computed it; null for constants and leaves.
  const Op* op() const { return op_; }

  // For the engine: the serial number of the tape and the node's index on it.
  std::uint64_t tape() const { return tape_; }
  std::int32_t node() const { return node_; }
  Var(Tensor value, std::uint64_t tape, std::int32_t node, const Op* op)
      : value_(std::move(value)), tape_(tape), op_(op), node_(node) {}
  /// The value, given up.
  Tensor release() && { return std::move(value_); }
  /// One that does not count among the owners of its value: an owner must live as long, and this one must
  /// never be destroyed or assigned to.
  struct Uncounted {};
  Var(Uncounted, const Tensor& value, std::uint64_t tape, std::int32_t node, const Op* op)
      : Var(value.uncounted(), tape, node, op) {}

 private:
  Tensor value_;
  std::uint64_t tape_ = 0;
  const Op* op_ = nullptr;
  std::int32_t node_ = -1;
};

/// A vector of Vars whose list of elements in braces is moved into it, not copied.
class Vars : public PoolVector<Var> {
 public:
  Vars() = default;
  explicit Vars(std::size_t count) : PoolVector<Var>(count) {}
  Vars(std::size_t count, const Var& x) : PoolVector<Var>(count, x) {}
  template <class Iterator>
  requires(!std::is_convertible_v<Iterator, Var> && !std::is_integral_v<Iterator>)
      Vars(Iterator first, Iterator last)
      : PoolVector<Var>(first, last) {}
  template <class... V>
  requires(sizeof...(V) > 0 && (std::is_convertible_v<V, Var> && ...)) Vars(V&&... values) {  // NOLINT
    reserve(sizeof...(V));
    (push_back(std::forward<V>(values)), ...);
  }
};

/// A Var among the elements of a list in braces. One that is moved from, or a temporary, is given up: its
/// buffer may be written to.
struct VarRef {
  VarRef(const Var& x) : var(&x) {}           // NOLINT: implicit on purpose
  VarRef(Var&& x) : var(&x), given_up(&x) {}  // NOLINT: implicit on purpose
  const Var* var;
  Var* given_up = nullptr;
};

/// Uncounted copies of a few Vars, side by side: to pass Vars that stand apart as one span, while they live.
class Borrowed {
 public:
  static constexpr std::size_t capacity = 8;
  Borrowed() {}  // NOLINT: vars_ stays raw
  /// Throws ValueError for more than eight.
  explicit Borrowed(std::initializer_list<VarRef> vars) {
    if (vars.size() > capacity) fail<ValueError>("inputs", "must be at most eight: use a Vars");
    for (const VarRef& ref : vars)
      push_back(ref.var->value(), ref.var->tape(), ref.var->node(), ref.var->op());
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  ~Borrowed() {}  // NOLINT: what is uncounted is not destroyed

  operator std::span<const Var>() const { return {vars_, count_}; }  // NOLINT: implicit on purpose

  void push_back(const Tensor& value, std::uint64_t tape, std::int32_t node, const Op* op) {
    std::construct_at(vars_ + count_++, Var::Uncounted{}, value, tape, node, op);
  }

 private:
  union {
    Var vars_[capacity];
  };
  std::size_t count_ = 0;
};

/// Constants of x's shape and dtype.
inline Var zeros_like(const Var& x) { return Var(Tensor::zeros(x.shape(), x.dtype())); }
inline Var ones_like(const Var& x) { return Var(Tensor::ones(x.shape(), x.dtype())); }

}  // namespace banach
