#include <banach/engine/program/program.hpp>

#include <algorithm>

namespace banach::program {
namespace {

// What a core's own cache holds beside the parameters: half of a common second-level cache.
constexpr std::int64_t cache_bytes = 1 << 19;
// Products with fewer rows waste the arithmetic; more tiles than these keep any number of cores busy.
constexpr std::int64_t fewest_rows = 16, most_tiles = 16;
// Constants that no core's cache holds are fetched by every tile at every run: so many rows make up for it.
constexpr std::int64_t rows_of_large = 64;

std::int64_t shared_bytes(const Code& code) {
  std::int64_t bytes = 0;
  for (const Instruction& i : code.instructions)
    for (std::size_t k = 0; k < i.inputs.size(); ++k)
      if (const Value& value = code.value(i.inputs[k]); value.constant.defined() && (i.by_rows >> k & 1) == 0)
        bytes += value.shape.size() * static_cast<std::int64_t>(size_of(value.dtype));
  return bytes;
}

}  // namespace

Program::Program(Code code, std::int64_t rows, std::int64_t row_bytes)
    : code_(std::move(code)), rows_(rows), tile_rows_(rows), tiles_(1) {
  const Shape& state = code_.value(code_.input).shape;
  const bool cut = rows > 1 && state.rank() > 0 && state[0] == rows && cut_rows(code_);
  if (!cut)
    for (Instruction& i : code_.instructions) i.by_rows = 0;
  prepare(code_);
  fuse(code_);
  if (!cut) return;
  separable_ = true;
  const std::int64_t bytes = plan(code_, 1, rows).bytes + row_bytes;
  const std::int64_t fitting = std::max<std::int64_t>(1, cache_bytes / std::max<std::int64_t>(1, bytes));
  const std::int64_t shared = std::max(fewest_rows, (rows + most_tiles - 1) / most_tiles);
  const std::int64_t least = shared_bytes(code_) > 2 * cache_bytes ? rows_of_large : 1;
  const std::int64_t most = std::min(rows, std::max(least, std::min(fitting, shared)));
  tiles_ = (rows + most - 1) / most;
  tile_rows_ = (rows + tiles_ - 1) / tiles_;
  tiles_ = (rows + tile_rows_ - 1) / tile_rows_;
}

void Program::for_tiles(FunctionRef<void(Tile& tile, std::int64_t index)> body) const {
  const auto run = [&](std::int64_t index) {
    Tile tile(*this, index);
    body(tile, index);
  };
  if (tiles_ == 1) return run(0);
  parallel_for(tiles_, 1, [&](std::int64_t first, std::int64_t last) {
    const SerialLoops serial;
    for (std::int64_t index = first; index < last; ++index) run(index);
  });
}

Tensor Program::run(const Tensor& x) const {
  const Tensor at = x.reshape(code_.value(code_.input).shape);
  if (tiles_ == 1) return frame(0).run(x);
  Tensor result = Tensor::empty(x.shape(), x.dtype());
  dispatch_any(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = result.mutable_data<T>();
    const std::int64_t n = x.size() / rows_;
    for_tiles([&](Tile& tile, std::int64_t) {
      const Tensor part = tile.run(at.rows(tile.begin(), tile.end()));
      std::copy_n(part.data<T>(), part.size(), out + tile.begin() * n);
    });
  });
  return result;
}

}  // namespace banach::program
