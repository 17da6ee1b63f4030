#include <banach/engine/graph.hpp>

#include <algorithm>
#include <limits>
#include <memory>

namespace banach {
namespace {

constexpr std::uint32_t output_bit = std::uint32_t{1} << 31;
std::uint32_t input_bit(std::size_t k) { return std::uint32_t{1} << std::min<std::size_t>(k, 30); }

}  // namespace

Node::~Node() {
  if (!(owned & output_bit)) output.forget();
  for (std::size_t k = 0; (owned & ~output_bit) != 0 && k < inputs.size(); ++k)
    if (owned & input_bit(k)) std::destroy_at(&inputs[k]);
}

Var Graph::var(std::int32_t i) const {
  std::int32_t first = i;
  while ((*this)[first].outputs == 0) --first;
  return Var((*this)[i].output, serial_, i, (*this)[first].op);
}

std::int32_t Graph::add_leaf(Tensor value) {
  const std::int32_t index = size();
  nodes_.extend(1)->output = std::move(value);
  return index;
}

std::int32_t Graph::add(const Op& op, const Attrs& attrs, std::span<const Var> inputs,
                        std::span<const Tensor> outputs, const Keep& keep) {
  if (nodes_.size() + outputs.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    fail<TapeError>(op.name(), "the tape is full: it holds at most 2^31 - 1 values");
  const std::int32_t first = size();
  Node* node = nullptr;
  for (const Tensor& output : outputs) {
    Node& entry = *nodes_.extend(1);
    if (!node)
      node = &entry;
    else
      entry.outputs = 0;
    if (keep.outputs) {
      entry.output = output;
    } else {
      entry.owned = 0;
      std::construct_at(&entry.output, placeholder_like(output).uncounted());
    }
  }
  node->outputs = static_cast<std::int32_t>(outputs.size());
  node->op = &op;
  if (attrs) node->attrs = attrs;
  Input* stored = inputs_.extend(inputs.size());
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    store_input(*node, &stored[k].var, k, inputs[k], keep);
    node->inputs = {&stored->var, k + 1};
  }
  return first;
}

void Graph::store_input(Node& node, Var* at, std::size_t k, const Var& input, const Keep& keep) {
  const auto store = [&](const Tensor& value, bool own) {
    if (own || k >= 30) {
      std::construct_at(at, value, input.tape(), input.node(), input.op());
      node.owned |= input_bit(k);
    } else {
      std::construct_at(at, Var::Uncounted{}, value, input.tape(), input.node(), input.op());
    }
  };
  if (input.node() >= 0) {  // what the producing node keeps costs nothing more
    const Tensor& kept = (*this)[input.node()].output;
    const bool own = keep.inputs && !kept.is(input.value());
    store(own ? input.value() : kept, own);
  } else {
    const bool own = keep.inputs || keep.constants;
    store(own ? input.value() : placeholder_like(input.value()), own);
  }
}

const Tensor& Graph::placeholder_like(const Tensor& value) {
  if (placeholders_.empty() || placeholders_.back().dtype() != value.dtype() ||
      !(placeholders_.back().shape() == value.shape()))
    placeholders_.push_back(Tensor::placeholder(value.shape(), value.dtype()));
  return placeholders_.back();
}

}  // namespace banach
