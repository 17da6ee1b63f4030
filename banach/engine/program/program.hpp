#pragma once
// Internal: a function recorded once and evaluated many times, without recording, dispatch or allocation,
// whole or in tiles of its rows. Eager evaluation is the specification.

#include <banach/engine/program/chain.hpp>

#include <optional>

namespace banach::program {

/// Which of a program's `rows` a frame is for: [begin, end), or of those the `chosen` ones, counted from
/// begin.
struct Part {
  std::int64_t begin, end, rows;
  std::span<const std::int64_t> chosen = {};  ///< empty: all of them

  std::int64_t count() const {
    return chosen.empty() ? end - begin : static_cast<std::int64_t>(chosen.size());
  }
  bool whole() const { return count() == rows; }
  /// The part's own rows of a constant, which has one or more of them for each row of the program.
  Tensor of(const Tensor& constant) const;
};

/// The memory of a program at some rows of its input: values have their places in it, once and for all.
/// Frames of one program may run at the same time; one frame may not.
class Frame {
 public:
  /// The code must outlive the frame.
  Frame(const Code& code, const Part& part);
  ~Frame();
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  /// The function at x, any shape with the right number of elements; the result has that shape too. Kernels
  /// run on this thread and those that parallel loops may use.
  Tensor run(const Tensor& x);
  /// Bytes of the values between input and output.
  std::int64_t bytes() const { return plan_.bytes; }

 private:
  void bind(std::int32_t value, const Part& part);
  void adopt(const Step& step);

  const Code& code_;
  Plan plan_;
  std::byte* memory_;
  Tensors values_;
  Vars inputs_;
  Tensors outputs_;
  PoolVector<Prepared> prepared_;  // of these rows
  PoolVector<Step> steps_;
  PoolVector<ChainRunner> chains_;
  PoolVector<std::int32_t> input_views_, output_views_;  // values that share the elements of input and output
};

class Tile;

/// A program and how it is cut. Rows are independent problems, `rows` of them; a program whose rows mix, or
/// one that must not be cut, is a single tile.
class Program {
 public:
  /// `row_bytes`: of what the caller keeps for each row beside the program's own values.
  Program(Code code, std::int64_t rows, std::int64_t row_bytes);

  std::int64_t tiles() const { return tiles_; }
  std::int64_t begin(std::int64_t tile) const { return tile * tile_rows_; }
  std::int64_t end(std::int64_t tile) const { return std::min(rows_, begin(tile) + tile_rows_); }
  Frame frame(std::int64_t tile) const { return Frame(code_, part(tile)); }
  Part part(std::int64_t tile) const { return {begin(tile), end(tile), rows_}; }
  /// Whether rows stay apart, so that any of them can be evaluated without the others.
  bool separable() const { return separable_; }
  const Code& code() const { return code_; }

  /// body(tile, index) for each tile, at the same time where threads are free; loops inside are then serial.
  /// The cut depends on the problem alone, so results do not depend on the number of threads.
  void for_tiles(FunctionRef<void(Tile& tile, std::int64_t index)> body) const;
  /// The function at the whole of x.
  Tensor run(const Tensor& x) const;

 private:
  Code code_;
  std::int64_t rows_, tile_rows_, tiles_;
  bool separable_ = false;
};

/// The rows of one tile, of which some leave on the way: once half of them are no longer wanted, what is
/// wanted gets a frame of its own.
class Tile {
 public:
  Tile(const Program& program, std::int64_t index);

  std::int64_t begin() const { return part_.begin; }
  std::int64_t end() const { return part_.end; }
  /// The function at x, all rows of the tile. Where `wanted`, one mark a row, is not empty, rows without one
  /// may come back as anything.
  Tensor run(const Tensor& x, std::span<const char> wanted = {});

 private:
  bool choose(std::span<const char> wanted);

  const Program& program_;
  Part part_;
  PoolVector<std::int64_t> chosen_;  // counted from begin(); empty for all
  std::optional<Frame> frame_;
};

}  // namespace banach::program
