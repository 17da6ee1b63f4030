#include <banach/engine/grad.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/engine/simd.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>

namespace banach {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity(),
                 nan = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t grain = 1 << 15;  // elements a chunk of elementwise work

void add_into(const Tensor& a, const Tensor& b, Tensor& out) {
  dispatch_floating(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *pa = a.data<T>(), *pb = b.data<T>();
    T* po = out.mutable_data<T>();
    parallel_for(a.size(), grain, [&](std::int64_t begin, std::int64_t end) {
      simd::kernels<T>().add.vv(pa + begin, pb + begin, po + begin, end - begin);
    });
  });
}

Spec equal_shapes(const ShapeContext& c) {
  const DType dtype = common_floating(c);
  if (!(c.shape(0) == c.shape(1)))
    fail<ShapeError>(c.op,
                     "shapes must be equal: " + c.shape(0).to_string() + " with " + c.shape(1).to_string());
  return {c.shape(), dtype};
}

const Op alias_op{{
    .name = "alias",
    .doc = "The identity, as a node of its own.",
    .shape = same_shape,
    .kernel = [](const KernelContext& c) { c.out() = c.in(); },
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent}; },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({3, 4})}}, {{g.normal({0})}}, {{g.normal({})}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::arange(3)}, {}, "expects f32 or f64"}};
        },
    .view = true,
    .edges =
        [] {
          return edge_points({{nan, nan, 1.0}, {inf, inf, 1.0}, {-0.0, -0.0, 1.0}});
        },
    .rows = first_by_rows,
}};

const Op accumulate_op{{
    .name = "accumulate",
    .doc = "Sum of two cotangents of one value.",
    .shape = equal_shapes,
    .kernel = [](const KernelContext& c) { add_into(c.in(0), c.in(1), c.out()); },
    .kind = OpKind::elementwise,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          return Vars{c.cotangent, c.cotangent};
        },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({3, 4}), g.normal({3, 4})}},
                         {{g.normal({0}), g.normal({0})}},
                         {{g.normal({}), g.normal({})}}};
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({2}), Tensor::zeros({1})}, {}, "shapes must be equal: (2) with (1)"}};
        },
    .edges =
        [] {
          return Edges{edge_pairs({{nan, 1.0, nan, 1.0, 1.0},
                                   {inf, -inf, nan, 1.0, 1.0},
                                   {-0.0, -0.0, -0.0, 1.0, 1.0},
                                   {-0.0, 0.0, 0.0, 1.0, 1.0}})
                           .front(),
                       {{numbers({}), numbers({})}, {}, {numbers({})}, {numbers({}), numbers({})}}};
        },
}};

// Adds to a cotangent, in place where nobody else can see it.
void accumulate(Var& sum, Var&& term) {
  if (!sum.defined()) {
    sum = std::move(term);
  } else if (!recording() && sum.value().unique()) {
    Tensor buffer = std::move(sum).release();
    add_into(buffer, term.value(), buffer);
    sum = Var(std::move(buffer));
  } else {
    sum = add_cotangents(sum, term);
  }
}

[[noreturn, gnu::noinline]] void refuse_cotangent(const Op& op, std::size_t i, const Var& input,
                                                  const Var& cotangent) {
  fail<ShapeError>(op.name(), fmt::format("its vjp must return a cotangent like input {}: {}{} for {}{}", i,
                                          name(cotangent.dtype()), cotangent.shape().to_string(),
                                          name(input.dtype()), input.shape().to_string()));
}

void detach_all(std::span<Var> values) {
  for (Var& value : values) value = value.detach();
}

// One reverse sweep: which nodes matter, then their vjps in falling index order.
class Sweep {
 public:
  Sweep(const Graph& graph, std::int32_t low, std::int32_t high)
      : graph_(graph),
        low_(low),
        needed_(static_cast<std::size_t>(high - low + 1)),
        cotangents_(needed_.size()) {}

