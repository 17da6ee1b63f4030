#include <banach/engine/graph.hpp>

#include <limits>

namespace banach {

Var Graph::var(std::int32_t i) const {
  std::int32_t first = i;
  while ((*this)[first].outputs == 0) --first;
  return Var((*this)[i].output, serial_, i, (*this)[first].op);
}

std::int32_t Graph::add_leaf(Tensor value) {
  const std::int32_t index = size();
  nodes_.push_back({.op = nullptr, .attrs = {}, .inputs = {}, .output = std::move(value)});
  return index;
}

std::int32_t Graph::add(const Op& op, const Attrs& attrs, std::span<const Var> inputs,
                        std::span<const Tensor> outputs, Keep keep) {
  if (nodes_.size() + outputs.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    fail<TapeError>(op.name(), "the tape is full: it holds at most 2^31 - 1 values");
  Var* stored = inputs_.extend(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Var& in = inputs[i];
    if (keep.inputs || (in.node() < 0 && keep.constants)) {
      stored[i] = in;
    } else {
      // What the producing node keeps costs nothing more; a constant is cut down to its shape.
      stored[i] = in.node() >= 0 ? Var((*this)[in.node()].output, in.tape(), in.node(), in.op())
                                 : Var(Tensor::placeholder(in.shape(), in.dtype()));
    }
  }

  const std::int32_t first = size();
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    Tensor kept = keep.outputs ? outputs[k] : Tensor::placeholder(outputs[k].shape(), outputs[k].dtype());
    if (k == 0)
      nodes_.push_back(
          {&op, attrs, {stored, inputs.size()}, std::move(kept), static_cast<std::int32_t>(outputs.size())});
    else
      nodes_.push_back({nullptr, {}, {}, std::move(kept), 0});
  }
  return first;
}

}  // namespace banach
