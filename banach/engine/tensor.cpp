#include <banach/engine/tensor.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

namespace banach {
namespace {

constexpr std::size_t header_bytes = 128;  // keeps the elements behind the header aligned to 64

}  // namespace

Tensor::Block* Tensor::new_block(const Shape& shape, DType dtype, bool with_elements) {
  static_assert(sizeof(Block) <= header_bytes);
  const std::int64_t count = shape.size();
  if (with_elements && count > (std::int64_t{1} << 46))
    fail<ShapeError>("tensor", "too large for memory: " + shape.to_string());
  const std::size_t bytes =
      header_bytes + (with_elements ? static_cast<std::size_t>(count) * size_of(dtype) : 0);
  void* memory = memory::allocate(bytes);
  auto* block = new (memory) Block(shape, dtype);
  if (with_elements) block->data = static_cast<std::byte*>(memory) + header_bytes;
  block->bytes = bytes;
  return block;
}

void Tensor::destroy(Block* block) noexcept {
  Block* owner = block->owner;
  const std::size_t bytes = block->bytes;
  block->~Block();
  memory::release(block, bytes);
  // Owners have no owner themselves, so this is one level deep, never a chain.
  if (owner && last(*owner)) destroy(owner);
}

Tensor Tensor::empty(const Shape& shape, DType dtype) { return Tensor(new_block(shape, dtype, true)); }

Tensor Tensor::over(void* memory, const Shape& shape, DType dtype) {
  Tensor result(new_block(shape, dtype, false));
  result.block_->data = memory;
  result.block_->borrowed = true;
  return result;
}

void Tensor::move_to(void* memory) {
  if (!block_ || !block_->borrowed) fail<ValueError>("tensor", "only one over borrowed memory can be moved");
  block_->data = memory;
}

Tensor Tensor::placeholder(const Shape& shape, DType dtype) { return Tensor(new_block(shape, dtype, false)); }

Tensor Tensor::full(const Shape& shape, double value, DType dtype) {
  Tensor result = empty(shape, dtype);
  dispatch_any(dtype, [&](auto zero) {
    using T = decltype(zero);
    std::fill_n(result.mutable_data<T>(), result.size(), static_cast<T>(value));
  });
  return result;
}

Tensor Tensor::arange(std::int64_t n) {
  Tensor result = empty({n}, DType::i64);
  std::int64_t* out = result.mutable_data<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i) out[i] = i;
  return result;
}

Tensor Tensor::eye(std::int64_t n, DType dtype) {
  Tensor result = zeros({n, n}, dtype);
  dispatch_any(dtype, [&](auto zero) {
    using T = decltype(zero);
    T* out = result.mutable_data<T>();
    for (std::int64_t i = 0; i < n; ++i) out[i * n + i] = T{1};
  });
  return result;
}

Tensor Tensor::copy_of(const void* values, std::int64_t count, DType dtype, const Shape& shape) {
  if (count != shape.size())
    fail<ShapeError>("tensor",
                     fmt::format("{} values must fill the shape: got {}", shape.to_string(), count));
  Tensor result = empty(shape, dtype);
  if (count > 0) std::memcpy(result.block_->data, values, static_cast<std::size_t>(count) * size_of(dtype));
  return result;
}

void Tensor::refuse_undefined() {
  fail<ValueError>("tensor", "must be defined: it was default-constructed and never assigned");
}

void Tensor::refuse_access(DType dtype) const {
  if (block_->dtype != dtype)
    fail<DTypeError>("tensor", fmt::format("holds {}: accessed as {}", name(block_->dtype), name(dtype)));
  fail<ValueError>(
      "tensor",
      "values were not kept by the tape: an operation's vjp uses a value that its `saves` leaves out");
}

Tensor Tensor::clone() const {
  const Block& block = checked();
  check_type(block.dtype);
  return copy_of(block.data, block.size, block.dtype, block.shape);
}

Tensor Tensor::view(const Shape& shape, void* data) const {
  Block* view_block = new_block(shape, block_->dtype, false);
  view_block->data = data;
  view_block->owner = block_->owner ? block_->owner : block_;
  view_block->owner->references.fetch_add(1, std::memory_order_relaxed);
  return Tensor(view_block);
}

Tensor Tensor::reshape(const Shape& new_shape) const {
  if (new_shape.size() != size())
    fail<ShapeError>(
        "reshape", fmt::format("sizes must agree: {} has {} elements, {} has {}", shape().to_string(), size(),
                               new_shape.to_string(), new_shape.size()));
  if (new_shape == shape()) return *this;
  if (!block_->data) return placeholder(new_shape, dtype());
  return view(new_shape, block_->data);
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  check_type(checked().dtype);
  if (rank() == 0 || begin < 0 || end < begin || end > shape()[0])
    fail<ShapeError>(
        "rows", fmt::format("range must lie inside axis 0: [{}, {}) of {}", begin, end, shape().to_string()));
  Shape part = shape();
  part[0] = end - begin;
  const std::size_t row_bytes = static_cast<std::size_t>(shape().size(1, rank())) * size_of(dtype());
  return view(part, static_cast<std::byte*>(block_->data) + static_cast<std::size_t>(begin) * row_bytes);
}

double Tensor::item() const {
  if (size() != 1)
    fail<ShapeError>("item", "expects a tensor of one element: got shape " + shape().to_string());
  return at(0);
}

double Tensor::at(std::int64_t index) const {
  if (index < 0 || index >= size())
    fail<ShapeError>("at", fmt::format("index must lie in [0, {}): got {}", size(), index));
  return dispatch_any(dtype(), [&](auto zero) { return static_cast<double>(data<decltype(zero)>()[index]); });
}

Tensor Tensor::to(DType target) const {
  if (target == dtype()) return *this;
  Tensor result = empty(shape(), target);
  dispatch_any(dtype(), [&](auto from) {
    using From = decltype(from);
    dispatch_any(target, [&](auto into) {
      using Into = decltype(into);
      const From* in = data<From>();
      Into* out = result.mutable_data<Into>();
      for (std::int64_t i = 0; i < size(); ++i) out[i] = static_cast<Into>(in[i]);
    });
  });
  return result;
}

bool Tensor::all_finite() const {
  if (!is_floating(dtype())) return true;
  return dispatch_floating(dtype(), [&](auto zero) {
    const auto span = values<decltype(zero)>();
    return std::all_of(span.begin(), span.end(), [](auto x) { return std::isfinite(x); });
  });
}

namespace {

void print(std::string& text, const Tensor& t, int axis, std::int64_t& position) {
  if (axis == t.rank()) {
    text += t.dtype() == DType::i64 ? fmt::format("{}", static_cast<std::int64_t>(t.at(position)))
                                    : fmt::format("{:.6g}", t.at(position));
    ++position;
    return;
  }
  const std::int64_t extent = t.shape()[axis], inner = t.shape().size(axis + 1, t.rank());
  text += "[";
  for (std::int64_t i = 0; i < extent; ++i) {
    if (i) text += axis + 1 == t.rank() ? ", " : ",\n" + std::string(static_cast<std::size_t>(axis) + 1, ' ');
    if (extent > 8 && i == 4) {
      text += "...";
      position += (extent - 7) * inner;
      i = extent - 4;
      continue;
    }
    print(text, t, axis + 1, position);
  }
  text += "]";
}

}  // namespace

std::string Tensor::to_string() const {
  if (!defined()) return "undefined";
  std::string text;
  std::int64_t position = 0;
  if (has_data() || size() == 0) print(text, *this, 0, position);
  return text + fmt::format(" {}{}", name(dtype()), shape().to_string());
}

}  // namespace banach
