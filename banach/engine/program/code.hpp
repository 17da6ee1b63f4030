#pragma once
// Internal: a recorded function as straight-line code. Each pass over it is a file of its own:
//   record.cpp  runs the function once on a tape and keeps what depends on its input; the rest are constants
//   rows.cpp    tells whether every instruction treats the rows of axis 0 one by one
//   prepare.cpp does once for all runs what operations can do with constants
//   fuse.cpp    joins elementwise instructions into chains, which run block by block
//   plan.cpp    gives each value its place in one stretch of memory, by liveness
// and frame.cpp runs the result without recording, dispatch or allocation; chain.cpp runs a chain for it, and
// tile.cpp leaves out rows that nobody wants any more.

#include <banach/engine/op.hpp>
#include <banach/engine/parallel.hpp>

#include <cstdint>

namespace banach::program {

/// What an instruction reads or writes, named by its index.
struct Value {
  Shape shape;
  DType dtype = DType::f32;
  Tensor constant = {};       ///< defined if the value does not depend on the input
  std::int32_t storage = -1;  ///< the value whose elements it shares under another shape; itself, if none
  bool local = false;         ///< nobody but its chain uses it, so that it never exists as a whole
};

struct Instruction {
  const Op* op;
  Attrs attrs;
  PoolVector<std::int32_t> inputs, outputs;
  std::uint64_t by_rows = 0;  ///< bit i: input i is read row by row (see OpDef::rows)
  Prepared prepared = {};     ///< see OpDef::prepare
  std::int32_t chain = -1;    ///< that it belongs to
};

/// Elementwise instructions [begin, end), whose outputs have one shape. Every input has that shape too, or is
/// the same for all indices of its first `axis` axes: the *rows* of the chain, which may run in any order.
struct Chain {
  std::int32_t begin, end;
  int axis;
};

struct Code {
  PoolVector<Value> values;
  PoolVector<Instruction> instructions;
  PoolVector<Chain> chains;
  std::int32_t input = -1, output = -1;

  const Value& value(std::int32_t i) const { return values[static_cast<std::size_t>(i)]; }
  /// The value whose elements value i has.
  std::int32_t storage(std::int32_t i) const { return value(i).storage; }
  bool varies(std::int32_t i) const { return !value(i).constant.defined(); }
};

struct Recorded {
  Code code;
  Tensor value;  ///< of the function where it was recorded
};

/// Records f at a point. Nodes that the output does not depend on are left out.
Recorded record(FunctionRef<Var(const Var&)> f, const Tensor& at);
/// The same without evaluating f (the value is then undefined), unless f looks at values on its way.
Recorded outline(FunctionRef<Var(const Var&)> f, const Tensor& at);

/// Does what can be done once for all runs: see OpDef::prepare. To come after the cut.
void prepare(Code& code);
/// The same for one instruction, its inputs being those of some rows, if it prepares each tile apart.
Prepared prepare_rows(const Code& code, const Instruction& instruction, std::span<const Var> inputs);

/// Whether row r of the output depends on row r of the input alone, rows being those of the input's axis 0 (a
/// value of k times as many has k for each). Where it does, tells each instruction which of its inputs to
/// cut.
bool cut_rows(Code& code);

/// Finds the chains, of two instructions at least.
void fuse(Code& code);

/// How a chain's rows are cut: `lanes` run at the same time, each of them block after block.
struct Blocks {
  std::int64_t rows, block, lanes;
  std::int64_t row_elements;  ///< of values that are cut
  std::int64_t lane_rows() const { return (rows + lanes - 1) / lanes; }
};
/// For `part` of `rows` equal parts of the input's rows.
Blocks blocks(const Code& code, const Chain& chain, std::int64_t part, std::int64_t rows);

/// Where values lie, in bytes from the start of a frame's memory; -1: elsewhere (constants, input and
/// output).
struct Plan {
  PoolVector<std::int64_t> offset;
  std::int64_t bytes = 0;

  static constexpr std::int64_t alignment = 64;
  /// Bytes of `elements`, up to the next multiple of the alignment.
  static std::int64_t aligned(std::int64_t elements, DType dtype) {
    return (elements * static_cast<std::int64_t>(size_of(dtype)) + alignment - 1) / alignment * alignment;
  }
};

/// For `part` of `rows` equal parts of the input's rows; where that is not all of them, the values must be
/// cut.
Plan plan(const Code& code, std::int64_t part, std::int64_t rows);

}  // namespace banach::program
