#include <banach/engine/keep_values.hpp>
#include <banach/engine/program/code.hpp>
#include <banach/engine/tape.hpp>

#include <algorithm>

namespace banach::program {
namespace {

// Only another name and shape for the elements of its input.
bool is_alias(const Op& op) { return op.def().view && op.def().kind == OpKind::movement; }

class Lowering {
 public:
  explicit Lowering(const Tape& tape) : tape_(tape), graph_(tape.graph()) {
    slots_.assign(static_cast<std::size_t>(graph_.size()), -1);
  }

  Code lower(const Var& input, const Var& output) {
    code_.input = slots_[static_cast<std::size_t>(input.node())] = add(input.shape(), input.dtype(), {});
    mark_live(output);
    for (std::int32_t i = 0; i < graph_.size(); ++i)
      if (live_[static_cast<std::size_t>(i)] && graph_[i].op) append(i);
    code_.output = value_of(output);
    return std::move(code_);
  }

 private:
  std::int32_t add(const Shape& shape, DType dtype, Tensor constant) {
    const auto index = static_cast<std::int32_t>(code_.values.size());
    code_.values.push_back({shape, dtype, std::move(constant), index});
    return index;
  }

  // Marks the first entries of the nodes that vary and that the output depends on.
  void mark_live(const Var& output) {
    live_.assign(static_cast<std::size_t>(graph_.size()), 0);
    const auto mark = [&](const Var& x) {
      if (x.node() < 0 || !tape_.varies(x.node())) return;
      std::int32_t first = x.node();
      while (graph_[first].outputs == 0) --first;
      live_[static_cast<std::size_t>(first)] = 1;
    };
    mark(output);
    for (std::int32_t i = graph_.size() - 1; i >= 0; --i)
      if (live_[static_cast<std::size_t>(i)])
        std::for_each(graph_[i].inputs.begin(), graph_[i].inputs.end(), mark);
  }

  void append(std::int32_t first) {
    const Node& node = graph_[first];
    Instruction instruction{node.op, node.attrs, {}, {}};
    for (const Var& in : node.inputs) instruction.inputs.push_back(value_of(in));
    for (std::int32_t k = 0; k < node.outputs; ++k) {
      const Tensor& like = graph_[first + k].output;
      const std::int32_t value = add(like.shape(), like.dtype(), {});
      slots_[static_cast<std::size_t>(first + k)] = value;
      instruction.outputs.push_back(value);
    }
    if (is_alias(*node.op))
      code_.values.back().storage = code_.storage(instruction.inputs.front());
    else
      code_.instructions.push_back(std::move(instruction));
  }

  std::int32_t value_of(const Var& x) {
    if (x.node() < 0) return add(x.shape(), x.dtype(), x.value());
    std::int32_t& slot = slots_[static_cast<std::size_t>(x.node())];
    if (slot < 0) slot = add(x.shape(), x.dtype(), graph_[x.node()].output);
    return slot;
  }

  const Tape& tape_;
  const Graph& graph_;
  PoolVector<std::int32_t> slots_;  // of each node, its value
  PoolVector<char> live_;
  Code code_;
};

}  // namespace

static Recorded record_for(Tape::Purpose purpose, FunctionRef<Var(const Var&)> f, const Tensor& at) {
  const EnableGrad enabled;
  Tape tape{Tape::Captures{purpose}};
  const Var input = tape.input(at);
  const Var output = tape.place(f(input), "record", 0);
  return {Lowering(tape).lower(input, output), output.value()};
}

Recorded record(FunctionRef<Var(const Var&)> f, const Tensor& at) {
  try {
    return record_for(Tape::Purpose::replay, f, at);
  } catch (const ValueError&) {  // f differentiates: a vjp looked at a value that was not kept
    const KeepValues kept;
    return record_for(Tape::Purpose::replay, f, at);
  }
}

Recorded outline(FunctionRef<Var(const Var&)> f, const Tensor& at) {
  try {
    Recorded recorded = record_for(Tape::Purpose::outline, f, at);
    recorded.value = {};
    return recorded;
  } catch (const ValueError&) {  // an element was read that an outline does not have
    return record(f, at);
  }
}

}  // namespace banach::program
