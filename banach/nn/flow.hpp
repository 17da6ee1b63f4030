#pragma once
// Invertible maps that know by how much they change volumes, and chains of them. A density follows by the
// change of variables: log p(x) = log p(y) + log |det dy/dx|, each sample for itself.

#include <banach/nn/module.hpp>

#include <concepts>
#include <memory>
#include <vector>

namespace banach::nn {

/// y = f(x) and log |det df/dx| of each sample, (batch).
struct Transformed {
  Var y, log_det;
};

/// A flow is a module that takes samples along axis 0, none of which sees another, and has
/// - forward(x): y and the log-determinants, both differentiable;
/// - inverse(y): the x with forward(x).y = y, as accurately as rounding (or the solver of the map) allows.
template <class F>
concept InvertibleMap = Module<F> && requires(const F& flow, const Var& x) {
  { flow.forward(x) } -> std::convertible_to<Transformed>;
  { flow.inverse(x) } -> std::convertible_to<Var>;
};

/// A flow chosen at run time: models are built of maps of different kinds.
class AnyFlow {
 public:
  template <InvertibleMap F>
  requires(!std::same_as<F, AnyFlow>)
      AnyFlow(F flow)  // NOLINT: implicit, so that flows can be listed as they are
      : flow_(std::make_unique<Model<F>>(std::move(flow))) {}

  Transformed forward(const Var& x) const { return flow_->forward(x); }
  Var inverse(const Var& y) const { return flow_->inverse(y); }
  void visit(Visitor& visitor) { flow_->visit(visitor); }

 private:
  struct Concept {
    virtual ~Concept() = default;
    virtual Transformed forward(const Var& x) const = 0;
    virtual Var inverse(const Var& y) const = 0;
    virtual void visit(Visitor& visitor) = 0;
  };
  template <class F>
  struct Model final : Concept {
    explicit Model(F f) : flow(std::move(f)) {}
    Transformed forward(const Var& x) const override { return flow.forward(x); }
    Var inverse(const Var& y) const override { return flow.inverse(y); }
    void visit(Visitor& visitor) override { flow.visit(visitor); }
    F flow;
  };
  std::unique_ptr<Concept> flow_;
};

/// Flows one after another; their log-determinants add up. Without any it is the identity.
struct FlowSequence {
  std::vector<AnyFlow> flows;

  /// Appends a flow, and is the sequence again: `FlowSequence().then(ActNorm(3)).then(Squeeze())`.
  FlowSequence& then(AnyFlow flow) & {
    flows.push_back(std::move(flow));
    return *this;
  }
  FlowSequence&& then(AnyFlow flow) && { return std::move(then(std::move(flow))); }

  /// Throws ShapeError unless x has an axis of samples.
  Transformed forward(const Var& x) const;
  Var inverse(const Var& y) const;
  void visit(Visitor& visitor) { visitor("flows", flows); }
};

/// The same log-determinant for each sample of x: (batch). Throws ShapeError naming `name` for a scalar x.
Var constant_log_det(std::string_view name, const Var& x, double value);
/// The sum of each sample's entries: (batch, ...) -> (batch).
Var sum_of_samples(const Var& x);

}  // namespace banach::nn