  void want(std::int32_t node) { needed_[at(node)] = 2; }
  void seed(std::int32_t node, Var cotangent) {
    if (node >= low_) accumulate(cotangents_[at(node)], std::move(cotangent));
  }
  const Var& cotangent(std::int32_t node) const { return cotangents_[at(node)]; }

  // A node is needed if a wanted one is among its ancestors.
  void mark() {
    for (std::int32_t i = low_; i < end(); ++i) {
      const Node& node = graph_[i];
      if (!node.op || !node.op->def().vjp) continue;
      const bool reaches = std::any_of(node.inputs.begin(), node.inputs.end(), [&](const Var& in) {
        return in.node() >= low_ && needed_[at(in.node())];
      });
      if (!reaches) continue;
      for (std::int32_t k = 0; k < node.outputs && i + k < end(); ++k) needed_[at(i + k)] |= 1;
    }
  }

  void run() {
    for (std::int32_t i = end() - 1; i >= low_; --i)
      if (needed_[at(i)] & 1)
        if (const Node& node = graph_[i]; node.op) visit(i, node);
  }

 private:
  std::size_t at(std::int32_t node) const { return static_cast<std::size_t>(node - low_); }
  std::int32_t end() const { return low_ + static_cast<std::int32_t>(needed_.size()); }

  void visit(std::int32_t i, const Node& node) {
    const auto count = static_cast<std::size_t>(node.outputs);
    // Outputs of one node lie side by side, and so do their cotangents.
    std::span<Var> incoming(&cotangents_[at(i)], std::min(count, static_cast<std::size_t>(end() - i)));
    bool any = false, asked = false;
    for (std::size_t k = 0; k < incoming.size(); ++k) {
      any = any || incoming[k].defined();
      asked = asked || (needed_[at(i) + k] & 2) != 0;
    }
    if (!any) return;
    // A cotangent that nobody asked for is given up at its only use.
    Vars copies;
    if (asked || incoming.size() < count) {
      copies = Vars(incoming.begin(), incoming.end());
      copies.resize(count);
      for (std::size_t k = 0; k < incoming.size(); ++k)
        if (!(needed_[at(i) + k] & 2)) incoming[k] = Var();
      incoming = copies;
    }

    std::uint64_t needed = 0;
    for (std::size_t k = 0; k < node.inputs.size() && k < 63; ++k)
      if (wanted(node.inputs[k])) needed |= std::uint64_t{1} << k;
    Vars results = pull(node, i, incoming, needed);
    if (results.size() > node.inputs.size())
      fail<ValueError>(node.op->name(), "its vjp must return at most one cotangent an input");
    for (Var& cotangent : incoming) cotangent = Var();
    for (std::size_t k = 0; k < results.size(); ++k) {
      const Var& input = node.inputs[k];
      if (!wanted(input) || !results[k].defined()) continue;
      if (!(results[k].shape() == input.shape()) || results[k].dtype() != input.dtype())
        refuse_cotangent(*node.op, k, input, results[k]);
      accumulate(cotangents_[at(input.node())], std::move(results[k]));
    }
  }

  Vars pull(const Node& node, std::int32_t i, std::span<Var> incoming, std::uint64_t needed) const {
    const auto count = static_cast<std::size_t>(node.outputs);
    const auto vjp = [&](std::span<const Var> inputs, std::span<const Var> outputs) {
      return node.op->def().vjp({inputs, outputs, incoming, needed, node.attrs, outputs[0], incoming[0]});
    };
    // An implicit node's vjp records on tapes of its own, where the nodes of this graph mean nothing unless
    // it is live.
    const bool constant =
        node.op->def().kind == OpKind::implicit && (!recording() || !Tape::find(graph_.serial()));
    if (!constant && count <= Borrowed::capacity) {
      Borrowed outputs;
      for (std::size_t k = 0; k < count; ++k) {
        const std::int32_t id = i + static_cast<std::int32_t>(k);
        outputs.push_back(graph_[id].output, graph_.serial(), id, node.op);
      }
      return vjp(node.inputs, outputs);
    }
    Vars inputs(node.inputs.begin(), node.inputs.end()), outputs;
    for (std::size_t k = 0; k < count; ++k) outputs.push_back(graph_.var(i + static_cast<std::int32_t>(k)));
    if (constant) {
      detach_all(inputs);
      detach_all(outputs);
    }
    return vjp(inputs, outputs);
  }

