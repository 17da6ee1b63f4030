#include <banach/engine/error.hpp>
#include <banach/engine/shape.hpp>

#include <fmt/format.h>

#include <algorithm>

namespace banach {

Ints::Ints(std::span<const std::int64_t> values) {
  if (values.size() > capacity)
    fail<ShapeError>("shape", fmt::format("must have at most {} axes: got {}", capacity, values.size()));
  for (const std::int64_t value : values) push_back(value);
}

void Ints::push_back(std::int64_t value) {
  if (count_ == capacity) fail<ShapeError>("shape", fmt::format("must have at most {} axes", capacity));
  values_[static_cast<std::size_t>(count_++)] = value;
}

bool Ints::contains(std::int64_t value) const { return std::find(begin(), end(), value) != end(); }

std::string Ints::to_string() const {
  std::string text = "(";
  for (int i = 0; i < count_; ++i) text += (i ? "," : "") + std::to_string((*this)[i]);
  return text + ")";
}

Shape::Shape(const Ints& extents) : Ints(extents) {
  constexpr std::int64_t limit = std::int64_t{1} << 62;
  std::int64_t product = 1;
  bool empty = false;
  for (const std::int64_t extent : extents) {
    if (extent < 0) fail<ShapeError>("shape", "extents must not be negative: got " + extents.to_string());
    empty = empty || extent == 0;
    if (extent == 0) continue;
    if (product > limit / extent) fail<ShapeError>("shape", "too many elements: " + extents.to_string());
    product *= extent;
  }
}

int normalize_axis(std::int64_t axis, int rank, std::string_view op) {
  if (axis < -rank || axis >= rank)
    fail<ShapeError>(op, fmt::format("axis must lie in [{}, {}): got {}", -rank, rank, axis));
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

Axes normalize_axes(const Axes& axes, int rank, std::string_view op) {
  Axes result;
  if (axes.empty()) {
    for (int i = 0; i < rank; ++i) result.push_back(i);
    return result;
  }
  for (const std::int64_t axis : axes) result.push_back(normalize_axis(axis, rank, op));
  std::sort(result.begin(), result.end());
  if (std::adjacent_find(result.begin(), result.end()) != result.end())
    fail<ShapeError>(op, "axes must be distinct: got " + axes.to_string());
  return result;
}

Shape broadcast(const Shape& a, const Shape& b, std::string_view op) {
  const int rank = std::max(a.rank(), b.rank());
  Ints extents;
  for (int i = 0; i < rank; ++i) {
    const int ia = i - (rank - a.rank()), ib = i - (rank - b.rank());
    const std::int64_t ea = ia < 0 ? 1 : a[ia], eb = ib < 0 ? 1 : b[ib];
    if (ea != eb && ea != 1 && eb != 1)
      fail<ShapeError>(
          op, "shapes must broadcast (equal extents, or 1): " + a.to_string() + " with " + b.to_string());
    extents.push_back(ea == 1 ? eb : ea);
  }
  return Shape(extents);
}

Shape reduced(const Shape& shape, const Axes& axes, bool keep_dims) {
  Ints extents;
  for (int i = 0; i < shape.rank(); ++i) {
    if (!axes.contains(i))
      extents.push_back(shape[i]);
    else if (keep_dims)
      extents.push_back(1);
  }
  return Shape(extents);
}

}  // namespace banach
