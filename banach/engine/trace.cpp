#include <banach/engine/trace.hpp>

namespace banach {

Trace trace(Function f, std::span<const Tensor> at) {
  const EnableGrad enabled;
  Tape child{Tape::Captures{}};
  Vars leaves;
  for (const Tensor& value : at) leaves.push_back(child.leaf(value));
  Trace result;
  for (const Var& output : f(leaves)) {
    const Var placed = child.place(output, "trace", 0);
    result.outputs.push_back(placed.node());
    result.results.push_back(placed.detach());
  }
  for (const Var& input : leaves) result.inputs.push_back(input.node());
  result.captures = child.captured_leaves();
  result.captured = child.captured();
  result.graph = child.release_graph();
  return result;
}

Vars Trace::pull_back(std::span<const Var> cotangents, std::span<const std::int32_t> wrt) const {
  return sweep(graph, outputs, cotangents, wrt, false);
}

Vars Trace::replay(std::span<const Var> at, std::span<const Var> captured_values) const {
  if (at.size() != inputs.size() || captured_values.size() != captures.size())
    fail<ValueError>("replay", "expects one value for each input and each captured variable");
  Vars values(static_cast<std::size_t>(graph.size()));
  const auto slot = [&](std::int32_t node) -> Var& { return values[static_cast<std::size_t>(node)]; };
  for (std::size_t i = 0; i < at.size(); ++i) slot(inputs[i]) = at[i];
  for (std::size_t i = 0; i < captures.size(); ++i) slot(captures[i]) = captured_values[i];

  // A value is let go after its last use.
  PoolVector<std::int32_t> last_use(values.size(), -1);
  for (std::int32_t i = 0; i < graph.size(); ++i)
    for (const Var& in : graph[i].inputs)
      if (in.node() >= 0) last_use[static_cast<std::size_t>(in.node())] = i;
  for (const std::int32_t output : outputs)
    if (output >= 0) last_use[static_cast<std::size_t>(output)] = graph.size();

  Vars arguments;
  for (std::int32_t i = 0; i < graph.size(); ++i) {
    const Node& node = graph[i];
    if (!node.op) {
      if (node.outputs != 0 && !slot(i).defined())
        slot(i) = Var(node.output);  // a leaf made inside: a constant
      continue;
    }
    arguments.clear();
    for (const Var& in : node.inputs) arguments.push_back(in.node() >= 0 ? slot(in.node()) : in);
    if (node.outputs == 1) {
      slot(i) = apply(*node.op, arguments, node.attrs);
    } else {
      Vars all = apply_all(*node.op, arguments, node.attrs);
      for (std::int32_t k = 0; k < node.outputs; ++k)
        slot(i + k) = std::move(all[static_cast<std::size_t>(k)]);
    }
    for (std::int32_t k = i; k < i + node.outputs; ++k)
      if (last_use[static_cast<std::size_t>(k)] < 0) slot(k) = {};
    for (const Var& in : node.inputs)
      if (in.node() >= 0 && last_use[static_cast<std::size_t>(in.node())] == i) slot(in.node()) = {};
  }
  Vars outcome;
  for (std::size_t k = 0; k < outputs.size(); ++k)
    outcome.push_back(outputs[k] >= 0 ? slot(outputs[k]) : results[k]);
  return outcome;
}

}  // namespace banach