  bool wanted(const Var& input) const { return input.node() >= low_ && needed_[at(input.node())]; }

  const Graph& graph_;
  std::int32_t low_;
  PoolVector<std::uint8_t> needed_;  // bit 0: on the way to a wanted node; bit 1: wanted
  Vars cotangents_;
};

Tape& live_tape(const Var& x, std::string_view what) {
  if (!x.recorded())
    fail<TapeError>(
        "grad", fmt::format("{} must be on a tape: it is a constant (was it computed while a Tape was alive, "
                            "outside NoGrad, from a leaf or a Parameter?)",
                            what));
  Tape* tape = Tape::find(x.tape());
  if (!tape) {
    const char* why =
        Tape::on_other_thread(x.tape()) ? "its tape is used by another thread" : "its tape has closed";
    fail<TapeError>("grad",
                    fmt::format("{}, {}, must be on a live tape of this thread: {}", what,
                                x.op() ? fmt::format("the result of {}", x.op()->name()) : "a leaf", why));
  }
  return *tape;
}

void check_like(std::string_view op, std::string_view what, const Vars& given, const Vars& like) {
  if (given.size() != like.size())
    fail<ShapeError>(op, fmt::format("expects one {} each: {} for {}", what, given.size(), like.size()));
  for (std::size_t i = 0; i < given.size(); ++i)
    if (!(given[i].shape() == like[i].shape()) || given[i].dtype() != like[i].dtype())
      fail<ShapeError>(
          op, fmt::format("{} {} must be {}{}: got {}{}", what, i, name(like[i].dtype()),
                          like[i].shape().to_string(), name(given[i].dtype()), given[i].shape().to_string()));
}

Vars zeros_where_undefined(Vars values, const Vars& like) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!values[i].defined()) values[i] = Var(Tensor::zeros(like[i].shape(), like[i].dtype()));
  return values;
}

PoolVector<std::int32_t> nodes_of(const Vars& values) {
  PoolVector<std::int32_t> nodes;
  for (const Var& value : values) nodes.push_back(value.node());
  return nodes;
}

Vars partials(Tape& tape, const Vars& inputs) {
  Vars result;
  for (const Var& x : inputs) {
    const Var own = tape.place(x, "alias", 0);
    result.push_back(own.recorded() ? alias(own) : tape.leaf(x.value()));
  }
  return result;
}

Vars on_tape(Tape& tape, const Vars& values) {
  Vars placed;
  for (const Var& value : values) placed.push_back(tape.place(value, "vjp", 0));
  return placed;
}

}  // namespace

Var alias(const Var& x) { return apply(alias_op, {x}); }

Var add_cotangents(const Var& a, const Var& b) { return apply(accumulate_op, {a, b}); }

Vars sweep(const Graph& graph, std::span<const std::int32_t> outputs, std::span<const Var> cotangents,
           std::span<const std::int32_t> wrt, bool create_graph) {
  std::optional<NoGrad> off;
  if (!create_graph) off.emplace();
  Vars results(wrt.size());
  if (wrt.empty() || outputs.empty()) return results;
  const std::int32_t low = *std::min_element(wrt.begin(), wrt.end());
  const std::int32_t high =
      std::max(*std::max_element(outputs.begin(), outputs.end()), *std::max_element(wrt.begin(), wrt.end()));
  Sweep run(graph, low, high);
  for (const std::int32_t node : wrt) run.want(node);
  run.mark();
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i] >= 0 && cotangents[i].defined())
      run.seed(outputs[i], create_graph ? cotangents[i] : cotangents[i].detach());
  run.run();
  for (std::size_t i = 0; i < wrt.size(); ++i) results[i] = run.cotangent(wrt[i]);
  if (!create_graph)
    for (Var& result : results)
      if (result.defined()) result = result.detach();
  return results;
}

