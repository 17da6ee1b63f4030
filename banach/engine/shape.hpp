#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace banach {

/// Up to eight integers held in place: the extents of a tensor, or a list of axes. No heap memory.
class Ints {
 public:
  static constexpr int capacity = 8;

  Ints() = default;
  Ints(std::initializer_list<std::int64_t> values) : Ints(std::span(values.begin(), values.size())) {}
  /// Throws ShapeError for more than eight values.
  explicit Ints(std::span<const std::int64_t> values);

  int count() const { return count_; }
  bool empty() const { return count_ == 0; }
  std::int64_t operator[](int i) const { return values_[static_cast<std::size_t>(i)]; }
  std::int64_t& operator[](int i) { return values_[static_cast<std::size_t>(i)]; }
  const std::int64_t* begin() const { return values_.data(); }
  const std::int64_t* end() const { return values_.data() + count_; }
  std::int64_t* begin() { return values_.data(); }
  std::int64_t* end() { return values_.data() + count_; }
  void push_back(std::int64_t value);
  bool contains(std::int64_t value) const;
  bool operator==(const Ints& other) const {
    if (count_ != other.count_) return false;
    for (int i = 0; i < count_; ++i)
      if ((*this)[i] != other[i]) return false;
    return true;
  }
  /// "(2,3)"
  std::string to_string() const;

 private:
  std::array<std::int64_t, capacity> values_{};
  int count_ = 0;
};

using Axes = Ints;

/// Extents of a row-major tensor, outermost first; `()` is a scalar. At most eight axes.
class Shape : public Ints {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents) : Shape(Ints(extents)) {}
  /// Throws ShapeError on a negative extent or on more elements than 2^62.
  explicit Shape(const Ints& extents);

  int rank() const { return count(); }
  /// Number of elements; 1 for a scalar.
  std::int64_t size() const { return size(0, rank()); }
  /// Product of the extents of axes [from, to).
  std::int64_t size(int from, int to) const {
    std::int64_t product = 1;
    for (int i = from; i < to; ++i) product *= (*this)[i];
    return product;
  }
};

/// Axis in [0, rank), negative ones counted from the back. Throws ShapeError naming `op`.
int normalize_axis(std::int64_t axis, int rank, std::string_view op);

/// Sorted, distinct axes in [0, rank); an empty list means all axes. Throws ShapeError naming `op`.
Axes normalize_axes(const Axes& axes, int rank, std::string_view op);

/// Common shape of two operands under NumPy's broadcasting rule. Throws ShapeError naming `op`.
Shape broadcast(const Shape& a, const Shape& b, std::string_view op);

/// Shape after reducing `axes` (normalised); reduced axes stay as extent 1 if `keep_dims`.
Shape reduced(const Shape& shape, const Axes& axes, bool keep_dims);

}  // namespace banach
