#pragma once

#include <banach/engine/tensor.hpp>

#include <cstdint>
#include <vector>

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

 private:
  Tensor value_;
  std::uint64_t tape_ = 0;
  const Op* op_ = nullptr;
  std::int32_t node_ = -1;
};

using Vars = std::vector<Var, memory::PoolAllocator<Var>>;

/// Constants of x's shape and dtype.
inline Var zeros_like(const Var& x) { return Var(Tensor::zeros(x.shape(), x.dtype())); }
inline Var ones_like(const Var& x) { return Var(Tensor::ones(x.shape(), x.dtype())); }

}  // namespace banach