Vars grad(const Var& output, std::span<const Var> wrt, const GradOptions& options) {
  Tape& tape = live_tape(output, "the output");
  if (options.create_graph && recording() && &tape != Tape::current())
    fail<TapeError>("grad",
                    "with create_graph the output must be on the innermost tape: it is on an outer one");
  Var cotangent = options.cotangent;
  if (cotangent.defined()) {
    check_like("grad", "cotangent", {cotangent}, {output});
  } else {
    if (output.size() != 1)
      fail<ShapeError>("grad",
                       "the output must have one element, or a cotangent must be given: it has shape " +
                           output.shape().to_string());
    cotangent = Var(Tensor::ones(output.shape(), output.dtype()));
  }
  Vars placed;
  for (std::size_t i = 0; i < wrt.size(); ++i) {
    live_tape(wrt[i], fmt::format("wrt[{}]", i));
    if (wrt[i].tape() != tape.serial() && !tape.may_capture_from(wrt[i].tape()))
      fail<TapeError>("grad", fmt::format("the output and wrt[{}] must be on the same tape", i));
    placed.push_back(tape.place(wrt[i], "grad", static_cast<int>(i)));
  }
  const std::array<std::int32_t, 1> outputs{output.node()};
  const std::array<Var, 1> cotangents{cotangent};
  return zeros_where_undefined(
      sweep(tape.graph(), outputs, cotangents, nodes_of(placed), options.create_graph && recording()),
      placed);
}

Differential::Differential(std::string_view name, Function f, const Vars& inputs)
    : name_(name), keep_(recording()) {
  if (!keep_) {
    enabled_.emplace();
    own_.emplace(Tape::Captures{});
  }
  tape_ = Tape::current();
  at_ = partials(*tape_, inputs);
  values_ = on_tape(*tape_, f(at_));
}

Vars Differential::outputs() const {
  Vars result = values_;
  if (!keep_) detach_all(result);
  return result;
}

Vars Differential::pull(const Vars& cotangents) const {
  check_like(name_, "cotangent", cotangents, values_);
  return zeros_where_undefined(
      sweep(tape_->graph(), nodes_of(values_), on_tape(*tape_, cotangents), nodes_of(at_), keep_), at_);
}

Vars Differential::push(const Vars& tangents) {
  check_like(name_, "tangent", tangents, at_);
  if (dummies_.empty()) {  // u^T J is linear in u: its derivative with respect to u is J, wherever u stands
    for (const Var& value : values_)
      dummies_.push_back(tape_->leaf(Tensor::zeros(value.shape(), value.dtype())));
    pulled_ = sweep(tape_->graph(), nodes_of(values_), dummies_, nodes_of(at_), true);
  }
  PoolVector<std::int32_t> nodes;
  Vars seeds;
  for (std::size_t i = 0; i < pulled_.size(); ++i)
    if (pulled_[i].defined() && pulled_[i].recorded()) {
      nodes.push_back(pulled_[i].node());
      seeds.push_back(tape_->place(tangents[i], name_, static_cast<int>(i)));
    }
  Vars pushed =
      nodes.empty() ? Vars(dummies_.size()) : sweep(tape_->graph(), nodes, seeds, nodes_of(dummies_), keep_);
  return zeros_where_undefined(std::move(pushed), values_);
}

VjpResult vjp(Function f, const Vars& inputs, const Vars& cotangents) {
  const Differential at("vjp", f, inputs);
  return {at.outputs(), at.pull(cotangents)};
}

JvpResult jvp(Function f, const Vars& inputs, const Vars& tangents) {
  check_like("jvp", "tangent", tangents, inputs);
  Differential at("jvp", f, inputs);
  return {at.outputs(), at.push(tangents)};
}

}  // namespace banach
