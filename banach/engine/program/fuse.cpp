#include <banach/engine/program/code.hpp>

#include <algorithm>

namespace banach::program {
namespace {

// What the values of a chain may take together without being cut, which is what a second-level cache holds;
// and what those of one block take: smaller blocks end before the processor has learned to fetch ahead.
constexpr std::int64_t whole_bytes = 1 << 19, block_bytes = 1 << 18;
// Elements of a lane, and number of them: enough for any number of cores.
constexpr std::int64_t lane_elements = 1 << 15, most_lanes = 16;

// The number of leading axes of `shape` along which an input is the same; nothing if its broadcasting
// alternates. An input that has the shape is cut along all of them.
int fixed_axes(const Shape& input, const Shape& shape) {
  int axis = shape.rank() - input.rank();
  while (axis < shape.rank() && input[axis - shape.rank() + input.rank()] == 1) ++axis;
  return axis;
}

class Fusion {
 public:
  explicit Fusion(Code& code) : code_(code) {}

  void run() {
    const auto count = static_cast<std::int32_t>(code_.instructions.size());
    for (std::int32_t i = 0; i < count; ++i) {
      if (!fuses(at(i))) continue;
      const Shape& shape = shape_of(at(i));
      Chain chain{i, i, shape.rank()};
      while (chain.end < count && fuses(at(chain.end)) && shape_of(at(chain.end)) == shape) {
        const int axis = std::min(chain.axis, axes(at(chain.end), shape));
        if (axis == 0) break;
        chain.axis = axis;
        ++chain.end;
      }
      if (chain.end - chain.begin < 2) continue;
      for (std::int32_t k = chain.begin; k < chain.end; ++k)
        at(k).chain = static_cast<std::int32_t>(code_.chains.size());
      code_.chains.push_back(chain);
      i = chain.end - 1;
    }
    mark_local();
  }

 private:
  Instruction& at(std::int32_t i) const { return code_.instructions[static_cast<std::size_t>(i)]; }
  const Shape& shape_of(const Instruction& i) const { return code_.value(i.outputs.front()).shape; }

  static bool fuses(const Instruction& i) {
    const OpDef& def = i.op->def();
    return def.kind == OpKind::elementwise && !def.view && !i.prepared && i.outputs.size() == 1;
  }

  // Along how many leading axes this instruction may be cut.
  int axes(const Instruction& i, const Shape& shape) const {
    int axis = shape.rank();
    for (const std::int32_t in : i.inputs)
      if (const Shape& input = code_.value(in).shape; !(input == shape))
        axis = std::min(axis, fixed_axes(input, shape));
    return axis;
  }

  // Values that are made in a chain and used in no other place.
  void mark_local() {
    PoolVector<char> elsewhere(code_.values.size(), 0);
    elsewhere[static_cast<std::size_t>(code_.storage(code_.output))] = 1;
    PoolVector<std::int32_t> made_in(code_.values.size(), -1);
    for (const Instruction& i : code_.instructions) {
      for (const std::int32_t in : i.inputs) {
        const auto storage = static_cast<std::size_t>(code_.storage(in));
        if (made_in[storage] != i.chain) elsewhere[storage] = 1;
      }
      for (const std::int32_t out : i.outputs) made_in[static_cast<std::size_t>(out)] = i.chain;
    }
    for (std::size_t v = 0; v < code_.values.size(); ++v)
      code_.values[v].local = made_in[v] >= 0 && elsewhere[v] == 0;
  }

  Code& code_;
};

}  // namespace

void fuse(Code& code) { Fusion(code).run(); }

Blocks blocks(const Code& code, const Chain& chain, std::int64_t part, std::int64_t rows) {
  const auto at = [&](std::int32_t i) -> const Instruction& {
    return code.instructions[static_cast<std::size_t>(i)];
  };
  const Shape& shape = code.value(at(chain.begin).outputs.front()).shape;
  Blocks result{1, 1, 1, 1};
  for (int axis = 0; axis < shape.rank(); ++axis)
    (axis < chain.axis ? result.rows : result.row_elements) *= shape[axis];
  if (part != rows) result.rows = result.rows / rows * part;

  std::int64_t row_bytes = 0;
  for (std::int32_t i = chain.begin; i < chain.end; ++i) {
    const Value& out = code.value(at(i).outputs.front());
    row_bytes += result.row_elements * static_cast<std::int64_t>(size_of(out.dtype));
  }
  if (result.rows * row_bytes <= whole_bytes) {
    result.block = result.rows;
    return result;
  }
  result.block = std::max<std::int64_t>(1, block_bytes / row_bytes);
  result.lanes =
      std::min({most_lanes, result.rows * result.row_elements / lane_elements, result.rows / result.block});
  result.lanes = std::max<std::int64_t>(1, result.lanes);
  result.block = std::min(result.block, result.lane_rows());
  return result;
}

}  // namespace banach::program
