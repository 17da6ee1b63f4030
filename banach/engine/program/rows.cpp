#include <banach/engine/program/code.hpp>

namespace banach::program {
namespace {

class Cut {
 public:
  explicit Cut(const Code& code) : code_(code), rows_(code.value(code.input).shape) {}

  // A value of k rows for each of the input's: k >= 1 consecutive ones belong to the same row of the input.
  bool divides(const Value& value) const {
    return value.shape.rank() > 0 && value.shape[0] > 0 && value.shape[0] % rows_[0] == 0;
  }

  bool instruction(Instruction& i) const {
    Vars inputs;
    Tensors outputs;
    for (const std::int32_t in : i.inputs) {
      const Value& value = code_.value(in);
      inputs.push_back(
          Var(value.constant.defined() ? value.constant : Tensor::placeholder(value.shape, value.dtype)));
    }
    for (const std::int32_t out : i.outputs) {
      const Value& value = code_.value(out);
      if (!divides(value) || value.shape[0] != code_.value(i.outputs.front()).shape[0]) return false;
      outputs.push_back(Tensor::placeholder(value.shape, value.dtype));
    }
    const RowInputs by_rows = row_inputs(*i.op, {inputs, outputs, i.attrs});
    if (!by_rows || i.inputs.size() > 64) return false;
    for (std::size_t k = 0; k < i.inputs.size(); ++k) {
      const Value& value = code_.value(i.inputs[k]);
      const bool cut = (*by_rows >> k & 1) != 0;
      if (!cut && !value.constant.defined()) return false;
      if (cut && (!divides(value) || value.shape[0] != outputs.front().shape()[0])) return false;
    }
    i.by_rows = *by_rows;
    return true;
  }

 private:
  const Code& code_;
  const Shape& rows_;
};

}  // namespace

bool cut_rows(Code& code) {
  const Shape& rows = code.value(code.input).shape;
  if (rows.rank() == 0 || rows[0] < 2) return false;
  const Cut cut(code);
  for (const Value& value : code.values)
    if (!value.constant.defined() && !cut.divides(value)) return false;
  for (Instruction& i : code.instructions)
    if (!cut.instruction(i)) return false;
  return cut.divides(code.value(code.output)) && code.value(code.output).shape[0] == rows[0];
}

}  // namespace banach::program
