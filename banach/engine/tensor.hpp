#pragma once

#include <banach/engine/dtype.hpp>
#include <banach/engine/memory.hpp>
#include <banach/engine/shape.hpp>

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace banach {

/// A contiguous, row-major array of f32, f64 or i64: a value with shared storage. Copying is cheap (the
/// buffer is counted); writing through mutable_data() first takes a buffer of its own if another Tensor
/// shares it, so no copy ever sees a change made through another one. A default-constructed Tensor is
/// undefined.
class Tensor {
 public:
  Tensor() = default;
  Tensor(const Tensor& other) : block_(other.block_) { retain(); }
  Tensor(Tensor&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  Tensor& operator=(const Tensor& other) { return *this = Tensor(other); }
  Tensor& operator=(Tensor&& other) noexcept {
    Block* block = std::exchange(other.block_, nullptr);
    drop();
    block_ = block;
    return *this;
  }
  ~Tensor() { drop(); }

  /// Elements are not initialised.
  static Tensor empty(const Shape& shape, DType dtype);
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32) { return full(shape, 0.0, dtype); }
  static Tensor ones(const Shape& shape, DType dtype = DType::f32) { return full(shape, 1.0, dtype); }
  static Tensor full(const Shape& shape, double value, DType dtype = DType::f32);
  /// 0, 1, ..., n-1 as i64.
  static Tensor arange(std::int64_t n);
  /// Identity matrix (n,n).
  static Tensor eye(std::int64_t n, DType dtype = DType::f32);
  /// Copies `values`, whose number must fit `shape`. Throws ShapeError.
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape) {
    return copy_of(values.data(), static_cast<std::int64_t>(values.size()), dtype_of<T>(), shape);
  }
  /// Over memory that belongs to somebody else and must outlive it: writing goes through, whoever else shares
  /// it. For programs that plan their own memory.
  static Tensor over(void* memory, const Shape& shape, DType dtype);
  /// The same over other memory, for everybody who shares it. Only for tensors made by `over`.
  void move_to(void* memory);
  /// Shape and dtype without elements: what a tape keeps of a tensor whose values no derivative needs.
  static Tensor placeholder(const Shape& shape, DType dtype);

  bool defined() const { return block_ != nullptr; }
  bool has_data() const { return block_ && block_->data; }
  const Shape& shape() const { return checked().shape; }
  DType dtype() const { return checked().dtype; }
  int rank() const { return shape().rank(); }
  std::int64_t size() const { return checked().size; }
  /// Extent of one axis, negative ones counted from the back.
  std::int64_t size(int axis) const { return shape()[normalize_axis(axis, rank(), "size")]; }

  /// Read access. Throws DTypeError when T is not the element type.
  template <class T>
  const T* data() const {
    check_type(dtype_of<T>());
    return static_cast<const T*>(block_->data);
  }
  /// Write access; takes an own buffer first if this one is shared.
  template <class T>
  T* mutable_data() {
    check_type(dtype_of<T>());
    make_unique();
    return static_cast<T*>(block_->data);
  }
  template <class T>
  std::span<const T> values() const {
    return {data<T>(), static_cast<std::size_t>(size())};
  }

  /// The only element, as a double. Throws ShapeError unless there is exactly one.
  double item() const;
  /// Element at row-major position `index`, as a double. Throws ShapeError outside [0, size).
  double at(std::int64_t index) const;
  /// The same elements under another shape of the same size (shares the buffer). Throws ShapeError.
  Tensor reshape(const Shape& shape) const;
  /// Rows [begin, end) of axis 0 (shares the buffer). Throws ShapeError.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  Tensor to(DType dtype) const;
  Tensor clone() const;
  /// True if no other Tensor shares the elements: they may then be overwritten in place.
  bool unique() const {
    if (!block_ || block_->borrowed || !sole(*block_)) return false;
    const Block* owner = block_->owner;
    return !owner || (!owner->borrowed && sole(*owner));
  }
  /// For the engine: a copy that does not count among the owners. It must never be destroyed or assigned to,
  /// unless it is forgotten before.
  Tensor uncounted() const { return Tensor(block_); }
  void forget() { block_ = nullptr; }
  /// True if both are copies of one Tensor.
  bool is(const Tensor& other) const { return block_ == other.block_; }
  /// True if both share the very same elements (not merely equal ones).
  bool same_storage(const Tensor& other) const {
    return block_ && other.block_ && block_->data == other.block_->data;
  }
  /// Every element finite (i64: always).
  bool all_finite() const;
  std::string to_string() const;

 private:
  // One allocation holds this header and, for owners, the elements behind it. A view points into its owner.
  struct Block {
    Block(const Shape& s, DType t) : dtype(t), shape(s), size(s.size()) {}
    std::atomic<std::uint32_t> references{1};
    DType dtype;
    bool borrowed = false;  // the elements are another's
    Shape shape;
    std::int64_t size;
    void* data = nullptr;
    Block* owner = nullptr;
    std::size_t bytes = 0;
  };

  explicit Tensor(Block* block) : block_(block) {}
  static Tensor copy_of(const void* values, std::int64_t count, DType dtype, const Shape& shape);
  static Block* new_block(const Shape& shape, DType dtype, bool with_elements);
  Tensor view(const Shape& shape, void* data) const;
  static void destroy(Block* block) noexcept;

  void retain() const {
    if (block_) block_->references.fetch_add(1, std::memory_order_relaxed);
  }
  void drop() noexcept {
    if (block_ && last(*block_)) destroy(block_);
  }
  static bool sole(const Block& block) { return block.references.load(std::memory_order_acquire) == 1; }
  /// Gives up one reference; true if it was the last. A sole owner need not pay for an atomic subtraction:
  /// nobody else is there to take or give up another.
  static bool last(Block& block) {
    return sole(block) || block.references.fetch_sub(1, std::memory_order_acq_rel) == 1;
  }
  const Block& checked() const {
    if (!block_) refuse_undefined();
    return *block_;
  }
  void check_type(DType dtype) const {
    const Block& block = checked();
    if (block.dtype != dtype || (!block.data && block.size > 0)) refuse_access(dtype);
  }
  void make_unique() {
    if (!block_->borrowed && !unique()) *this = clone();
  }
  [[noreturn]] static void refuse_undefined();
  [[noreturn]] void refuse_access(DType dtype) const;

  Block* block_ = nullptr;
};

using Tensors = std::vector<Tensor, memory::PoolAllocator<Tensor>>;

/// A vector or tensor from literals: `tensor({1.0, 2.0})` is f64, `tensor({1.f, 2.f}, {2, 1})` is f32.
template <class T>
Tensor tensor(std::initializer_list<T> values, const Shape& shape) {
  return Tensor::from(std::span<const T>(values.begin(), values.size()), shape);
}
template <class T>
Tensor tensor(std::initializer_list<T> values) {
  return tensor(values, Shape{static_cast<std::int64_t>(values.size())});
}
template <class T>
Tensor tensor(const std::vector<T>& values, const Shape& shape) {
  return Tensor::from(std::span<const T>(values), shape);
}
/// A scalar of the given dtype.
inline Tensor scalar(double value, DType dtype = DType::f32) { return Tensor::full({}, value, dtype); }

}  // namespace banach
