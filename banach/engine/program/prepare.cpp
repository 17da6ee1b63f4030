#include <banach/engine/program/code.hpp>

namespace banach::program {
namespace {

// Bit k: input k stays the same.
std::uint64_t constants(const Code& code, const Instruction& i) {
  std::uint64_t result = 0;
  for (std::size_t k = 0; k < i.inputs.size(); ++k)
    if (!code.varies(i.inputs[k])) result |= std::uint64_t{1} << k;
  return result;
}

bool can_prepare(const Instruction& i) { return i.op->def().prepare && i.inputs.size() <= 64; }

bool tile_by_tile(const Code& code, const Instruction& i) {
  return i.op->def().prepare_rows && (constants(code, i) & i.by_rows) != 0;
}

}  // namespace

void prepare(Code& code) {
  Vars inputs;
  for (Instruction& i : code.instructions) {
    if (!can_prepare(i) || tile_by_tile(code, i)) continue;
    inputs.clear();
    for (const std::int32_t in : i.inputs) {
      const Value& value = code.value(in);
      inputs.push_back(Var(code.varies(in) ? Tensor::placeholder(value.shape, value.dtype) : value.constant));
    }
    if (const std::uint64_t constant = constants(code, i); constant != 0)
      i.prepared = i.op->def().prepare(inputs, constant, i.attrs);
  }
}

Prepared prepare_rows(const Code& code, const Instruction& i, std::span<const Var> inputs) {
  if (!can_prepare(i) || !tile_by_tile(code, i)) return nullptr;
  return i.op->def().prepare(inputs, constants(code, i), i.attrs);
}

}  // namespace banach::program
