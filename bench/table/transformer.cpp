#include <bench/table/deq.hpp>
#include <bench/table/transformer.hpp>

#include <memory>
#include <string>

namespace bench {

using namespace banach;
using transformer::batch, transformer::d, transformer::heads, transformer::hidden, transformer::length;
using transformer::Cell, transformer::Layer, transformer::Parameters;

namespace {

constexpr int solver_steps = 12;

Layer constant_layer() {
  return Layer(Parameters(), [](const Tensor& t) { return Var(t); });
}

using Gemms = std::vector<Gemm>;

Gemms operator+(Gemms a, const Gemms& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
Gemms operator*(std::int64_t times, Gemms a) {
  for (Gemm& gemm : a) gemm.times *= times;
  return a;
}

constexpr std::int64_t rows = batch * length, inner = d / heads;
constexpr Gemm by_keys{length, length, inner, batch* heads};    // scores, of content or of distance
constexpr Gemm by_values{length, inner, length, batch* heads};  // what they weigh

/// Products of one evaluation; of its vjp in z, where attention has twice as many; and of that in the
/// weights.
const Gemms linear{{rows, d, d, 4}, {rows, hidden, d}, {rows, d, hidden}};
const Gemms forward = linear + Gemms{by_keys, by_values};
const Gemms vjp = linear + 2 * Gemms{by_keys, by_values};
/// Besides the solvers' evaluations, f is recorded once, and lambda pulled back to z and to the weights.
const Gemms exact_step = (solver_steps + 1) * (forward + vjp) + linear;

Work step() {
  const auto parameters = std::make_shared<Parameters>();
  const auto counts = std::make_shared<Counts>();
  // No residual is small enough: all steps are done.
  const FixedPointOptions options = exact(Anderson{.memory = 6}, {1e-12, 1e-12, solver_steps});
  return {.run =
              [=] {
                const Tape tape;
                const Layer layer(*parameters, [](const Tensor& t) { return leaf(t); });
                const FixedPoint solved =
                    fixed_point([&](const Var& z) { return layer(z); }, zeros_like(layer.x), options);
                grad(sum(square(solved.z)), layer.all());
                *counts = {solved.report.nstep, solved.adjoint.last().evaluations};
              },
          .counts = [=] { return *counts; }};
}

Work one_forward() {
  return {.run = [layer = constant_layer()] { layer(layer.x); }};
}

Work one_vjp() {
  struct Recorded {
    Layer layer = constant_layer();
    Tape tape;
    Var z = leaf(layer.x.value()), y = layer(z), cotangent = ones_like(y);
  };
  const auto recorded = std::make_shared<Recorded>();
  return {.run = [=] { grad(recorded->y, {recorded->z}, {.cotangent = recorded->cotangent}); }};
}

/// In a solve, where the layer is replayed.
Work one_replayed() {
  const auto solve = [layer = constant_layer()](int steps) {
    fixed_point([&](const Var& z) { return layer(z); }, zeros_like(layer.x),
                {.solver = Picard{}, .tolerance = 0.0, .max_steps = steps, .body = Body::replayed});
  };
  return {.run = [=] { solve(12); }, .less = [=] { solve(4); }, .per = 8};
}

// ---- nn::TransformerCell by each rule, and as an explicit network -----------------------------------------

/// The gradient of all weights and of the input.
Counts gradient(const Cell& cell, const nn::Depth& depth) {
  const Tape tape;
  const Var at = leaf(cell.x);
  const ImplicitSolution found = nn::run(cell.cell.bind(at, cell.memory), cell.cell.start(at), depth);
  Vars wanted{at};
  for (const nn::NamedParameter& p : cell.parameters) wanted.push_back(p.parameter->var());
  grad(sum(square(found.z)), wanted);
  return {found.report.nstep, found.adjoint.run() ? found.adjoint.last().evaluations : 0};
}

/// Products of the cell: of what is done once, of one evaluation, of its vjp in z, and of that in the
/// weights.
struct CellProducts {
  Gemms once, forward, vjp, weights;

  explicit CellProducts(std::int64_t before) {
    const std::int64_t keys = length + before, items = batch * heads;
    const Gemm scores{length, keys, inner, items}, weighed{length, inner, keys, items};
    once = {{rows, 3 * d, d}, {keys, d, d}, {3 * d, d, rows}, {rows, d, 3 * d}, {d, d, keys}};
    if (before > 0)
      once = once + 4 * Gemms{{batch * before, d, d}};  // its keys and values, and their injection
    forward = linear + Gemms{scores, scores, weighed};
    // Of values, weights, keys (from both sides) and distances.
    vjp = linear + Gemms{scores, weighed, weighed, scores, scores};
    weights = linear + Gemms{scores};
  }
  /// Those of a step: so many evaluations, vjps in z, and in the weights.
  Gemms operator()(std::int64_t f, std::int64_t pulled, std::int64_t to_weights) const {
    return once + f * forward + pulled * vjp + to_weights * weights;
  }
};

Make cell_step(std::int64_t before, const nn::Depth& depth) {
  return [=] {
    const auto cell = std::make_shared<const Cell>(before);
    const auto counts = std::make_shared<Counts>();
    return Work{.run = [=] { *counts = gradient(*cell, depth); }, .counts = [=] { return *counts; }};
  };
}

Section cell_section() {
  Section section{"Transformer cell with relative positions: the same sizes, Anderson(5), 12 steps", {}};
  const auto add = [&](const std::string& name, std::int64_t before, const nn::Depth& depth,
                       const Gemms& products) {
    section.lines.push_back({.name = name,
                             .ours = cell_step(before, depth),
                             .floor = gemm_floor(products),
                             .goal = {Goal::floor, 1.25}});
  };
  const FixedPointOptions options = exact(Anderson{.memory = 5}, {1e-12, 1e-12, solver_steps});
  const auto by = [&](const BackwardRule& rule) {
    FixedPointOptions changed = options;
    changed.backward = rule;
    return changed;
  };
  const CellProducts alone(0), remembering(length);
  constexpr std::int64_t n = solver_steps, steps = 5;
  add("cell, exact, 12 + 12", 0, options, alone(n + 1, n + 1, 1));
  add("cell, JacobianFree", 0, by(JacobianFree{}), alone(n + 1, 1, 1));
  add("cell, Phantom(5)", 0, by(Phantom{.steps = steps}), alone(n + steps, steps, steps));
  const FixedPointOptions series = by(Phantom{.steps = steps, .form = Phantom::Form::neumann});
  add("cell, Phantom(5), Neumann form", 0, series, alone(n + 1, steps, 1));
  add("the same with 64 positions of memory", length, series, remembering(n + 1, steps, 1));
  for (const std::int64_t layers : {12, 24, 48})
    add(layers == 12   ? "cell, 12 layers"
        : layers == 24 ? "cell, 24 layers"
                       : "cell, 48 layers",
        0, WeightTied{.layers = static_cast<int>(layers)}, alone(layers, layers, layers));
  add("cell, 48 layers, checkpoints every 7", 0, WeightTied{.layers = 48, .checkpoint_every = 7},
      alone(2 * 48, 48, 48));
  return section;
}

}  // namespace

std::vector<Section> transformer_sections() {
  return {
      {"Equilibrium transformer: batch 16, sequence 64, d 128, 4 heads, feed-forward 256, causal, f32",
       {{.name = "transformer, Anderson(6), 12 + 12, exact",
         .ours = step,
         .floor = gemm_floor(exact_step),
         .goal = {Goal::floor, 1.25}},
        {.name = "transformer, one layer", .ours = one_forward, .floor = gemm_floor(forward)},
        {.name = "transformer, one layer within a solve", .ours = one_replayed, .floor = gemm_floor(forward)},
        {.name = "transformer, vjp of one layer", .ours = one_vjp, .floor = gemm_floor(vjp)}}},
      cell_section()};
}

}  // namespace bench
