#include <banach/engine/program/program.hpp>

#include <algorithm>
#include <cstring>

namespace banach::program {

Tile::Tile(const Program& program, std::int64_t index) : program_(program), part_(program.part(index)) {
  frame_.emplace(program.code(), part_);
}

Tensor Tile::run(const Tensor& x, std::span<const char> wanted) {
  if (program_.separable() && choose(wanted)) {
    part_.chosen = chosen_;
    frame_.emplace(program_.code(), part_);
  }
  if (chosen_.empty()) return frame_->run(x);

  // The chosen rows, one after another, through the frame and back to their places.
  const std::int64_t rows = end() - begin(), n = x.size() / rows;
  const auto count = static_cast<std::int64_t>(chosen_.size());
  Tensor result = x.clone();
  dispatch_any(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Tensor packed = Tensor::empty({count, n}, x.dtype());
    T* to = packed.mutable_data<T>();
    for (const std::int64_t row : chosen_) to = std::copy_n(x.data<T>() + row * n, n, to);
    const Tensor value = frame_->run(packed);
    const T* from = value.data<T>();
    T* out = result.mutable_data<T>();
    for (const std::int64_t row : chosen_) {
      std::copy_n(from, n, out + row * n);
      from += n;
    }
  });
  return result;
}

// True if another frame is called for: wanted rows are missing in this one, or make up half of it at most.
bool Tile::choose(std::span<const char> wanted) {
  const std::int64_t rows = end() - begin(), chosen = chosen_.empty() ? rows : std::ssize(chosen_);
  const std::int64_t count =
      wanted.empty() ? rows
                     : std::count_if(wanted.begin(), wanted.end(), [](char mark) { return mark != 0; });
  std::int64_t found = count;
  if (!chosen_.empty() && !wanted.empty())
    found = std::count_if(chosen_.begin(), chosen_.end(),
                          [&](std::int64_t row) { return wanted[static_cast<std::size_t>(row)] != 0; });
  const bool missing = chosen < count || found < count;
  if (!missing && (2 * count > chosen || count == 0)) return false;
  chosen_.clear();
  if (count < rows)
    for (std::int64_t row = 0; row < rows; ++row)
      if (wanted[static_cast<std::size_t>(row)]) chosen_.push_back(row);
  return true;
}

}  // namespace banach::program
