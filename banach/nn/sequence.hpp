#pragma once
// What sequence models have in common. All tensors are (batch, length, width). A cell makes the map f of
// which a model takes the fixed point, or which it applies a number of times; cells know nothing of how they
// are run.

#include <banach/nn/module.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/weight_tied.hpp>

#include <concepts>
#include <functional>
#include <memory>
#include <variant>

namespace banach::nn {

using banach::WeightTied;

/// What a cell sees of the positions before this segment, as constants: states and inputs, (batch, m, width
/// of the state) and (batch, m, width of the input). Undefined tensors: nothing came before.
struct SegmentMemory {
  Tensor z, x;
};

/// The newest `count` positions of `before` (undefined: none) and then `now`; fewer if there are fewer,
/// undefined if there are none. Both (batch, length, width).
Tensor last_positions(const Tensor& before, const Tensor& now, std::int64_t count);

/// The same of states and inputs. Throws ShapeError unless z and x, and those of `old`, are (batch, length,
/// width) with one length for both, and one batch for all.
SegmentMemory remember(const SegmentMemory& old, const Tensor& z, const Tensor& x, std::int64_t count);

/// Throws ShapeError, in the name of a cell (or layer), unless x is (batch, length, width) with at least one
/// position. A batch of none is fine.
void check_sequence(std::string_view cell, const Var& x, std::int64_t width);

/// Throws DTypeError, in the cell's name, unless x and the memory have the dtype of its parameters.
void check_dtype(std::string_view cell, const Var& parameter, const Var& x, const SegmentMemory& memory);

/// The map z -> f(z), of one shape.
using SequenceBody = std::function<Var(const Var& z)>;

/// A cell is a module that makes bodies:
/// - bind(x, memory): f for this input. What does not depend on z (the injection of x, keys and values of the
///   memory, dropout masks, normalised weights) is computed here, once.
/// - start(x): z0.
/// - output(z): (batch, length, d_model), what a head reads.
/// - remember(old, z, x): the memory of the next segment, from that of this one and what was found. An
///   explicit network has one memory too, the states of its last layer, which all its layers see.
template <class C>
concept SequenceCell = Module<C> &&
    requires(const C& cell, const Var& x, const SegmentMemory& memory, const Tensor& values) {
  { cell.bind(x, memory) } -> std::convertible_to<SequenceBody>;
  { cell.start(x) } -> std::convertible_to<Var>;
  { cell.output(x) } -> std::convertible_to<Var>;
  { cell.remember(memory, values, values) } -> std::convertible_to<SegmentMemory>;
};

/// A cell chosen at run time.
class AnyCell {
 public:
  template <SequenceCell C>
  requires(!std::same_as<C, AnyCell>)
      AnyCell(C cell)  // NOLINT: implicit, so that cells can be returned as one
      : cell_(std::make_unique<Model<C>>(std::move(cell))) {}

  SequenceBody bind(const Var& x, const SegmentMemory& memory) const { return cell_->bind(x, memory); }
  Var start(const Var& x) const { return cell_->start(x); }
  Var output(const Var& z) const { return cell_->output(z); }
  SegmentMemory remember(const SegmentMemory& old, const Tensor& z, const Tensor& x) const {
    return cell_->remember(old, z, x);
  }
  void visit(Visitor& visitor) { cell_->visit(visitor); }

 private:
  struct Concept {
    virtual ~Concept() = default;
    virtual SequenceBody bind(const Var& x, const SegmentMemory& memory) const = 0;
    virtual Var start(const Var& x) const = 0;
    virtual Var output(const Var& z) const = 0;
    virtual SegmentMemory remember(const SegmentMemory& old, const Tensor& z, const Tensor& x) const = 0;
    virtual void visit(Visitor& visitor) = 0;
  };
  template <class C>
  struct Model final : Concept {
    explicit Model(C c) : cell(std::move(c)) {}
    SequenceBody bind(const Var& x, const SegmentMemory& memory) const override {
      return cell.bind(x, memory);
    }
    Var start(const Var& x) const override { return cell.start(x); }
    Var output(const Var& z) const override { return cell.output(z); }
    SegmentMemory remember(const SegmentMemory& old, const Tensor& z, const Tensor& x) const override {
      return cell.remember(old, z, x);
    }
    void visit(Visitor& visitor) override { cell.visit(visitor); }
    C cell;
  };
  std::unique_ptr<Concept> cell_;
};

/// How deep a cell is run: to its equilibrium, or as so many layers that share their weights.
using Depth = std::variant<FixedPointOptions, WeightTied>;

/// fixed_point or weight_tied.
ImplicitSolution run(const SequenceBody& f, const Var& z0, const Depth& depth);

}  // namespace banach::nn
