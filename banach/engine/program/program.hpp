#pragma once
// Internal: a function recorded once and evaluated many times, without recording, dispatch or allocation,
// whole or in tiles of its rows. Eager evaluation is the specification.

#include <banach/engine/program/chain.hpp>

namespace banach::program {

/// The memory of a program at some rows of its input: values have their places in it, once and for all.
/// Frames of one program may run at the same time; one frame may not.
class Frame {
 public:
  /// For rows [begin, end) of `rows`; the code must outlive the frame.
  Frame(const Code& code, std::int64_t begin, std::int64_t end, std::int64_t rows);
  ~Frame();
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  /// The function at x, any shape with the right number of elements; the result has that shape too. Kernels
  /// run on this thread and those that parallel loops may use.
  Tensor run(const Tensor& x);
  /// Bytes of the values between input and output.
  std::int64_t bytes() const { return plan_.bytes; }

 private:
  void bind(std::int32_t value, std::int64_t begin, std::int64_t end, std::int64_t rows);
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

/// A program and how it is cut. Rows are independent problems, `rows` of them; a program whose rows mix, or
/// one that must not be cut, is a single tile.
class Program {
 public:
  /// `row_bytes`: of what the caller keeps for each row beside the program's own values.
  Program(Code code, std::int64_t rows, std::int64_t row_bytes);

  std::int64_t tiles() const { return tiles_; }
  std::int64_t begin(std::int64_t tile) const { return tile * tile_rows_; }
  std::int64_t end(std::int64_t tile) const { return std::min(rows_, begin(tile) + tile_rows_); }
  Frame frame(std::int64_t tile) const { return Frame(code_, begin(tile), end(tile), rows_); }
  const Code& code() const { return code_; }

  /// body(tile, frame, begin, end) for each tile, at the same time where threads are free; loops inside are
  /// then serial. The cut depends on the problem alone, so results do not depend on the number of threads.
  void for_tiles(
      FunctionRef<void(std::int64_t tile, Frame& frame, std::int64_t begin, std::int64_t end)> body) const;
  /// The function at the whole of x.
  Tensor run(const Tensor& x) const;

 private:
  Code code_;
  std::int64_t rows_, tile_rows_, tiles_;
};

}  // namespace banach::program
