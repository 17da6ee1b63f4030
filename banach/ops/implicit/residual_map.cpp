#include <banach/engine/program/program.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/implicit/replay.hpp>
#include <banach/ops/implicit/residual_map.hpp>

#include <array>

namespace banach {

ResidualMap::ResidualMap(std::string_view name, FunctionRef<Var(const Var&)> g, const Var& x)
    : rows_(state_rows(x.shape(), Batch::axis0)) {
  const auto checked = [&](const Var& at) {
    Var value = g(at);
    check_body(name, x, value);
    return value;
  };
  if (recording()) {
    Var state = alias(x);  // partial derivatives stop here
    if (!state.recorded()) state = leaf(x.value());
    Tape& tape = *Tape::current();
    value_ = tape.place(checked(state), name, 0);
    graph_ = &tape.graph();
    state_ = state.node();
    output_ = value_.node();
  } else {
    own_ = trace([&](const Vars& at) { return Vars{checked(at.front())}; }, {&x.value(), 1});
    value_ = own_->results.front();
    graph_ = &own_->graph;
    state_ = own_->inputs.front();
    output_ = own_->outputs.front();
  }
}

ResidualMap::~ResidualMap() = default;

Var ResidualMap::swept(const Var& u) const {
  const Var result = sweep(*graph_, {&output_, 1}, {&u, 1}, {&state_, 1}, recording()).front();
  return result.defined() ? result : zeros_like(u);
}

Tensor ResidualMap::run(std::unique_ptr<const program::Program>& program,
                        FunctionRef<Var(const Var&)> product, const Tensor& at) const {
  if (!program)
    program = std::make_unique<const program::Program>(program::outline(product, at).code, rows_[0],
                                                       solver_row_bytes(rows_, dtype()));
  return program->run(at);
}

Var ResidualMap::pull(const Var& u) const {
  ++products_;
  if (recording() && !own_) return swept(u);
  return Var(run(
      pull_, [&](const Var& at) { return swept(at); }, u.value()));
}

Tensor ResidualMap::push(const Tensor& v) const {
  ++products_;
  // J^T u is linear in u: its derivative there is J, wherever u stands.
  const auto product = [&](const Var& at) {
    return vjp([&](const Vars& u) { return Vars{swept(u.front())}; }, {zeros_like(value_)}, {at})
        .cotangents.front();
  };
  return run(push_, product, v);
}

}  // namespace banach
