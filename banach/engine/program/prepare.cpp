#include <banach/engine/program/code.hpp>

namespace banach::program {

void prepare(Code& code) {
  Vars inputs;
  for (Instruction& i : code.instructions) {
    const OpDef& def = i.op->def();
    if (!def.prepare || i.inputs.size() > 64) continue;
    inputs.clear();
    std::uint64_t constant = 0;
    for (std::size_t k = 0; k < i.inputs.size(); ++k) {
      const Value& value = code.value(i.inputs[k]);
      const bool known = value.constant.defined();
      if (known) constant |= std::uint64_t{1} << k;
      inputs.push_back(Var(known ? value.constant : Tensor::placeholder(value.shape, value.dtype)));
    }
    if (constant != 0) i.prepared = def.prepare(inputs, constant, i.attrs);
  }
}

}  // namespace banach::program
